// Package results reads and writes the directory that a run of e2e.test leaves: it reads what the
// run wrote there while it went on and when it ended, returns what came of every spec that was
// selected, and says it all in a summary.
package results

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// State is what came of a spec.
type State string

// The states. A spec has exactly one of them.
const (
	// Passed: at the first attempt.
	Passed State = "passed"
	// Flaked: passed, but only when it was tried again.
	Flaked State = "flaked"
	// Failed: in any of Ginkgo's ways, see Spec.Detail.
	Failed State = "failed"
	// Unfinished: was running when the run was stopped.
	Unfinished State = "not finished"
	// NotRun: was selected, and never started.
	NotRun State = "not run"
	// Skipped: left out, or started and then skipped itself, see Spec.Reason.
	Skipped State = "skipped"
)

// States are all states, the worst first.
var States = []State{Failed, Unfinished, NotRun, Flaked, Skipped, Passed}

// Titles explain the states, but for Passed, as headings.
var Titles = map[State]string{
	Failed:     "Failed",
	Unfinished: "Not finished when the run was stopped",
	Flaked:     "Flaked: passed only when tried again",
	Skipped:    "Skipped",
	NotRun:     "Not run",
}

// Spec is one spec, or a step of the whole suite such as SynchronizedBeforeSuite.
type Spec struct {
	// Name is the full name: what its containers and itself are called, joined by spaces.
	Name   string
	Labels []string
	// Serial specs run alone, after all others.
	Serial bool
	State  State
	// Detail is Ginkgo's word for a failure: failed, timedout, panicked, aborted.
	Detail string
	// Start and End are zero if it did not run.
	Start, End time.Time
	// Process is the number of the process that ran it, from 1; 0 if that is not known.
	Process int
	// Attempts is how often it ran.
	Attempts int
	// Failures are empty for a spec that passed. The first one decided.
	Failures []Failure
	// Reason is why it was left out or skipped itself.
	Reason string
	// Output is what it wrote, if that was recorded. Kept only for specs that did not plainly pass.
	Output string
}

// Failure is one failure of a spec.
type Failure struct {
	// Message is what the assertion said.
	Message string
	// Location is FILE:LINE in the tests' source.
	Location string
	// Node is the part of the spec that failed, such as It or BeforeEach; it may be empty.
	Node string
	// Stack is the stack trace; it may be empty.
	Stack string
}

// Duration is how long the spec ran, over all attempts.
func (s *Spec) Duration() time.Duration { return s.End.Sub(s.Start) }

// Ran reports whether there is a time to show for it.
func (s *Spec) Ran() bool { return !s.Start.IsZero() && !s.End.Before(s.Start) }

var sig = regexp.MustCompile(`^\[(sig-[a-z0-9-]+)\]`)

// SIG is the special interest group that owns the spec, such as sig-node; empty if its name does
// not say.
func (s *Spec) SIG() string {
	if m := sig.FindStringSubmatch(s.Name); m != nil {
		return m[1]
	}
	return ""
}

// Run is what a directory has of a run.
type Run struct {
	Info
	// Specs are all that were selected, in the plan's order.
	Specs []Spec
	// Setup are the steps of the whole suite that failed, such as SynchronizedBeforeSuite.
	Setup []Spec
	// Complete reports whether Ginkgo wrote its report. Otherwise all is known from the lines that
	// it printed until it ended, which do not say which process ran a spec.
	Complete bool
	// Running reports whether the run goes on.
	Running bool
	// Notes are what a reader should know about these results, one sentence each.
	Notes []string
}

// filter returns the specs that a function picks, in the plan's order.
func (r *Run) filter(pick func(*Spec) bool) (out []*Spec) {
	for i := range r.Specs {
		if pick(&r.Specs[i]) {
			out = append(out, &r.Specs[i])
		}
	}
	return out
}

// Count returns the number of specs in a state.
func (r *Run) Count(s State) int {
	return len(r.filter(func(spec *Spec) bool { return spec.State == s }))
}

// In returns the specs in a state, in the order in which they ended.
func (r *Run) In(s State) []*Spec {
	out := r.filter(func(spec *Spec) bool { return spec.State == s })
	slices.SortStableFunc(out, func(a, b *Spec) int {
		return cmp.Or(a.End.Compare(b.End), strings.Compare(a.Name, b.Name))
	})
	return out
}

// Slowest returns at most n specs that ran, the slowest first.
func (r *Run) Slowest(n int) []*Spec {
	out := r.filter((*Spec).Ran)
	slices.SortStableFunc(out, func(a, b *Spec) int { return cmp.Compare(b.Duration(), a.Duration()) })
	return out[:min(n, len(out))]
}

// Serial returns the number of serial specs.
func (r *Run) Serial() int { return len(r.filter(func(s *Spec) bool { return s.Serial })) }

// Until is when the run ended, or the last sign of it if its end was not recorded.
func (r *Run) Until() time.Time {
	if r.End != nil {
		return *r.End
	}
	last := r.Start
	for i := range r.Specs {
		if r.Specs[i].End.After(last) {
			last = r.Specs[i].End
		}
	}
	return last
}

// Wall is how long the run took.
func (r *Run) Wall() time.Duration { return r.Until().Sub(r.Start) }

// Exit statuses of the program, for the four ways in which a run can end.
const (
	ExitPassed      = 0
	ExitFailed      = 1
	ExitUsage       = 2
	ExitInterrupted = 3
)

// Verdict is the exit status that the results deserve, and a line that says why.
func (r *Run) Verdict() (int, string) {
	counts := r.counts()
	switch {
	case r.Running:
		return ExitInterrupted, "STILL RUNNING: " + counts
	case r.Cause != "":
		return ExitInterrupted, "INTERRUPTED: " + r.Cause + "; " + counts
	case r.End == nil:
		return ExitInterrupted, "KILLED before it ended; " + counts
	case r.Count(Failed) > 0:
		return ExitFailed, "FAILED: " + counts
	case len(r.Setup) > 0:
		return ExitFailed, "FAILED in " + r.Setup[0].Name + "; " + counts
	case r.Count(Unfinished)+r.Count(NotRun) > 0:
		return ExitFailed, "FAILED: the run ended early, see e2e.log; " + counts
	case r.Count(Skipped) > 0 && (r.Conformance || len(r.Selection.Specs) > 0):
		return ExitFailed, "FAILED: a spec that had to run was skipped; " + counts
	case r.Count(Passed)+r.Count(Flaked) == 0:
		return ExitFailed, "FAILED: every spec was skipped, so nothing was tested; " + counts
	case r.GinkgoStatus != 0:
		return ExitFailed, "FAILED: no spec failed, but ginkgo did, see e2e.log; " + counts
	case r.Count(Flaked) > 0:
		return ExitPassed, "PASSED WITH FLAKES: " + counts
	}
	return ExitPassed, "PASSED: " + counts
}

// counts says how many specs are in which state; passed is always said, the others if there are
// any.
func (r *Run) counts() string {
	parts := []string{fmt.Sprintf("%d passed", r.Count(Passed))}
	for _, s := range States {
		if n := r.Count(s); n > 0 && s != Passed {
			parts = append(parts, fmt.Sprintf("%d %s", n, s))
		}
	}
	return strings.Join(parts, ", ") + " of " + count(len(r.Specs), "spec", "specs")
}
