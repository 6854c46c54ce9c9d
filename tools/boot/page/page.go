// Package page makes a page of a run of the boot benchmark: the figures, and a time line of a typical start of each size. It
// is one file that asks nobody for anything.
package page

import (
	"bytes"
	"cmp"
	"embed"
	"fmt"
	"html/template"
	"math"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/renameio/v2"

	"github.com/dind-cluster/dind-cluster/cluster/timeline"
	"github.com/dind-cluster/dind-cluster/tools/boot/result"
)

// File is the name of the page in the results folder.
const File = "boot.html"

//go:embed page.html page.css
var files embed.FS

var page = template.Must(template.New("page.html").Funcs(template.FuncMap{
	"css": func() (template.CSS, error) { b, err := files.ReadFile("page.css"); return template.CSS(b), err },
	"s":   func(v result.Seconds) string { return fmt.Sprintf("%.2f", v) },
	"mib": func(n int64) string { return fmt.Sprintf("%.1f", float64(n)/(1<<20)) },
	"gib": func(n int64) string { return fmt.Sprintf("%.0f GiB", float64(n)/(1<<30)) },
}).ParseFS(files, "page.html"))

// Write makes the page in the results folder.
func Write(dir string, r *result.Run) error {
	var out bytes.Buffer
	if err := page.Execute(&out, newView(r)); err != nil {
		return fmt.Errorf("making the page: %w", err)
	}
	if err := renameio.WriteFile(filepath.Join(dir, File), out.Bytes(), 0o644, renameio.WithTempDir(dir)); err != nil {
		return fmt.Errorf("making the page: %w", err)
	}
	return nil
}

type view struct {
	*result.Run
	Floors   []result.Stat
	Groups   []groupView
	Failures []string
	// HasFloor says whether there are ratios.
	HasFloor bool
}

type groupView struct {
	result.Group
	Title string
	// Ratio is the median to that of `kubeadm init`.
	Ratio float64
	Chart *chart
}

func newView(r *result.Run) view {
	v := view{Run: r, Floors: r.FloorStats(), Failures: r.Failures()}
	floor, ok := r.Floor()
	v.HasFloor = ok
	for _, g := range r.Groups() {
		gv := groupView{Group: g, Title: title(g.Nodes)}
		if g.Typical != nil {
			if ok {
				gv.Ratio = float64(g.Total.Median / floor)
			}
			gv.Chart = newChart(g.Typical)
		}
		v.Groups = append(v.Groups, gv)
	}
	return v
}

func title(nodes int) string {
	switch nodes {
	case 1:
		return "1 node"
	case 2:
		return "1 control plane, 1 worker"
	}
	return fmt.Sprintf("1 control plane, %d workers", nodes-1)
}

// The chart's measures, in SVG's units, which are pixels when it is not scaled.
const (
	chartWidth = 1160.0
	labelWidth = 120.0
	rowHeight  = 18.0
	markHeight = 14.0
	charWidth  = 6.2
)

// maxNodes is how many nodes a chart shows.
const maxNodes = 12

// chart is a time line, ready to draw.
type chart struct {
	Round         int
	Width, Height float64
	// Top is where the rows begin.
	Top    float64
	Ticks  []tick
	Marks  []mark
	Lanes  []lane
	Hidden int
}

type tick struct {
	X     float64
	Label string
}

type mark struct {
	X, Y  float64
	Label string
	At    result.Seconds
	// Left says that the label is at the left of its line.
	Left bool
}

type lane struct {
	Label    string
	Y, LineY float64
	Bars     []bar
	Height   float64
}

type bar struct {
	Class      string
	X, Y, W, H float64
	Text, Name string
	From, Took result.Seconds
}

func newChart(s *result.Start) *chart {
	end := max(s.Marks[result.Ready], s.Marks[result.RunnerReady])
	if end <= 0 {
		return nil
	}
	scale := (chartWidth - labelWidth) / float64(end) / 1.01
	x := func(at result.Seconds) float64 { return labelWidth + math.Max(0, float64(at))*scale }
	c := &chart{Round: s.Round, Width: chartWidth}

	for _, name := range result.Marks {
		at, ok := s.Marks[name]
		if !ok || name == result.Created || name == result.Started || name == result.Ready {
			continue
		}
		c.Marks = append(c.Marks, mark{X: x(at), Label: name, At: at})
	}
	slices.SortFunc(c.Marks, func(a, b mark) int { return cmp.Compare(a.X, b.X) })
	for i := range c.Marks {
		m := &c.Marks[i]
		m.Y = float64(i)*markHeight + 26
		m.Left = m.X > chartWidth*0.7
	}
	c.Top = float64(len(c.Marks))*markHeight + 36

	y := c.Top
	add := func(label, class string, spans []timeline.Span) {
		rows := pack(spans)
		if len(rows) == 0 {
			return
		}
		l := lane{Label: label, Y: y, Height: float64(len(rows)) * rowHeight}
		l.LineY = l.Y + rowHeight*0.7
		for i, row := range rows {
			for _, span := range row {
				from, took := result.Since(s.Begin, span.Start), result.Since(span.Start, span.End)
				b := bar{
					Class: class, X: x(from), Y: y + float64(i)*rowHeight, W: math.Max(1.5, float64(took)*scale), H: rowHeight - 3,
					Name: span.Name, From: from, Took: took,
				}
				if room := int((b.W - 6) / charWidth); room >= 3 {
					b.Text = span.Name
					if len(b.Text) > room {
						b.Text = b.Text[:room-1] + "…"
					}
				}
				l.Bars = append(l.Bars, b)
			}
		}
		y += l.Height
		c.Lanes = append(c.Lanes, l)
	}
	of := func(name string, spans []timeline.Span) []timeline.Span {
		var out []timeline.Span
		for _, s := range spans {
			// These two units are what the steps are steps of.
			if s.Lane == name && s.Name != "dind-cluster" && s.Name != "dind-node" && s.Name != "systemd" {
				out = append(out, s)
			}
		}
		return out
	}
	add("top level", "step", of("", s.Timeline.Spans))
	add("· units", "unit", of("", s.Units))
	for i, name := range nodeNames(s) {
		if i >= maxNodes {
			c.Hidden++
			continue
		}
		y += 8
		add(name, "step", of(name, s.Timeline.Spans))
		add("· units", "unit", of(name, s.Units))
		add("· containers", "container", of(name, s.Containers))
	}
	c.Height = y + 4
	step := tickStep(float64(end))
	for t := 0.0; t <= float64(end) && x(result.Seconds(t)) < chartWidth-30; t += step {
		c.Ticks = append(c.Ticks, tick{X: x(result.Seconds(t)), Label: fmt.Sprintf("%g s", t)})
	}
	return c
}

// tickStep returns a round number of seconds so that there are at most twenty ticks.
func tickStep(end float64) float64 {
	for _, step := range []float64{0.5, 1, 2, 5, 10, 30, 60} {
		if end/step <= 20 {
			return step
		}
	}
	return 300
}

// nodeNames are the lanes that are nodes, the control plane first.
func nodeNames(s *result.Start) []string {
	var names []string
	for _, spans := range [][]timeline.Span{s.Timeline.Spans, s.Units} {
		for _, span := range spans {
			if span.Lane != "" && !slices.Contains(names, span.Lane) {
				names = append(names, span.Lane)
			}
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		if c := cmp.Compare(len(a), len(b)); c != 0 && a != "control-plane" && b != "control-plane" {
			return c
		}
		return cmp.Compare(a, b)
	})
	return names
}

// pack puts spans into as few rows as possible, so that none covers another.
func pack(spans []timeline.Span) [][]timeline.Span {
	spans = slices.Clone(spans)
	slices.SortStableFunc(spans, func(a, b timeline.Span) int { return a.Start.Compare(b.Start) })
	var rows [][]timeline.Span
	var ends []time.Time
next:
	for _, s := range spans {
		for i := range rows {
			if !s.Start.Before(ends[i]) {
				rows[i], ends[i] = append(rows[i], s), s.End
				continue next
			}
		}
		rows, ends = append(rows, []timeline.Span{s}), append(ends, s.End)
	}
	return rows
}
