// Package page makes a page of a run of the boot benchmark: the figures, and a timeline of a
// typical start of each size.
package page

import (
	"cmp"
	"embed"
	"fmt"
	"html/template"
	"math"
	"path/filepath"
	"slices"
	"time"

	"github.com/dind-cluster/dind-cluster/cluster/timeline"
	"github.com/dind-cluster/dind-cluster/tools/boot/result"
	"github.com/dind-cluster/dind-cluster/tools/internal/htmlpage"
)

// File is the name of the page in the results directory.
const File = "boot.html"

//go:embed page.html page.css
var files embed.FS

var page = htmlpage.Parse(files, template.FuncMap{
	"s":   func(v result.Seconds) string { return fmt.Sprintf("%.2f", v) },
	"mib": func(n int64) string { return fmt.Sprintf("%.1f", float64(n)/(1<<20)) },
	"gib": func(n int64) string { return fmt.Sprintf("%.0f GiB", float64(n)/(1<<30)) },
})

// Write makes the page in the results directory.
func Write(dir string, r *result.Run) error {
	return htmlpage.Write(filepath.Join(dir, File), page, newView(r))
}

type view struct {
	*result.Run
	Floors   []result.Stat
	Groups   []groupView
	Failures []string
	// HasFloor reports whether there are ratios.
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

// chart is a timeline, ready to draw.
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
		if len(spans) == 0 {
			return
		}
		l := lane{Label: label, Y: y, LineY: y + rowHeight*0.7}
		slices.SortStableFunc(spans, func(a, b timeline.Span) int { return a.Start.Compare(b.Start) })
		var rows htmlpage.Rows
		for _, span := range spans {
			top := float64(rows.Place(span.Start, span.End)) * rowHeight
			from, took := result.Since(s.Begin, span.Start), result.Since(span.Start, span.End)
			b := bar{
				Class: class, X: x(from), Y: y + top, W: math.Max(1.5, float64(took)*scale), H: rowHeight - 3,
				Name: span.Name, From: from, Took: took,
			}
			if room := int((b.W - 6) / charWidth); room >= 3 {
				b.Text = span.Name
				if len(b.Text) > room {
					b.Text = b.Text[:room-1] + "…"
				}
			}
			l.Bars = append(l.Bars, b)
			l.Height = math.Max(l.Height, top+rowHeight)
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
	step := htmlpage.TickStep(time.Duration(float64(end)*float64(time.Second)), 20).Seconds()
	for t := 0.0; t <= float64(end) && x(result.Seconds(t)) < chartWidth-30; t += step {
		c.Ticks = append(c.Ticks, tick{X: x(result.Seconds(t)), Label: fmt.Sprintf("%g s", t)})
	}
	return c
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
