// Package page makes a page of a run's results for a browser.
package page

import (
	"cmp"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/dind-cluster/dind-cluster/tools/e2e/results"
	"github.com/dind-cluster/dind-cluster/tools/internal/htmlpage"
)

//go:embed page.html page.css page.js
var files embed.FS

var page = htmlpage.Parse(files, template.FuncMap{"duration": results.Duration, "class": class})

// maxOutput is how many bytes of what specs wrote the page holds: of one of them, and of all. The
// log has the rest.
const (
	maxOutput      = 256 << 10
	maxOutputTotal = 12 << 20
)

// maxFiles is how many logs the page links to.
const maxFiles = 600

// Write makes the page in the results directory.
func Write(dir string, r *results.Run) error {
	v := newView(r)
	v.find(dir)
	return htmlpage.Write(filepath.Join(dir, results.PageFile), page, v)
}

// view is what the template shows.
type view struct {
	*results.Run
	Verdict, Status string
	Counts          []counted
	SIGs            []named
	// Trouble are the specs that need a look, in groups, the worst first.
	Trouble []group
	// Rows are all specs, in the table's first order.
	Rows  []row
	Lanes []lane
	Ticks []tick
	// SerialLeft and SerialWidth are where serial specs ran; the width is 0 if none did.
	SerialLeft, SerialWidth float64
	// Guessed reports whether it is not known which process ran a spec.
	Guessed bool
	// Files are links to the results, Logs to logs.
	Files []link
	Logs  []directory
}

type counted struct {
	State results.State
	N     int
	// Share is the part of all specs, in percent.
	Share float64
}

type named struct {
	Name string
	N    int
}

// group are specs of one state with its explanation.
type group struct {
	Title string
	State results.State
	// Short groups are lists of names.
	Short bool
	Items []item
}

// item is a spec that needs a look.
type item struct {
	row
	Output string
	// Cut reports whether the output is not all there was.
	Cut bool
	// Logs are what e2e.test kept of its pods.
	Logs []link
}

// row is a spec in the table.
type row struct {
	*results.Spec
	// ID is its number, in all parts of the page.
	ID int
	// Offset is when it started, counted from the run's start.
	Offset time.Duration
	// Open reports whether there is more about it above.
	Open bool
}

type lane struct {
	Label string
	Bars  []bar
}

// bar is a spec in the timeline; its place is in percent.
type bar struct {
	row
	Left, Width float64
}

type tick struct {
	Label string
	Left  float64
}

type link struct{ Name, URL string }

type directory struct {
	Name  string
	Files []link
}

// class is a state's name in the style sheet.
func class(s results.State) string { return strings.ReplaceAll(string(s), " ", "") }

func newView(r *results.Run) *view {
	v := &view{Run: r}
	status, verdict := r.Verdict()
	v.Verdict, _, _ = strings.Cut(verdict, ";")
	if i := strings.Index(v.Verdict, ": "); i >= 0 && r.Cause == "" {
		v.Verdict = v.Verdict[:i]
	}
	v.Status = map[int]string{results.ExitPassed: "passed", results.ExitFailed: "failed"}[status]
	switch {
	case v.Status == "":
		v.Status = "notfinished"
	case v.Status == "passed" && r.Count(results.Flaked) > 0:
		v.Status = "flaked"
	}
	v.fillRows()
	v.fillTrouble()
	v.fillTimeline()
	return v
}

func (v *view) fillRows() {
	rank := map[results.State]int{}
	for i, s := range results.States {
		rank[s] = i
		if n := v.Count(s); n > 0 {
			v.Counts = append(v.Counts, counted{s, n, percent(float64(n), float64(len(v.Specs)))})
		}
	}
	sigs := map[string]int{}
	for i := range v.Specs {
		s := &v.Specs[i]
		w := row{Spec: s, ID: i + 1, Open: s.State != results.Passed}
		if s.Ran() {
			w.Offset = s.Start.Sub(v.Start)
		}
		v.Rows = append(v.Rows, w)
		sigs[s.SIG()]++
	}
	slices.SortStableFunc(v.Rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(rank[a.State], rank[b.State]), cmp.Compare(b.Duration(), a.Duration()), strings.Compare(a.Name, b.Name))
	})
	for name, n := range sigs {
		v.SIGs = append(v.SIGs, named{name, n})
	}
	slices.SortFunc(v.SIGs, func(a, b named) int { return strings.Compare(a.Name, b.Name) })
}

func (v *view) fillTrouble() {
	left := maxOutputTotal
	add := func(g *group, w row) {
		it := item{row: w, Output: w.Output}
		if limit := min(maxOutput, left); len(it.Output) > limit {
			it.Output, it.Cut = strings.ToValidUTF8(it.Output[len(it.Output)-limit:], ""), true
		}
		left -= len(it.Output)
		g.Items = append(g.Items, it)
	}
	if len(v.Setup) > 0 {
		g := group{Title: "The suite itself failed", State: results.Failed}
		for i := range v.Setup {
			add(&g, row{Spec: &v.Setup[i], ID: -i - 1, Offset: v.Setup[i].Start.Sub(v.Start)})
		}
		v.Trouble = append(v.Trouble, g)
	}
	for _, state := range results.States {
		if state == results.Passed {
			continue
		}
		g := group{Title: results.Titles[state], State: state, Short: state == results.Skipped || state == results.NotRun}
		for _, w := range v.Rows {
			if w.State == state {
				add(&g, w)
			}
		}
		if state != results.NotRun {
			slices.SortStableFunc(g.Items, func(a, b item) int { return a.End.Compare(b.End) })
		}
		if len(g.Items) > 0 {
			v.Trouble = append(v.Trouble, g)
		}
	}
}

func (v *view) fillTimeline() {
	wall := v.Wall()
	if wall <= 0 {
		return
	}
	var ran []row
	var serialFrom, serialTo time.Time
	for _, w := range v.Rows {
		if !w.Ran() {
			continue
		}
		ran = append(ran, w)
		if w.Process == 0 {
			v.Guessed = true
		}
		if w.Serial && v.Processes > 1 {
			if serialFrom.IsZero() || w.Start.Before(serialFrom) {
				serialFrom = w.Start
			}
			if w.End.After(serialTo) {
				serialTo = w.End
			}
		}
	}
	place := func(from, to time.Time) (left, width float64) {
		return percent(float64(from.Sub(v.Start)), float64(wall)), percent(float64(to.Sub(from)), float64(wall))
	}
	if !serialFrom.IsZero() {
		v.SerialLeft, v.SerialWidth = place(serialFrom, serialTo)
	}
	slices.SortStableFunc(ran, func(a, b row) int { return a.Start.Compare(b.Start) })
	rows := htmlpage.Rows{Slack: 100 * time.Millisecond} // times are a little off
	for _, w := range ran {
		n := w.Process - 1
		if v.Guessed {
			n = rows.Place(w.Start, w.End)
		}
		for len(v.Lanes) <= n {
			v.Lanes = append(v.Lanes, lane{Label: fmt.Sprint(len(v.Lanes) + 1)})
		}
		b := bar{row: w}
		b.Left, b.Width = place(w.Start, w.End)
		v.Lanes[n].Bars = append(v.Lanes[n].Bars, b)
	}
	step := max(time.Second, htmlpage.TickStep(wall, 8))
	for at := time.Duration(0); at <= wall; at += step {
		v.Ticks = append(v.Ticks, tick{clock(at), percent(float64(at), float64(wall))})
	}
}

// clock writes a time since the start.
func clock(d time.Duration) string {
	d = d.Round(time.Second)
	if d < time.Hour {
		return fmt.Sprintf("%d:%02d", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%d:%02d:%02d", d/time.Hour, d%time.Hour/time.Minute, d%time.Minute/time.Second)
}

// At is when the spec started.
func (w row) At() string { return clock(w.Offset) }

// Seconds is how long it ran, for sorting.
func (w row) Seconds() float64 { return math.Round(w.Duration().Seconds()*1000) / 1000 }

func percent(part, whole float64) float64 {
	return math.Round(part/whole*1e6) / 1e4
}

// find links to what else is in the directory.
func (v *view) find(dir string) {
	for _, name := range []string{
		results.SummaryFile, results.LogFile, results.JUnitFile, results.ReportFile, results.CertificationDir,
	} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil || name == results.SummaryFile {
			v.Files = append(v.Files, link{name, name})
		}
	}
	kept, directories := map[string][]link{}, map[string]int{}
	n := 0
	for _, top := range []string{results.LogsDir, results.ArtifactsDir} {
		_ = fs.WalkDir(os.DirFS(dir), top, func(p string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return nil
			}
			if n++; n > maxFiles {
				return fs.SkipAll
			}
			where, name := section(p)
			l := link{name, (&url.URL{Path: p}).String()}
			if ns, ok := strings.CutPrefix(where, results.ArtifactsDir+"/"); ok {
				kept[ns] = append(kept[ns], l)
			}
			if _, ok := directories[where]; !ok {
				directories[where] = len(v.Logs)
				v.Logs = append(v.Logs, directory{Name: where})
			}
			f := &v.Logs[directories[where]]
			f.Files = append(f.Files, l)
			return nil
		})
	}
	if len(kept) == 0 {
		return
	}
	for g := range v.Trouble {
		for i := range v.Trouble[g].Items {
			it := &v.Trouble[g].Items[i]
			for _, ns := range namespaces(it.Spec.Output) {
				it.Logs = append(it.Logs, kept[ns]...)
			}
		}
	}
}

// section splits the path of a log: the logs of a node belong together, and those of a namespace.
func section(p string) (where, name string) {
	parts := strings.Split(p, "/")
	depth := 1
	if parts[0] == results.ArtifactsDir {
		depth = 2
	} else if len(parts) > 3 {
		depth = 3
	}
	depth = min(depth, len(parts)-1)
	return strings.Join(parts[:depth], "/"), strings.Join(parts[depth:], "/")
}

// own is how a spec's output names its own namespaces; others are in it, too.
var own = regexp.MustCompile(`(?:Collecting events from|Destroying) namespace "([a-z0-9-]+)"`)

// namespaces are those that the spec with this output has used.
func namespaces(output string) []string {
	var out []string
	for _, m := range own.FindAllStringSubmatch(output, -1) {
		if !slices.Contains(out, m[1]) {
			out = append(out, m[1])
		}
	}
	return out
}
