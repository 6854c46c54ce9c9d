package result

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/dind-cluster/dind-cluster/cluster/timeline"
)

// Stat is what there is to say about one figure of several starts.
type Stat struct {
	Name             string
	Median, Min, Max Seconds
	N                int
}

// stat wants at least one value.
func stat(name string, values []Seconds) Stat {
	slices.Sort(values)
	n := len(values)
	median := values[n/2]
	if n%2 == 0 {
		median = (values[n/2-1] + values[n/2]) / 2
	}
	return Stat{Name: name, Median: median, Min: values[0], Max: values[n-1], N: n}
}

// Group is all starts of clusters of one size.
type Group struct {
	Nodes int
	Total Stat
	// Marks are points in time after the beginning, Phases are durations: of the top-level
	// container's actions, and of the nodes' steps, of which the slowest node of a start counts.
	Marks, Phases []Stat
	// Typical is the start whose total is the nearest to the median.
	Typical *Start
	Failed  int
	// Slow are the rounds that took more than twice the median.
	Slow []int
	// Usage is by kind of container, as medians over all starts and containers.
	Usage []KindUsage
}

// KindUsage is what a container of a kind takes: medians.
type KindUsage struct {
	Kind string
	Usage
}

// Groups returns the starts by size of cluster, the smallest first.
func (r *Run) Groups() []Group {
	sizes := map[int][]*Start{}
	for i := range r.Starts {
		s := &r.Starts[i]
		sizes[s.Nodes] = append(sizes[s.Nodes], s)
	}
	var groups []Group
	for _, nodes := range slices.Sorted(maps.Keys(sizes)) {
		groups = append(groups, group(nodes, sizes[nodes]))
	}
	return groups
}

func group(nodes int, starts []*Start) Group {
	g := Group{Nodes: nodes}
	marks, phases := map[string][]Seconds{}, map[string][]Seconds{}
	var order []string
	var good []*Start
	usage := map[string][]Usage{}
	for _, s := range starts {
		if s.Error != "" {
			g.Failed++
			continue
		}
		good = append(good, s)
		for name, at := range s.Marks {
			marks[name] = append(marks[name], at)
		}
		took := s.phases()
		for _, p := range took {
			if !slices.Contains(order, p.Name) {
				order = append(order, p.Name)
			}
			phases[p.Name] = append(phases[p.Name], p.Median)
		}
		for _, u := range s.Usage {
			usage[kind(u.Node)] = append(usage[kind(u.Node)], u)
		}
	}
	if len(good) == 0 {
		return g
	}
	g.Total = stat(Ready, slices.Clone(marks[Ready]))
	for _, name := range Marks {
		if len(marks[name]) > 0 {
			g.Marks = append(g.Marks, stat(name, marks[name]))
		}
	}
	for _, name := range order {
		g.Phases = append(g.Phases, stat(name, phases[name]))
	}
	distance := func(s *Start) float64 { return math.Abs(float64(s.Marks[Ready] - g.Total.Median)) }
	g.Typical = slices.MinFunc(good, func(a, b *Start) int { return cmp.Compare(distance(a), distance(b)) })
	for _, s := range good {
		if s.Marks[Ready] > 2*g.Total.Median {
			g.Slow = append(g.Slow, s.Round)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(usage)) {
		g.Usage = append(g.Usage, KindUsage{Kind: k, Usage: medianUsage(usage[k])})
	}
	return g
}

// kind is what a lane is: one worker is as good as another.
func kind(lane string) string {
	switch {
	case lane == "":
		return "top level"
	case strings.HasPrefix(lane, "worker"):
		return "worker"
	}
	return lane
}

// phases returns how long each piece took, in the order in which they began. A Stat of one value
// each.
func (s *Start) phases() []Stat {
	line := s.Timeline
	spans := slices.Clone(line.Spans)
	slices.SortStableFunc(spans, func(a, b timeline.Span) int { return a.Start.Compare(b.Start) })
	var out []Stat
	add := func(name string, took Seconds) {
		for i := range out {
			if out[i].Name == name {
				out[i].Median = max(out[i].Median, took)
				return
			}
		}
		out = append(out, Stat{Name: name, Median: took})
	}
	add("docker run until the entrypoint runs", Since(s.Begin, line.Start))
	for _, span := range spans {
		name := span.Name
		if span.Lane != "" {
			name = kind(span.Lane) + ": " + name
		}
		add(name, Since(span.Start, span.End))
	}
	return out
}

func medianUsage(all []Usage) Usage {
	pick := func(f func(Usage) int64) int64 {
		var values []int64
		for _, u := range all {
			values = append(values, f(u))
		}
		slices.Sort(values)
		return values[len(values)/2]
	}
	return Usage{
		CPU:        Seconds(pick(func(u Usage) int64 { return int64(u.CPU * 1000) })) / 1000,
		Processes:  int(pick(func(u Usage) int64 { return int64(u.Processes) })),
		PSS:        pick(func(u Usage) int64 { return u.PSS }),
		WorkingSet: pick(func(u Usage) int64 { return u.WorkingSet }),
		Written:    pick(func(u Usage) int64 { return u.Written }),
		Disk:       pick(func(u Usage) int64 { return u.Disk }),
	}
}

// FloorStats are the figures of the floors.
func (r *Run) FloorStats() []Stat {
	values := map[string][]Seconds{}
	var order []string
	add := func(name string, v Seconds) {
		if v == 0 {
			return
		}
		if !slices.Contains(order, name) {
			order = append(order, name)
		}
		values[name] = append(values[name], v)
	}
	for _, k := range []string{Plain, Tuned} {
		for _, f := range r.Floors {
			if f.Kind == k && f.Error == "" {
				add(k, f.Init)
				add(k+": until the node is Ready", f.Ready)
			}
		}
	}
	for _, f := range r.Floors {
		if f.Error == "" {
			add("etcd and kube-apiserver: until /livez is well", f.Health)
			add("etcd and kube-apiserver: until /readyz is well", f.Serving)
		}
	}
	var out []Stat
	for _, name := range order {
		out = append(out, stat(name, values[name]))
	}
	return out
}

// Floor returns the median of `kubeadm init` with its own settings, and whether there is one.
func (r *Run) Floor() (Seconds, bool) {
	for _, s := range r.FloorStats() {
		if s.Name == Plain {
			return s.Median, true
		}
	}
	return 0, false
}

// Failures are all starts and floors that failed, and all starts that took more than twice the
// median of their size, one line each.
func (r *Run) Failures() []string {
	var out []string
	for _, s := range r.Starts {
		if s.Error != "" {
			out = append(out, fmt.Sprintf("%d node(s), round %d: %s", s.Nodes, s.Round, s.Error))
		}
	}
	for _, f := range r.Floors {
		if f.Error != "" {
			out = append(out, fmt.Sprintf("%s, round %d: %s", f.Kind, f.Round, f.Error))
		}
	}
	for _, g := range r.Groups() {
		for _, round := range g.Slow {
			out = append(out, fmt.Sprintf("%d node(s), round %d: took more than twice the median of %.2f s", g.Nodes, round, g.Total.Median))
		}
	}
	return out
}

// Print writes the summary for people.
func (r *Run) Print(out io.Writer) error {
	floor, hasFloor := r.Floor()
	w := &printer{out: out}
	line := func(s Stat) { w.row(s.Name, fmt.Sprintf("%8.2f %8.2f %8.2f %4d", s.Median, s.Min, s.Max, s.N)) }
	head := fmt.Sprintf("%8s %8s %8s %4s", "median", "min", "max", "n")
	if stats := r.FloorStats(); len(stats) > 0 {
		w.row("The floor, in seconds", head)
		for _, s := range stats {
			line(s)
		}
	}
	for _, g := range r.Groups() {
		title := fmt.Sprintf("%d node(s)", g.Nodes)
		if hasFloor && g.Typical != nil {
			title += fmt.Sprintf(", %.2f × kubeadm init", g.Total.Median/floor)
		}
		if g.Failed > 0 {
			title += fmt.Sprintf(", %d failed", g.Failed)
		}
		w.row("", "")
		w.row(title+": reached after", head)
		for _, s := range g.Marks {
			line(s)
		}
		w.row("  took", "")
		for _, s := range g.Phases {
			line(s)
		}
	}
	w.row("", "")
	w.row("MiB after a start", fmt.Sprintf("%8s %8s %8s %8s %8s", "PSS", "used", "written", "disk", "CPU s"))
	mib := func(n int64) float64 { return float64(n) / (1 << 20) }
	for _, g := range r.Groups() {
		for _, u := range g.Usage {
			w.row(fmt.Sprintf("%d node(s): %s", g.Nodes, u.Kind), fmt.Sprintf("%8.1f %8.1f %8.1f %8.1f %8.2f", mib(u.PSS), mib(u.WorkingSet), mib(u.Written), mib(u.Disk), u.CPU))
		}
	}
	for _, f := range r.Failures() {
		w.row(f, "")
	}
	return w.err
}

// printer writes rows of a name and its figures, and keeps the first error.
type printer struct {
	out io.Writer
	err error
}

func (p *printer) row(name, figures string) {
	if p.err == nil {
		// Not %-52s, which counts bytes.
		pad := strings.Repeat(" ", max(0, 52-utf8.RuneCountInString(name)))
		_, p.err = fmt.Fprintln(p.out, strings.TrimRight(name+pad+figures, " "))
	}
}
