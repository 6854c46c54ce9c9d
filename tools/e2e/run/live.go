package run

import (
	"fmt"
	"strings"

	"github.com/dind-cluster/dind-cluster/internal/progress"
	"github.com/dind-cluster/dind-cluster/tools/e2e/results"
)

// live writes lines while the specs run: one for each that fails or flakes, and one for each tenth that is done.
type live struct {
	p       *progress.Printer
	total   int
	done    int
	tenths  int
	byState map[results.State]int
}

func newLive(total int, p *progress.Printer) *live {
	return &live{p: p, total: total, byState: map[results.State]int{}}
}

func (l *live) event(e results.Event) {
	state := e.Result()
	if e.Setup {
		if !e.Echo() {
			l.p.Printf("%s %s", strings.ToUpper(e.State), describe(e))
		}
		return
	}
	if state == results.Unfinished {
		return
	}
	l.done++
	l.byState[state]++
	switch state {
	case results.Failed:
		l.p.Printf("FAILED %s", describe(e))
	case results.Flaked:
		l.p.Printf("FLAKED %s: attempt %d passed", e.Name, e.Attempts)
	}
	if tenths := l.done * 10 / max(1, l.total); tenths > l.tenths {
		l.tenths = tenths
		l.p.Printf("%3d %%: %d of %d done%s", tenths*10, l.done, l.total, l.counts())
	}
}

// counts are the numbers of specs that did not plainly pass.
func (l *live) counts() string {
	text := ""
	for _, s := range results.States {
		if n := l.byState[s]; n > 0 && s != results.Passed {
			text += fmt.Sprintf(", %d %s", n, s)
		}
	}
	return text
}

// maxMessage is how many bytes of a message fit into a line.
const maxMessage = 200

func describe(e results.Event) string {
	message := strings.Join(strings.Fields(results.Plain(e.Message)), " ")
	if len(message) > maxMessage {
		message = strings.ToValidUTF8(message[:maxMessage], "") + " …"
	}
	text := fmt.Sprintf("%s (%.1f s)", e.Name, e.Seconds)
	if message != "" {
		text += ": " + message
	}
	return text
}
