package results

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"
)

// listed is how many specs a list in the summary has at most; the page has all.
const listed = 50

// laterFailures is how many more failures of a spec the summary shows than the first one.
const laterFailures = 3

// messageLines is how many lines of a failure's message the summary shows.
const messageLines = 20

// Summary returns what came of the run as plain text: failures first.
func (r *Run) Summary() string {
	var b strings.Builder
	_, verdict := r.Verdict()
	fmt.Fprintln(&b, verdict)
	fmt.Fprintf(&b, "Kubernetes %s, %s (%d serial) on %s, %s, started %s\n",
		r.Server, count(len(r.Specs), "spec", "specs"), r.Serial(), count(r.Processes, "process", "processes"),
		Duration(r.Wall()), r.Start.UTC().Format("2006-01-02 15:04:05 UTC"))
	fmt.Fprintf(&b, "Selected: %s; %d of %d specs\n", r.Selection, len(r.Specs), r.Total)
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "Note: %s\n", n)
	}
	if len(r.Setup) > 0 {
		b.WriteString("\nThe suite itself failed:\n")
		for i := range r.Setup {
			writeFailure(&b, &r.Setup[i])
		}
	}
	group := func(state State, write func(*strings.Builder, *Spec)) {
		list(&b, Titles[state], r.In(state), write)
	}
	group(Failed, writeFailure)
	group(Unfinished, writeTimed)
	group(Flaked, writeFlake)
	group(Skipped, func(b *strings.Builder, s *Spec) {
		fmt.Fprintf(b, "  %s: %s\n", s.Name, firstLine(s.Reason))
	})
	group(NotRun, func(b *strings.Builder, s *Spec) { fmt.Fprintf(b, "  %s\n", s.Name) })
	list(&b, "Slowest", r.Slowest(10), func(b *strings.Builder, s *Spec) {
		fmt.Fprintf(b, "  %8s  %s\n", Duration(s.Duration()), s.Name)
	})
	return b.String()
}

func list(b *strings.Builder, title string, specs []*Spec, write func(*strings.Builder, *Spec)) {
	if len(specs) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s:\n", title)
	for i, s := range specs {
		if i == listed {
			fmt.Fprintf(b, "  … and %d more, see %s\n", len(specs)-listed, PageFile)
			break
		}
		write(b, s)
	}
}

func writeTimed(b *strings.Builder, s *Spec) {
	fmt.Fprintf(b, "  %s (%s)\n", s.Name, Duration(s.Duration()))
}

func writeFlake(b *strings.Builder, s *Spec) {
	fmt.Fprintf(b, "  %s (attempt %d passed)\n", s.Name, s.Attempts)
	for i, f := range s.Failures {
		if i == laterFailures {
			fmt.Fprintf(b, "      … and %s\n", count(len(s.Failures)-i, "more failure", "more failures"))
			break
		}
		fmt.Fprintf(b, "      %s\n", OneLine(f.Message))
	}
}

func writeFailure(b *strings.Builder, s *Spec) {
	detail := ""
	if s.Detail != "" && s.Detail != "failed" {
		detail = s.Detail + ", "
	}
	fmt.Fprintf(b, "  %s (%s%s)\n", s.Name, detail, Duration(s.Duration()))
	for i, f := range s.Failures {
		if i > 0 {
			// Failures after the first one mostly come from it; the page has them all.
			if i > laterFailures {
				fmt.Fprintf(b, "      … and %s\n", count(len(s.Failures)-i, "more failure", "more failures"))
				break
			}
			fmt.Fprintf(b, "      then %s: %s\n", f.Location, OneLine(f.Message))
			continue
		}
		lines := strings.Split(strings.TrimSpace(f.Message), "\n")
		for j, line := range lines {
			if j == messageLines {
				fmt.Fprintf(b, "      … %d more lines\n", len(lines)-messageLines)
				break
			}
			fmt.Fprintf(b, "      %s\n", strings.TrimRight(line, " \r"))
		}
		if f.Location != "" {
			fmt.Fprintf(b, "      at %s\n", f.Location)
		}
	}
}

// OneLine returns the beginning of a message, 200 bytes at most, without line breaks.
func OneLine(message string) string {
	message = strings.Join(strings.Fields(message), " ")
	if len(message) > 200 {
		message = strings.ToValidUTF8(message[:200], "") + " …"
	}
	return message
}

// WriteSummary writes the summary's file.
func (r *Run) WriteSummary(dir string) error {
	return renameio.WriteFile(filepath.Join(dir, SummaryFile), []byte(r.Summary()), 0o644, renameio.WithTempDir(dir))
}

// String says what was asked for, in the words of the flags.
func (s Selection) String() string {
	var parts []string
	add := func(flag string, values ...string) {
		for _, v := range values {
			parts = append(parts, "--"+flag+"="+quote(v))
		}
	}
	add("focus", s.Focus...)
	if len(s.Specs) > 5 {
		parts = append(parts, fmt.Sprintf("--spec (%d of them)", len(s.Specs)))
	} else {
		add("spec", s.Specs...)
	}
	if s.LabelFilter != "" {
		add("label-filter", s.LabelFilter)
	}
	add("skip", s.Skip...)
	return strings.Join(parts, " ")
}

// Duration writes d as a person reads it, to a tenth of a second below a minute.
func Duration(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	d = d.Round(time.Second)
	if d < time.Hour {
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%dh%02dm%02ds", d/time.Hour, d%time.Hour/time.Minute, d%time.Minute/time.Second)
}

// count joins a number and its word.
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
