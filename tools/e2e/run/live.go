package run

import (
	"fmt"
	"strings"

	"github.com/onsi/ginkgo/v2/types"

	"github.com/dind-cluster/dind-cluster/internal/progress"
	"github.com/dind-cluster/dind-cluster/tools/e2e/results"
)

// live writes lines while the specs run: one for each that fails or flakes, and one for each tenth
// that is done.
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

func (l *live) ended(report *types.SpecReport) {
	if report.LeafNodeType.Is(types.NodeTypesForSuiteLevelNodes) {
		if step, failed := results.FailedStep(report); failed {
			l.p.Printf("%s %s", strings.ToUpper(report.State.String()), describe(&step))
		}
		return
	}
	spec := results.Spec{Name: report.FullText()}
	spec.Fill(report)
	if spec.State == results.Unfinished {
		return
	}
	l.done++
	l.byState[spec.State]++
	switch spec.State {
	case results.Failed:
		l.p.Printf("FAILED %s", describe(&spec))
	case results.Flaked:
		l.p.Printf("FLAKED %s: attempt %d passed", spec.Name, spec.Attempts)
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

func describe(s *results.Spec) string {
	text := fmt.Sprintf("%s (%.1f s)", s.Name, s.Duration().Seconds())
	if len(s.Failures) > 0 && s.Failures[0].Message != "" {
		text += ": " + results.OneLine(s.Failures[0].Message)
	}
	return text
}
