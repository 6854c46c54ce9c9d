package result

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dind-cluster/dind-cluster/cluster/timeline"
)

var begin = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func at(s float64) time.Time { return begin.Add(time.Duration(s * float64(time.Second))) }

func span(lane, name string, from, to float64) timeline.Span {
	return timeline.Span{Lane: lane, Name: name, Start: at(from), End: at(to)}
}

// start is a start that was ready after so many seconds.
func start(nodes, round int, ready float64) Start {
	return Start{
		Nodes: nodes, Round: round, Begin: begin,
		Marks: map[string]Seconds{Created: 0.1, APIReady: Seconds(ready / 2), Ready: Seconds(ready)},
		Timeline: timeline.Timeline{Start: at(0.5), End: at(ready), Ready: true, Spans: []timeline.Span{
			// As they end, not as they begin.
			span("worker2", "kubeadm join", 4, 6),
			span("worker1", "kubeadm join", 4, 5),
			span("control-plane", "kubeadm init", 2, ready-1),
			span("", "systemd and Docker", 0.5, 1),
			span("", "images", 0.6, 0.7),
			span("", "starting the nodes", 1, 2),
		}},
		Usage: []Usage{{Node: "worker1", PSS: 10 << 20}, {Node: "worker2", PSS: 30 << 20, Written: 5 << 20}, {Node: "control-plane", PSS: 99 << 20}, {PSS: 50 << 20}},
	}
}

func run() *Run {
	failed := Start{Nodes: 3, Round: 4, Error: "it broke"}
	return &Run{
		Started: begin, Image: "dind-cluster:v0",
		Starts: []Start{start(3, 1, 10), start(1, 1, 8), start(3, 2, 12), start(3, 3, 30), failed},
		Floors: []Floor{{Kind: Plain, Init: 5, Ready: 6}, {Kind: Plain, Init: 7, Ready: 8}, {Kind: Tuned, Init: 4, Ready: 5, Health: 2, Serving: 3}, {Kind: Tuned, Round: 2, Error: "no"}},
	}
}

func TestGroups(t *testing.T) {
	groups := run().Groups()
	if len(groups) != 2 || groups[0].Nodes != 1 || groups[1].Nodes != 3 {
		t.Fatalf("got %+v", groups)
	}
	g := groups[1]
	if want := (Stat{Ready, 12, 10, 30, 3}); g.Total != want {
		t.Errorf("got %+v, want %+v", g.Total, want)
	}
	if g.Failed != 1 || g.Typical.Round != 2 || !slices.Equal(g.Slow, []int{3}) {
		t.Errorf("got %d failed, typical %d, slow %v", g.Failed, g.Typical.Round, g.Slow)
	}
	var phases []string
	for _, p := range g.Phases {
		phases = append(phases, p.Name)
	}
	want := []string{"docker run until the entrypoint runs", "systemd and Docker", "images", "starting the nodes", "control-plane: kubeadm init", "worker: kubeadm join"}
	if !slices.Equal(phases, want) {
		t.Errorf("got phases %q, want %q", phases, want)
	}
	if boot := g.Phases[1]; boot.Median != 0.5 {
		t.Errorf("got %+v", boot)
	}
	// Of both workers, the slower one.
	if join := g.Phases[5]; join.Median != 2 || join.N != 3 {
		t.Errorf("got %+v", join)
	}
	for _, u := range g.Usage {
		if u.Kind == "worker" && u.PSS != 30<<20 {
			t.Errorf("got %+v", u)
		}
	}
	if len(g.Usage) != 3 {
		t.Errorf("got %+v", g.Usage)
	}
	if all := group(5, []*Start{{Error: "x"}}); all.Typical != nil || all.Failed != 1 {
		t.Errorf("got %+v", all)
	}
}

func TestStat(t *testing.T) {
	if got, want := stat("x", []Seconds{4, 1, 3, 2}), (Stat{"x", 2.5, 1, 4, 4}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestFloor(t *testing.T) {
	r := run()
	if floor, ok := r.Floor(); !ok || floor != 6 {
		t.Errorf("got %v, %v", floor, ok)
	}
	if n := len(r.FloorStats()); n != 6 {
		t.Errorf("got %+v", r.FloorStats())
	}
	if _, ok := (&Run{}).Floor(); ok {
		t.Error("a floor without a measurement")
	}
}

func TestFailuresAndPrint(t *testing.T) {
	r := run()
	failures := strings.Join(r.Failures(), "\n")
	for _, want := range []string{"3 node(s), round 4: it broke", Tuned + ", round 2: no", "3 node(s), round 3: took more than twice the median of 12.00 s"} {
		if !strings.Contains(failures, want) {
			t.Errorf("no %q in\n%s", want, failures)
		}
	}
	var out bytes.Buffer
	if err := r.Print(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"3 node(s), 2.00 × kubeadm init, 1 failed", "worker: kubeadm join", "it broke", "3 node(s): top level", "50.0"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
}

func TestWriteAndRead(t *testing.T) {
	dir := t.TempDir()
	want := run()
	if err := want.Write(dir); err != nil {
		t.Fatal(err)
	}
	got, err := Read(filepath.Join(dir, File))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if _, err := Read(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, File), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(filepath.Join(dir, File)); err == nil {
		t.Error("no error for broken JSON")
	}
}
