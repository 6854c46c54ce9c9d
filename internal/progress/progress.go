// Package progress prints what a program is doing: one line per finished step, with its duration,
// and one line for a step that has been running for a while, so that the terminal is not silent.
// Steps may run in parallel.
package progress

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// slow is when a step is announced before it has finished.
const slow = 2 * time.Second

// Printer writes the lines of one program. It is safe for use by several goroutines. The nil
// Printer prints nothing.
type Printer struct {
	mu     sync.Mutex
	w      io.Writer
	start  time.Time
	colour bool
}

// New returns a Printer that writes to w, in colour only if w is a terminal.
func New(w io.Writer) *Printer {
	return &Printer{w: w, start: time.Now(), colour: isTerminal(w)}
}

// Since makes the elapsed time in front of every line count from t, which may lie before the
// program's own start.
func (p *Printer) Since(t time.Time) *Printer {
	p.start = t
	return p
}

// Step is one piece of work that has started and not yet ended.
type Step struct {
	p     *Printer
	name  string
	start time.Time
	timer *time.Timer
	once  sync.Once
}

// Step starts a step. Call Done or Fail when it ends.
func (p *Printer) Step(format string, args ...any) *Step {
	s := &Step{p: p, name: fmt.Sprintf(format, args...), start: time.Now()}
	if p != nil {
		s.timer = time.AfterFunc(slow, func() { p.line(' ', s.name+" ...", -1) })
	}
	return s
}

// Done ends the step well. The detail, which may be empty, says what came out of it: a count, a
// size.
func (s *Step) Done(format string, args ...any) { s.end('+', format, args...) }

// Fail ends the step badly. The error itself is for the caller to report.
func (s *Step) Fail(format string, args ...any) { s.end('!', format, args...) }

func (s *Step) end(mark byte, format string, args ...any) {
	s.once.Do(func() {
		if s.p == nil {
			return
		}
		s.timer.Stop()
		text := s.name
		if detail := fmt.Sprintf(format, args...); detail != "" {
			text += ": " + detail
		}
		s.p.line(mark, text, time.Since(s.start))
	})
}

// Printf writes one line that is not a step.
func (p *Printer) Printf(format string, args ...any) {
	if p != nil {
		p.line(' ', fmt.Sprintf(format, args...), -1)
	}
}

// line writes "[elapsed] mark text (duration)". One Write per line, so that processes that share a
// log do not mix.
func (p *Printer) line(mark byte, text string, took time.Duration) {
	var b strings.Builder
	fmt.Fprintf(&b, "[%6.1fs] ", time.Since(p.start).Seconds())
	sign := string(mark)
	if p.colour {
		switch mark {
		case '+':
			sign = "\x1b[32m+\x1b[0m"
		case '!':
			sign = "\x1b[31m!\x1b[0m"
		}
	}
	b.WriteString(sign + " " + text)
	if took >= 0 {
		b.WriteString(" (" + Duration(took) + ")")
	}
	b.WriteByte('\n')
	p.mu.Lock()
	defer p.mu.Unlock()
	io.WriteString(p.w, b.String())
}

// Duration writes d as a person reads it: 4 ms, 1.25 s, 2m03s.
func Duration(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.2f s", d.Seconds())
	}
	return d.Round(time.Second).String()
}

// Size writes a number of bytes as a person reads it, in decimal units as Docker does.
func Size(n int64) string {
	f, units := float64(n), []string{"B", "kB", "MB", "GB", "TB"}
	for f >= 1000 && len(units) > 1 {
		f, units = f/1000, units[1:]
	}
	if f < 10 && units[0] != "B" {
		return fmt.Sprintf("%.1f %s", f, units[0])
	}
	return fmt.Sprintf("%.0f %s", f, units[0])
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
