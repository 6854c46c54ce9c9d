package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/cluster/control"
	"github.com/dind-cluster/dind-cluster/cluster/topology"
	"github.com/dind-cluster/dind-cluster/internal/kubeapi"
)

func stateOf(c v1alpha1.Cluster) *state {
	t := topology.Resolve(c)
	return &state{Settings: c, Topology: t, Joined: topology.Names(t.Nodes)}
}

// What users say of new nodes: what is said beside a file holds.
func TestWanted(t *testing.T) {
	for _, test := range []struct {
		name string
		r    control.Request
		want string // as %+v has it, or the error
	}{
		{"nothing", control.Request{}, `worker "" map[] []`},
		{"names", control.Request{Nodes: []string{"a1", "b1"}, Labels: []string{"x=y"}}, `worker "a1" map[x:y] []; worker "b1" map[x:y] []`},
		{"a file, and more", control.Request{
			File: &control.File{Name: "f", Data: []byte("role: control-plane\ncount: 2\nlabels: {x: 1, y: 2}")}, Role: "worker",
			Labels: []string{"y=3"}, Taints: []string{"k=v:NoSchedule", "example.org/k:NoExecute"},
		}, `worker "" map[x:1 y:3] [{k v NoSchedule} {example.org/k  NoExecute}]; worker "" map[x:1 y:3] [{k v NoSchedule} {example.org/k  NoExecute}]`},
		{"all mistakes at once", control.Request{Count: 200, Labels: []string{"x"}, Taints: []string{"k=v", ":NoExecute"}},
			"200 nodes: want a whole number from 1 to 100\nlabel \"x\": want KEY=VALUE\ntaint \"k=v\": want KEY=VALUE:EFFECT or KEY:EFFECT\ntaint \":NoExecute\": want KEY=VALUE:EFFECT or KEY:EFFECT"},
		{"names and a number", control.Request{Count: 3, Nodes: []string{"a1"}}, "3 nodes and 1 names: leave one of them away"},
		{"one name for several", control.Request{Count: 3, File: &control.File{Data: []byte("name: a1")}}, `3 nodes cannot have the one name "a1"`},
		{"a file with a mistake", control.Request{File: &control.File{Name: "f.yaml", Data: []byte("rule: worker")}}, "f.yaml: line 1: rule: no such field: did you mean role?"},
	} {
		nodes, err := wanted(test.r)
		var all []string
		for _, n := range nodes {
			all = append(all, fmt.Sprintf("%s %q %v %v", n.Role, n.Name, n.Labels, n.Taints))
		}
		got := strings.Join(all, "; ")
		if err != nil {
			if got = err.Error(); !control.Last(err).Usage {
				t.Errorf("%s: %v is not the user's mistake", test.name, err)
			}
		}
		if got != test.want {
			t.Errorf("%s: got %s\nwant %s", test.name, got, test.want)
		}
	}
}

func TestGrow(t *testing.T) {
	three := v1alpha1.Default()
	three.Nodes = []v1alpha1.Node{{Role: v1alpha1.RoleControlPlane}, {Role: v1alpha1.RoleWorker, Count: new(3)}}
	s := stateOf(three)
	// worker2 is gone, and worker1 not yet.
	s.Leaving = slices.DeleteFunc(slices.Clone(s.Topology.Nodes), func(n topology.Node) bool { return n.Name != "worker1" })
	s.Topology.Nodes = without(without(s.Topology.Nodes, "worker1"), "worker2")
	s.Settings.Nodes = slices.DeleteFunc(s.Settings.Expand(), func(n v1alpha1.Node) bool { return !s.Topology.Has(n.Name) })
	before := *s
	next, added, err := grow(s, []v1alpha1.Node{{Role: "worker"}, {Role: "worker", Name: "gpu", Labels: map[string]string{"a": "b"}}, {Role: "worker"}}, []string{"worker4"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, n := range added {
		got = append(got, fmt.Sprint(n.Name, " ", n.Slot, " ", n.IPs[0], " ", n.PodCIDRs[0], " ", n.Labels))
	}
	// worker1 is leaving, and worker4 another's Node object.
	want := []string{"worker2 2 10.250.0.4 10.244.2.0/24 map[]", "gpu 4 10.250.0.6 10.244.4.0/24 map[a:b]", "worker5 5 10.250.0.7 10.244.5.0/24 map[]"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	if names := topology.Names(next.Topology.Nodes); !slices.Equal(names, []string{"control-plane", "worker3", "worker2", "gpu", "worker5"}) {
		t.Errorf("got %q", names)
	}
	if len(next.Settings.Expand()) != 5 || len(before.Topology.Nodes) != 2 || len(s.Topology.Nodes) != 2 {
		t.Error("the settings do not have the nodes, or the old state was changed")
	}
	for name, test := range map[string]struct {
		asked []v1alpha1.Node
		want  string
	}{
		"a name that is there":       {[]v1alpha1.Node{{Role: "worker", Name: "worker3"}}, `there is a node "worker3" already`},
		"a name of a Node object":    {[]v1alpha1.Node{{Role: "worker", Name: "worker4"}}, `there is a Node object "worker4" already`},
		"twice":                      {[]v1alpha1.Node{{Role: "worker", Name: "x1"}, {Role: "worker", Name: "x1"}}, `the name "x1" is given twice`},
		"a bad name and a bad label": {[]v1alpha1.Node{{Role: "worker", Name: "X"}, {Role: "worker", Labels: map[string]string{"-": ""}}}, "\nname: \"X\": want"},
		"too many":                   {slices.Repeat([]v1alpha1.Node{{Role: "worker"}}, 99), "101 nodes: want at most 100"},
		"a role":                     {[]v1alpha1.Node{{Role: "master"}}, `role: "master": want control-plane or worker`},
		"a control plane":            {[]v1alpha1.Node{{Role: "control-plane"}}, "networking.apiServerLoadBalancer: true"},
	} {
		_, _, err := grow(s, test.asked, []string{"worker4"})
		if err == nil || !strings.Contains("\n"+err.Error(), test.want) || !control.Last(err).Usage {
			t.Errorf("%s: got %v\nwant %s", name, err, test.want)
		}
	}
}

// A control plane that is added comes before the workers, since the first node always is one.
func TestGrowControlPlanes(t *testing.T) {
	c := v1alpha1.Default()
	c.Networking.APIServerLoadBalancer = true
	next, _, err := grow(stateOf(c), []v1alpha1.Node{{Role: "control-plane"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if names := topology.Names(next.Topology.Nodes); !slices.Equal(names, []string{"control-plane", "control-plane2", "worker1", "worker2"}) || !next.Topology.Balanced() {
		t.Errorf("got %q, balanced %v", names, next.Topology.Balanced())
	}
	next.Topology.Nodes = without(next.Topology.Nodes, "control-plane")
	if next.Topology.Init().Name != "control-plane2" || !next.Topology.Balanced() {
		t.Errorf("the first node is %s, balanced %v", next.Topology.Init().Name, next.Topology.Balanced())
	}
}

func TestWorkersByNumber(t *testing.T) {
	c := v1alpha1.Default()
	c.Nodes = []v1alpha1.Node{{Role: "control-plane"}, {Role: "worker", Name: "worker10"}, {Role: "worker", Name: "worker2"}, {Role: "worker", Name: "gpu"}, {Role: "worker", Name: "worker01"}}
	got := topology.Names(workersByNumber(topology.Resolve(c)))
	if !slices.Equal(got, []string{"gpu", "worker01", "worker2", "worker10"}) {
		t.Errorf("got %q", got)
	}
}

// The last control plane stays, and so does what nothing is known of.
func TestRemoveRefused(t *testing.T) {
	c := &cluster{topology: topology.Resolve(v1alpha1.Default())}
	for want, names := range map[string][]string{
		"there is no node \"worker9\": there are control-plane, worker1, worker2": {"worker9", "worker1"},
		"node \"worker1\" is named twice":                                         {"worker1", "worker1"},
		"the last control plane":                                                  {"worker1", "control-plane"},
	} {
		all, err := c.find(names)
		if err == nil {
			err = c.remove(t.Context(), request{}, all)
		}
		if err == nil || !strings.Contains(err.Error(), want) || !control.Last(err).Usage {
			t.Errorf("%q: got %v, want %s", names, err, want)
		}
	}
}

func TestEvictable(t *testing.T) {
	for text, want := range map[string]bool{
		`{"metadata":{"ownerReferences":[{"kind":"ReplicaSet","controller":true}]},"status":{"phase":"Running"}}`: true,
		`{"status":{"phase":"Pending"}}`: true,
		`{"metadata":{"ownerReferences":[{"kind":"DaemonSet","controller":true}]},"status":{"phase":"Running"}}`:                       false,
		`{"metadata":{"ownerReferences":[{"kind":"Job","controller":true}]},"status":{"phase":"Succeeded"}}`:                           false,
		`{"metadata":{"annotations":{"kubernetes.io/config.mirror":"x"},"ownerReferences":[{"kind":"Node","controller":true}]}}`:       false,
		`{"metadata":{"ownerReferences":[{"kind":"ReplicaSet","controller":true},{"kind":"DaemonSet"}]},"status":{"phase":"Running"}}`: true,
	} {
		var p kubeapi.Pod
		decode(t, text, &p)
		if got := evictable(p); got != want {
			t.Errorf("%s: got %v", text, got)
		}
	}
}

// A request interrupts what goes on by itself, and has its turn.
func TestTurn(t *testing.T) {
	turn := newTurn()
	began, ended := make(chan struct{}), make(chan bool)
	go func() {
		ended <- turn.spare(t.Context(), func(ctx context.Context) bool {
			close(began)
			<-ctx.Done()
			return false
		})
	}()
	<-began
	release, err := turn.take(t.Context())
	if err != nil || <-ended {
		t.Fatalf("got %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := turn.take(ctx); err == nil {
		t.Error("two have their turn at a time")
	}
	release()
	if !turn.spare(t.Context(), func(context.Context) bool { return true }) {
		t.Error("nobody waits, and there is no turn")
	}
}

func TestCondition(t *testing.T) {
	for _, what := range []string{"ready", "api", "nodes", "nodes=3", "node/worker1"} {
		if _, err := condition(what); err != nil {
			t.Error(err)
		}
	}
	for _, what := range []string{"", "node/", "nodes=", "nodes=0", "nodes=x", "pods"} {
		if _, err := condition(what); err == nil || !strings.Contains(err.Error(), "want ready, api, nodes") {
			t.Errorf("%q: got %v", what, err)
		}
	}
}

func TestParsePlace(t *testing.T) {
	for text, want := range map[string]place{
		"worker1:/a:b": {"worker1", "/a:b"}, "/a:b": {"", "/a:b"}, "./a:b": {"", "./a:b"}, "a": {"", "a"}, ":a": {"", ":a"}, "worker1:": {"worker1", ""},
	} {
		if got := parsePlace(text); got != want {
			t.Errorf("%s: got %+v", text, got)
		}
	}
}

// A report has each node, those that come and go included.
func TestNodeReports(t *testing.T) {
	s := stateOf(v1alpha1.Default())
	s.Joined = []string{"control-plane"}
	s.Leaving = []topology.Node{{Name: "worker9", Role: "worker"}}
	var n kubeapi.Node
	decode(t, `{"metadata":{"name":"control-plane","creationTimestamp":"2026-01-02T03:04:05Z"},"spec":{"unschedulable":true},
		"status":{"conditions":[{"type":"Ready","status":"True"}],"nodeInfo":{"kubeletVersion":"v1"}}}`, &n)
	var got []string
	for _, r := range nodeReports(s, nil, []kubeapi.Node{n}) {
		got = append(got, fmt.Sprintf("%s %s %s %v %v %q", r.Name, r.State, r.Version, r.Ready, r.Schedulable, r.Message))
	}
	want := []string{
		`control-plane missing v1 false false "its container is missing"`, `worker1 joining  false false "it is not registered"`,
		`worker2 joining  false false "it is not registered"`, `worker9 leaving  false false "it is not registered"`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}
