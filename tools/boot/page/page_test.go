package page

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/dind-cluster/dind-cluster/cluster/timeline"
	"github.com/dind-cluster/dind-cluster/tools/boot/result"
	"github.com/dind-cluster/dind-cluster/tools/internal/htmlpage/browsertest"
)

func TestMain(m *testing.M) { browsertest.Main(m) }

var begin = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func span(lane, name string, from, to float64) timeline.Span {
	at := func(s float64) time.Time { return begin.Add(time.Duration(s * float64(time.Second))) }
	return timeline.Span{Lane: lane, Name: name, Start: at(from), End: at(to)}
}

func testRun() *result.Run {
	return &result.Run{
		Started: begin, Image: "dind-cluster:<v0>",
		Starts: []result.Start{{
			Nodes: 2, Round: 1, Begin: begin,
			Marks: map[string]result.Seconds{result.APIReady: 5, result.Ready: 10, result.RunnerReady: 9},
			Timeline: timeline.Timeline{Start: begin, End: begin.Add(9 * time.Second), Ready: true, Spans: []timeline.Span{
				span("", "starting the nodes", 1, 2), span("worker1", "kubeadm join <x>", 5, 7),
				span("control-plane", "images", 2, 4), span("control-plane", "kubeadm init", 3, 8),
			}},
			Units:      []timeline.Span{span("worker1", "containerd", 2, 2.1)},
			Containers: []timeline.Span{span("control-plane", "etcd", 4, 4.5)},
			Usage:      []result.Usage{{Node: "worker1", PSS: 3 << 20}},
		}, {Nodes: 2, Round: 2, Error: "it broke"}, {Nodes: 3, Round: 1, Error: "this too"}},
		Floors: []result.Floor{{Kind: result.Plain, Init: 4}},
	}
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	if err := Write(dir, testRun()); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, File))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := html.Parse(bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for _, want := range []string{
		"2 nodes in 10.00 s", "dind-cluster:&lt;v0&gt;", "2.50 × kubeadm init", "it broke", "this too", "<title>kubeadm join &lt;x&gt;: 2.00 s from 5.00 s</title>",
		"<title>etcd: 0.50 s from 4.00 s</title>", "API server ready 5.00", `<td>worker</td><td class="num">3.0</td>`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in the page", want)
		}
	}
	// It is complete by itself, and html/template has refused nothing.
	for _, not := range []string{"http://", "https://", "ZgotmplZ", "<script", "NaN"} {
		if strings.Contains(text, not) {
			t.Errorf("%q in the page", not)
		}
	}
}

func TestChart(t *testing.T) {
	s := &result.Start{Begin: begin, Marks: map[string]result.Seconds{result.Ready: 10}}
	for _, lane := range []string{"worker1", "worker2", "worker10", "control-plane"} {
		s.Timeline.Spans = append(s.Timeline.Spans, span(lane, "network", 1, 2), span(lane, "images", 1.5, 3), span(lane, "join", 3, 4))
	}
	c := newChart(s)
	var names []string
	for _, l := range c.Lanes {
		names = append(names, l.Label)
		// Two of the three overlap.
		if len(l.Bars) != 3 || l.Height != 2*rowHeight {
			t.Errorf("%s: %d bars in %v", l.Label, len(l.Bars), l.Height)
		}
		for _, b := range l.Bars {
			if b.X < labelWidth || b.X+b.W > chartWidth || b.Y < c.Top || b.Y+b.H > c.Height {
				t.Errorf("%s: %+v is outside of the chart", l.Label, b)
			}
		}
	}
	if got := strings.Join(names, " "); got != "control-plane worker1 worker2 worker10" {
		t.Errorf("got lanes %s", got)
	}
	if newChart(&result.Start{}) != nil {
		t.Error("a chart of nothing")
	}
	for i := range maxNodes + 3 {
		s.Timeline.Spans = append(s.Timeline.Spans, span("worker2"+string(rune('a'+i)), "network", 1, 2))
	}
	if c := newChart(s); c.Hidden != 7 {
		t.Errorf("%d nodes hidden", c.Hidden)
	}
}

// TestBrowser looks where a browser puts the chart, and whether it has the style that all pages
// have.
func TestBrowser(t *testing.T) {
	dir := t.TempDir()
	if err := Write(dir, testRun()); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, File))
	if err != nil {
		t.Fatal(err)
	}
	// The page itself has no scripts.
	const policy = "style-src 'unsafe-inline'"
	page := strings.Replace(string(data), policy, policy+"; script-src 'unsafe-inline'", 1)
	got := browsertest.Eval(t, []byte(page), `
		const chart = document.querySelector('svg').getBoundingClientRect();
		const bars = [...document.querySelectorAll('svg .step rect, svg .unit rect, svg .container rect')];
		const inside = b => b.left >= chart.left && b.right <= chart.right && b.top >= chart.top && b.bottom <= chart.bottom;
		return [
			document.querySelector('h1').textContent, bars.length, bars.every(b => inside(b.getBoundingClientRect())),
			getComputedStyle(document.querySelector('svg .step rect')).fill,
			document.documentElement.scrollWidth <= innerWidth,
			getComputedStyle(document.querySelector('section')).borderRadius,
		].join(';');`)
	if want := "2 nodes in 10.00 s;6;true;rgb(47, 125, 84);true;8px"; got != want {
		t.Errorf("the page in the browser: got %q, want %q", got, want)
	}
}
