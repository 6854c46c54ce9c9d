package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/cluster/action"
	"github.com/dind-cluster/dind-cluster/cluster/node"
	"github.com/dind-cluster/dind-cluster/cluster/store"
	"github.com/dind-cluster/dind-cluster/cluster/timeline"
	"github.com/dind-cluster/dind-cluster/cluster/topology"
	"github.com/dind-cluster/dind-cluster/internal/docker"
	"github.com/dind-cluster/dind-cluster/internal/docker/dockertest"
	"github.com/dind-cluster/dind-cluster/internal/kubeapi"
	"github.com/dind-cluster/dind-cluster/internal/pki"
	"github.com/dind-cluster/dind-cluster/internal/progress"
)

func TestMain(m *testing.M) { dockertest.Main(m) }

func TestCheckDisk(t *testing.T) {
	if err := checkDisk(3, 100<<30); err != nil {
		t.Error(err)
	}
	err := checkDisk(3, 1<<30)
	for _, want := range []string{"/var/lib/docker has 1.1 GB free", "3 nodes", "docker system prune"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error that says %q", err, want)
		}
	}
}

func TestCheckInodes(t *testing.T) {
	if err := errors.Join(checkInodes(3, 1<<20, 10000), checkInodes(3, 0, 0)); err != nil {
		t.Error(err)
	}
	err := checkInodes(3, 1<<20, 9999)
	for _, want := range []string{"9999 more files", "3 nodes needs 10000", "docker system prune"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error that says %q", err, want)
		}
	}
}

func TestCheckSubnets(t *testing.T) {
	for attached, want := range map[string]string{
		"172.17.0.0/16": "",
		"10.250.0.0/16": "NODE_SUBNET 10.250.0.0/24 overlaps the network 10.250.0.0/16",
		"10.244.7.0/24": "POD_SUBNET 10.244.0.0/16",
		"10.0.0.0/8":    "docker run --env NODE_SUBNET=",
	} {
		err := checkSubnets(v1alpha1.Default().Networking, []netip.Prefix{netip.MustParsePrefix(attached)})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v, want %q", attached, err, want)
		}
	}
}

func TestRoutes(t *testing.T) {
	settings := v1alpha1.Default()
	settings.Nodes = v1alpha1.Workers(1)
	want := `route replace 10.96.0.0/16 via 10.250.0.2 dev nodes
route replace 10.244.0.0/24 via 10.250.0.2 dev nodes
route replace 10.244.1.0/24 via 10.250.0.3 dev nodes
`
	if got := routes(topology.Resolve(settings)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	settings.Networking.PodNetwork = v1alpha1.PodNetworkNone
	if got := routes(topology.Resolve(settings)); strings.Count(got, "\n") != 1 {
		t.Errorf("got\n%s\nwant a route to the services only", got)
	}
}

// The options of a node's container. Without Docker a test can only read them; //e2e:smoke tests
// what they do.
func TestRunArgs(t *testing.T) {
	nodes := topology.Resolve(v1alpha1.Default()).Nodes
	control, worker := runArgs(nodes[0]), runArgs(nodes[1])
	for _, option := range [][]string{
		{"--name", "worker1"}, {"--ip", "10.250.0.3"}, {"--cgroupns", "private"},
		{"--volume", "/var/lib/docker/dind-cluster/nodes/worker1:/etc/dind-cluster:ro"},
	} {
		if i := slices.Index(worker, option[1]); i < 1 || worker[i-1] != option[0] {
			t.Errorf("got %q, want %q", worker, option)
		}
	}
	if !slices.Contains(control, "6443:6443/tcp") || slices.Contains(worker, "--publish") {
		t.Errorf("want the API server published, and nothing else: got %q, %q", control, worker)
	}
	dual := nodes[1]
	dual.IPs = append(dual.IPs, netip.MustParseAddr("fd00::3"))
	if args := strings.Join(runArgs(dual), " "); !strings.Contains(args, "--ip 10.250.0.3 --ip6 fd00::3") {
		t.Errorf("got %q", args)
	}
}

// What a node mounts below /run and /tmp lies on their tmpfs.
func TestRunArgsTmpfs(t *testing.T) {
	for targets, want := range map[string][]string{
		"/srv/a /var/tmp/a /runs/a": nil,
		"/tmp/a /tmp/b":             {"/tmp:exec,mode=1777"},
		"/tmp /tmp/a":               nil,
		"/var/run/docker.sock":      {"/run:exec,mode=755"},
		"/run/a/b /tmp/c":           {"/run:exec,mode=755", "/tmp:exec,mode=1777"},
	} {
		n := topology.Resolve(v1alpha1.Default()).Nodes[1]
		for _, target := range strings.Fields(targets) {
			n.Mounts = append(n.Mounts, topology.Mount{Source: "/host/x", Target: target, Propagation: "rprivate"})
		}
		var got []string
		args := runArgs(n)
		for i, a := range args {
			if a == "--tmpfs" {
				got = append(got, args[i+1])
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", targets, got, want)
		}
	}
}

// A load balancer that runs on from an interrupted start has none of the keys of the next one.
func TestBalancerVerb(t *testing.T) {
	for resumed, want := range map[bool]string{false: "restart", true: "start"} {
		if got := (&cluster{resumed: resumed}).balancerVerb(); got != want {
			t.Errorf("resumed %v: got %s, want %s", resumed, got, want)
		}
	}
}

// A node that dies ends the start at once, whatever is being waited for.
func TestNodeDies(t *testing.T) {
	client, _ := dockertest.New(t, dockertest.Reply{
		Args:   "events",
		Stdout: `{"Type":"container","Action":"die","Actor":{"ID":"1","Attributes":{"name":"worker1","exitCode":"137"}}}` + "\n",
		Hang:   true,
	})
	ctx, fail := context.WithCancelCause(t.Context())
	defer fail(nil)
	c := &cluster{topology: topology.Resolve(v1alpha1.Default()), docker: client, fail: fail}
	c.watch(ctx)
	select {
	case <-ctx.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("nothing happened")
	}
	if err := context.Cause(ctx); !strings.Contains(err.Error(), "node worker1 stopped while the cluster was starting (exit status 137)") {
		t.Errorf("got %v", err)
	}
}

// A cluster comes back without a worker that does not, and no action waits for that worker.
func TestWorkerIsLost(t *testing.T) {
	ctx, fail := context.WithCancelCause(t.Context())
	defer fail(nil)
	var out strings.Builder
	c := &cluster{topology: topology.Resolve(v1alpha1.Default()), resumed: true, fail: fail, log: progress.New(&out)}
	tries := 0
	detail, err := c.attempt(ctx, action.Action{Name: "waiting", Retry: true, Run: func(ctx context.Context) (string, error) {
		tries++
		if want := c.expected(); len(want) < 3 {
			return fmt.Sprint(topology.Names(want)), nil
		}
		c.lose("worker1", errors.New("no disk"))
		<-ctx.Done()
		return "", ctx.Err()
	}})
	if err != nil || tries != 2 || detail != "[control-plane worker2]" || ctx.Err() != nil {
		t.Errorf("got %q, %v after %d tries", detail, err, tries)
	}
	if err := c.losses(); err == nil || err.Error() != "no disk" {
		t.Errorf("lost: %v", err)
	}
	if !strings.Contains(out.String(), "no disk") {
		t.Errorf("the progress does not say it: %q", out.String())
	}
	// What starts the others goes on.
	if _, err := c.attempt(ctx, action.Action{Name: "starting", Run: func(ctx context.Context) (string, error) {
		c.lose("worker2", errors.New("no disk either"))
		return "", ctx.Err()
	}}); err != nil {
		t.Errorf("a lost worker interrupts the start of the others: %v", err)
	}
	c.lost = nil
	// Without the control plane there is nothing to come back to.
	c.lose("control-plane", errors.New("no etcd"))
	if err := context.Cause(ctx); err == nil || err.Error() != "no etcd" {
		t.Errorf("got %v", err)
	}
}

// The time that systemd and Docker took is that since the entrypoint began, which the copying of
// the images is a part of.
func TestBooted(t *testing.T) {
	var out strings.Builder
	begin := time.Now().Add(-3 * time.Second)
	c := &cluster{log: progress.New(&out).Since(begin)}
	c.booted(begin, store.Result{Start: begin.Add(20 * time.Millisecond), Took: time.Millisecond})
	path := filepath.Join(t.TempDir(), "timeline.json")
	if err := c.spans.Write(path, timeline.Timeline{Start: begin}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	line, err := timeline.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	first := line.Spans[0]
	if first.Name != "systemd and Docker" || !first.Start.Equal(line.Start) || first.End.Sub(first.Start) < 3*time.Second {
		t.Errorf("got %+v", first)
	}
	if len(line.Spans) != 2 || !strings.Contains(out.String(), "systemd and Docker are up") {
		t.Errorf("got %+v, %q", line.Spans, out.String())
	}
}

func TestReports(t *testing.T) {
	ctx, fail := context.WithCancelCause(t.Context())
	defer fail(nil)
	var out strings.Builder
	c := &cluster{topology: topology.Resolve(v1alpha1.Default()), fail: fail, log: progress.New(&out), failures: &failures{}}
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() { c.receive(ours); close(done) }()
	send := json.NewEncoder(theirs)
	for _, r := range []node.Report{
		{Node: "worker1", Step: "kubeadm join", Took: 1500 * time.Millisecond},
		{Node: "worker2", Error: "kubeadm join: exit status 1", Log: "the reason\n"},
	} {
		if err := send.Encode(r); err != nil {
			t.Fatal(err)
		}
	}
	_, _ = io.WriteString(theirs, "garbage")
	theirs.Close()
	<-done
	if !strings.Contains(out.String(), "worker1: kubeadm join (1.50 s)") {
		t.Errorf("progress is %q", out.String())
	}
	if err := context.Cause(ctx); err == nil || err.Error() != "node worker2: kubeadm join: exit status 1" {
		t.Errorf("got %v", err)
	}
	if all := c.failures.all(); len(all) != 1 || all[0].Log != "the reason\n" {
		t.Errorf("got %+v", all)
	}
}

func TestContainerAge(t *testing.T) {
	age, err := containerAge()
	if err != nil {
		t.Fatal(err)
	}
	// ps goes by the same file, and knows whole seconds.
	out, err := exec.Command("ps", "-o", "etimes=", "-p", "1").Output()
	if err != nil {
		t.Skip(err)
	}
	want, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatal(err)
	}
	if got := age().Seconds(); got < float64(want)-3 || got > float64(want)+3 {
		t.Errorf("got %.1f s, want %d s", got, want)
	}
}

// Ten seconds after a start.
var testStart = time.Date(2026, 1, 1, 12, 0, 0, 900, time.UTC)

func sinceTestStart(t time.Time) bool {
	const passed = 10 * time.Second
	return after(testStart, func() time.Time { return testStart.Add(passed) }, func() time.Duration { return passed })(t)
}

func TestUnreadyNodes(t *testing.T) {
	settings := v1alpha1.Default()
	settings.Nodes = v1alpha1.Workers(4)
	found := map[string]kubeapi.Node{}
	for name, text := range map[string]string{
		"control-plane": `{"status":{"conditions":[{"type":"Ready","status":"True","lastHeartbeatTime":"2026-01-01T12:00:00Z"}]}}`,
		"worker1":       `{"status":{"conditions":[{"type":"Ready","status":"True","lastHeartbeatTime":"2026-01-01T11:59:59Z"}]}}`,
		"worker2":       `{"status":{"conditions":[{"type":"Ready","status":"False","message":"no CNI"}]}}`,
		"worker3":       `{}`,
	} {
		var n kubeapi.Node
		decode(t, text, &n)
		found[name] = n
	}
	want := []string{"worker1: it has not reported since the start", "worker2: no CNI", "worker3: no status yet", "worker4: it is not registered"}
	if got := unreadyNodes(found, topology.Resolve(settings).Nodes, sinceTestStart); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func decode(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatal(err)
	}
}

// Whatever is in kube-system, a cluster comes back without what is the user's.
func TestUnreadyPods(t *testing.T) {
	const (
		good    = `"status":{"conditions":[{"type":"Ready","status":"True"}],"containerStatuses":[{"name":"c","state":{"running":{"startedAt":"2026-01-01T12:00:01Z"}}}]}`
		old     = `"status":{"conditions":[{"type":"Ready","status":"True"}],"containerStatuses":[{"name":"c","state":{"running":{"startedAt":"2026-01-01T11:00:00Z"}}}]}`
		noImage = `"status":{"containerStatuses":[{"name":"c","state":{"waiting":{"reason":"ErrImageNeverPull"}}}]}`
		ended   = `"status":{"containerStatuses":[{"name":"c","state":{"terminated":{"reason":"Error","exitCode":1}}}]}`
		done    = `"status":{"phase":"Succeeded","conditions":[{"type":"Ready","status":"False","reason":"PodCompleted"}],"containerStatuses":[{"name":"c","state":{"terminated":{"reason":"Completed"}}}]}`
		evicted = `"status":{"phase":"Failed","reason":"Evicted"}`
		static  = `"annotations":{"kubernetes.io/config.mirror":"1"}`
		proxy   = `"labels":{"k8s-app":"kube-proxy"}`
		dns     = `"labels":{"k8s-app":"kube-dns"}`
	)
	pods := map[string]kubeapi.Pod{}
	for name, p := range map[string]struct{ meta, node, status string }{
		"etcd-control-plane":                    {static, "control-plane", good},
		"kube-apiserver-control-plane":          {static, "control-plane", good},
		"kube-controller-manager-control-plane": {static, "control-plane", old},
		"proxy-1":                               {proxy, "worker1", ended},
		"proxy-2":                               {proxy, "worker2", noImage}, // on a node that is lost
		"dns-1":                                 {dns, "", `"status":{"conditions":[{"type":"PodScheduled","status":"False"}]}`},
		"dns-2":                                 {dns, "worker1", evicted},
		"dns-3":                                 {dns + `,"deletionTimestamp":"2026-01-01T12:00:00Z"`, "worker1", old},
		"job":                                   {`"labels":{}`, "worker1", done},
		"user-1":                                {`"labels":{}`, "worker1", noImage},
		"user-2":                                {`"labels":{}`, "worker1", good},
	} {
		var pod kubeapi.Pod
		decode(t, `{"metadata":{"name":"`+name+`",`+p.meta+`},"spec":{"nodeName":"`+p.node+`"},`+p.status+`}`, &pod)
		pods["kube-system/"+name] = pod
	}
	const prefix = "kube-system/"
	needed, others := unreadyPods(pods, topology.Resolve(v1alpha1.Default()).Nodes[:2], sinceTestStart, true)
	if want := []string{
		prefix + "dns-1: no status yet",
		prefix + "kube-controller-manager-control-plane: it has not started again",
		prefix + "proxy-1: container c is not running",
	}; !slices.Equal(needed, want) {
		t.Errorf("needed: got %q, want %q", needed, want)
	}
	if want := []string{
		prefix + "dns-2: Evicted",
		prefix + "dns-3: it has not started again",
		prefix + "proxy-2: ErrImageNeverPull",
		prefix + "user-1: ErrImageNeverPull",
	}; !slices.Equal(others, want) {
		t.Errorf("others: got %q, want %q", others, want)
	}
	// A new cluster has nothing that is the user's. What is not there yet counts, too.
	needed, others = unreadyPods(pods, topology.Resolve(v1alpha1.Default()).Nodes, sinceTestStart, false)
	if len(needed) != 9 || len(others) != 0 || !slices.Contains(needed, prefix+"kube-scheduler-control-plane: it does not appear yet") {
		t.Errorf("new cluster: got %q, %q", needed, others)
	}
}

// The clock is set while a cluster comes back: what was noted before is not lost, and what is from
// an earlier start does not count.
func TestClockIsSet(t *testing.T) {
	const passed = 20 * time.Second
	for _, test := range []struct {
		name string
		set  time.Duration // by how much, after the start
		at   time.Duration // the time noted, relative to the start by the clock as it was at the start
		want bool
	}{
		{"before the start", 0, -2 * time.Second, false},
		{"in this start", 0, 10 * time.Second, true},
		{"in the future, as after the clock was set back while the cluster was stopped", 0, time.Hour, false},
		{"set back, noted before that", -time.Hour, 5 * time.Second, true},
		{"set back, noted after that", -time.Hour, 15*time.Second - time.Hour, true},
		{"set back, from before the start", -time.Hour, -2 * time.Minute, false},
		{"set forward, noted before that", time.Hour, 5 * time.Second, true},
		{"set forward, noted after that", time.Hour, 15*time.Second + time.Hour, true},
		{"set forward, from before the start", time.Hour, -2 * time.Minute, false},
	} {
		now := testStart.Add(passed + test.set)
		since := after(testStart, func() time.Time { return now }, func() time.Duration { return passed })
		if got := since(testStart.Add(test.at)); got != test.want {
			t.Errorf("%s: got %v", test.name, got)
		}
	}
}

// What each kind of start waits for, directly or not. What is not asked for must be possible at the
// same time: the first node is not to wait for the others, nor are the nodes that have joined.
func TestPlan(t *testing.T) {
	all := topology.Resolve(v1alpha1.Default()).Nodes
	const last = "waiting until everything is ready"
	for _, test := range []struct {
		name    string
		resumed bool
		changes changes
		cores   int
		needs   map[string][]string
		not     map[string]string
	}{
		{"new", false, changes{create: all}, coresPerNode * len(all), map[string][]string{
			"starting the first node":    {"making keys", "making the nodes' network"},
			"starting the other nodes":   {"starting the first node"},
			"starting the control plane": {"starting the first node"},
			"joining the nodes":          {"starting the control plane"},
			last:                         {"starting the other nodes"},
		}, map[string]string{
			"starting the other nodes": "waiting for the API server",
			"joining the nodes":        "starting the other nodes",
		}},
		{"new, on a small machine", false, changes{create: all}, coresPerNode*len(all) - 1, map[string][]string{
			"starting the other nodes": {"waiting for the API server"},
			last:                       {"starting the other nodes"},
		}, map[string]string{
			"starting the control plane": "starting the other nodes",
			"joining the nodes":          "starting the other nodes",
		}},
		{"interrupted", false, changes{create: all, remove: []docker.Summary{{ID: "1"}}}, 1, map[string][]string{
			"starting the first node": {"removing what is left of an interrupted start"},
		}, nil},
		{"single node", false, changes{create: all[:1]}, 1, map[string][]string{
			"joining the nodes": {"starting the control plane"},
		}, nil},
		{"back", true, changes{start: all[:2], create: all[2:]}, 1, map[string][]string{
			"starting the nodes again":   {"making the nodes' network"},
			"starting the control plane": {"starting the nodes again"},
			"making missing nodes":       {"starting the control plane"},
			"joining the nodes":          {"making missing nodes"},
		}, nil},
	} {
		c := &cluster{resumed: test.resumed, changes: test.changes}
		list := c.plan(test.cores)
		if err := action.Run(t.Context(), list, func(context.Context, action.Action) error { return nil }); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		needs := map[string][]string{} // of each action, and what those need
		for _, a := range list {
			for _, need := range a.Needs {
				needs[a.Name] = append(needs[a.Name], append(needs[need], need)...)
			}
		}
		for name, want := range test.needs {
			for _, need := range want {
				if !slices.Contains(needs[name], need) {
					t.Errorf("%s: %q does not need %q, only %q", test.name, name, need, needs[name])
				}
			}
		}
		for name, need := range test.not {
			if needs[name] == nil || slices.Contains(needs[name], need) {
				t.Errorf("%s: %q needs %q", test.name, name, needs[name])
			}
		}
		for _, a := range list {
			if a.Name != last && !slices.Contains(needs[last], a.Name) {
				t.Errorf("%s: the cluster is ready without %q", test.name, a.Name)
			}
		}
	}
}

// A start that is given up says why, and not that an action was interrupted.
func TestGivenUp(t *testing.T) {
	ctx, fail := context.WithCancelCause(t.Context())
	var out strings.Builder
	c := &cluster{log: progress.New(&out), whole: ctx, fail: fail}
	wait := func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() }
	go fail(errors.New("no disk"))
	err := action.Run(ctx, []action.Action{{Name: "joining", Run: wait}, {Name: "ready", Needs: []string{"joining"}, Run: wait}}, c.do)
	if err == nil || err.Error() != "joining: no disk" || !strings.Contains(out.String(), "! joining") {
		t.Errorf("got %v, %q", err, out.String())
	}
}

// Of several control planes any may be lost, but not all.
func TestLostControlPlanes(t *testing.T) {
	s := v1alpha1.Default()
	three := 3
	s.Nodes = []v1alpha1.Node{{Role: topology.ControlPlane, Count: &three}}
	want := topology.Resolve(s)
	have := func(names ...string) (out []docker.Summary) {
		for _, name := range names {
			out = append(out, docker.Summary{ID: name, Names: name})
		}
		return out
	}
	joined := topology.Names(want.Nodes)
	got, err := difference(want.Nodes, have("control-plane2", "control-plane3"), joined)
	if err != nil || !slices.Equal(topology.Names(got.create), []string{"control-plane"}) {
		t.Errorf("the first is gone: got %+v, %v", got, err)
	}
	if _, err := difference(want.Nodes, nil, joined); !errors.Is(err, errNoControlPlane) {
		t.Errorf("all are gone: got %v", err)
	}
	if st := (&state{Topology: want, Joined: []string{"control-plane2"}}); !st.created() {
		t.Error("a cluster without its first control plane counts as none")
	}

	ctx, fail := context.WithCancelCause(t.Context())
	defer fail(nil)
	var out strings.Builder
	c := &cluster{topology: want, resumed: true, fail: fail, log: progress.New(&out)}
	c.lose("control-plane", errors.New("one"))
	c.lose("control-plane3", errors.New("two"))
	if ctx.Err() != nil {
		t.Errorf("given up, with a control plane left: %v", context.Cause(ctx))
	}
	c.lose("control-plane2", errors.New("three"))
	if err := context.Cause(ctx); err == nil || err.Error() != "three" {
		t.Errorf("got %v", err)
	}
}

func TestMemberID(t *testing.T) {
	const list = "3dfd98e9da4c2ba4, started, control-plane3, https://10.250.0.4:2380, https://10.250.0.4:2379, false\n" +
		"8211f1d0f64f3269, unstarted, , https://10.250.0.3:2380, , true\n91bc3c398fb3c146, started, control-plane, https://10.250.0.2:2380, https://10.250.0.2:2379, false\n"
	for name, want := range map[string]string{"control-plane": "91bc3c398fb3c146", "control-plane3": "3dfd98e9da4c2ba4", "control-plane2": ""} {
		if got := memberID(list, name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

func TestDifference(t *testing.T) {
	p := topology.Resolve(v1alpha1.Default()) // control-plane, worker1, worker2
	all := []string{"control-plane", "worker1", "worker2"}
	for _, test := range []struct {
		name         string
		have, joined []string
		want         string
		err          error
	}{
		{name: "a new cluster", want: "remove [] start [] create [control-plane worker1 worker2]"},
		{name: "as it was", have: all, joined: all, want: "remove [] start [control-plane worker1 worker2] create []"},
		{name: "a worker is gone", have: []string{"worker2", "control-plane"}, joined: all, want: "remove [] start [control-plane worker2] create [worker1]"},
		{name: "a worker had not joined", have: all, joined: []string{"control-plane", "worker2"}, want: "remove [worker1] start [control-plane worker2] create [worker1]"},
		{name: "one too many", have: append([]string{"worker3"}, all...), joined: append([]string{"worker3"}, all...), want: "remove [worker3] start [control-plane worker1 worker2] create []"},
		{name: "interrupted before the control plane was made", have: all, want: "remove [control-plane worker1 worker2] start [] create [control-plane worker1 worker2]"},
		{name: "interrupted, with a worker that was quicker", have: all[:2], joined: all[1:2], want: "remove [control-plane worker1] start [] create [control-plane worker1 worker2]"},
		{name: "the control plane is gone", have: all[1:], joined: all, err: errNoControlPlane},
		{name: "all are gone", joined: all, err: errNoControlPlane},
	} {
		var have []docker.Summary
		for _, name := range test.have {
			have = append(have, docker.Summary{ID: "id of " + name, Names: name})
		}
		got, err := difference(p.Nodes, have, test.joined)
		if !errors.Is(err, test.err) {
			t.Errorf("%s: got error %v, want %v", test.name, err, test.err)
		}
		var remove []string
		for _, r := range got.remove {
			remove = append(remove, r.Names)
		}
		if text := fmt.Sprint("remove ", remove, " start ", topology.Names(got.start), " create ", topology.Names(got.create)); err == nil && text != test.want {
			t.Errorf("%s: got  %s\nwant %s", test.name, text, test.want)
		}
	}
}

func TestState(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if _, err := loadState(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no state: got %v", err)
	}
	keys, err := newSecrets(pki.ECDSAP256, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s := &state{Settings: v1alpha1.Default(), Topology: topology.Resolve(v1alpha1.Default()), Secrets: *keys, Joined: []string{}}
	for range 2 {
		if err := s.save(dir); err != nil {
			t.Fatal(err)
		}
	}
	got, err := loadState(dir)
	if err != nil || !reflect.DeepEqual(got, s) || got.created() {
		t.Errorf("got %+v, %v\nwant %+v", got, err, s)
	}
	s.Joined = []string{"control-plane"}
	if err := s.save(dir); err != nil {
		t.Fatal(err)
	}
	if got, err = loadState(dir); err != nil || !got.created() {
		t.Errorf("got %+v, %v", got, err)
	}
	path := filepath.Join(dir, "cluster.json")
	for _, test := range []struct {
		path string
		mode os.FileMode
	}{{dir, 0o700 | os.ModeDir}, {path, 0o600}} {
		if info, err := os.Stat(test.path); err != nil || info.Mode() != test.mode {
			t.Errorf("%s has mode %v, want %v (%v)", test.path, info.Mode(), test.mode, err)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("files are left: %v, %v", entries, err)
	}
	// Each of them is refused, in words that say what to do, and stays.
	for text, want := range map[string]string{
		"":                                       "is damaged: unexpected end of JSON input",
		`{"version":2,"settings":{"nodes":3`:     "is damaged: unexpected end",
		`{"version":2}`:                          "is damaged: it lacks the nodes or the keys",
		`{"version":1,"nodes":"another format"}`: "was made by another version",
		`{"plan":{"nodes":3}}`:                   "was made by another version",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := loadState(dir)
		if err == nil || errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "new volume") {
			t.Errorf("%q: got %v", text, err)
		}
		if data, err := os.ReadFile(path); err != nil || string(data) != text {
			t.Errorf("the file is now %q, %v", data, err)
		}
	}
}

func TestSecretsAreNew(t *testing.T) {
	a, err := newSecrets(pki.ECDSAP256, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	b, err := newSecrets(pki.ECDSAP256, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if string(a.CA.Key) == string(b.CA.Key) {
		t.Error("two clusters share a secret")
	}
	c := &cluster{topology: topology.Resolve(v1alpha1.Default()), state: &state{Secrets: *a}}
	if err := c.connect(); err != nil {
		t.Error(err)
	}
}

func TestDownNodes(t *testing.T) {
	settings := v1alpha1.Default()
	settings.Nodes = v1alpha1.Workers(5)
	wanted := topology.Resolve(settings)
	containers := []docker.Summary{
		{Names: "control-plane", State: "running"},
		{Names: "worker1", State: "running"},
		{Names: "worker2", State: "exited"},
		{Names: "worker4", State: "running"},
		{Names: "worker5", State: "running"},
	}
	var registered []kubeapi.Node
	for _, text := range []string{
		`{"metadata":{"name":"control-plane"},"status":{"conditions":[{"type":"Ready","status":"True"}]}}`,
		`{"metadata":{"name":"worker1"},"status":{"conditions":[{"type":"Ready","status":"Unknown","message":"Kubelet stopped posting node status."}]}}`,
		`{"metadata":{"name":"worker2"},"status":{"conditions":[{"type":"Ready","status":"True"}]}}`,
		`{"metadata":{"name":"worker3"},"status":{"conditions":[{"type":"Ready","status":"True"}]}}`,
		`{"metadata":{"name":"worker5"},"status":{"conditions":[{"type":"Ready","status":"True"}]}}`,
	} {
		var n kubeapi.Node
		decode(t, text, &n)
		registered = append(registered, n)
	}
	want := []string{
		"worker1: Kubelet stopped posting node status.",
		"worker2: its container is exited",
		"worker3: its container is gone; a restart of the cluster makes it anew",
		"worker4: it is not registered",
	}
	if got := downNodes(wanted, containers, registered); !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	// Without a pod network nodes are never ready.
	wanted.Networks.PodNetwork = v1alpha1.PodNetworkNone
	if got := downNodes(wanted, containers, registered); !slices.Equal(got, want[1:]) {
		t.Errorf("without a pod network: got %q", got)
	}
}

// A node that registers gets its pods' addresses, and a control plane what makes it one.
func TestCompletion(t *testing.T) {
	settings := v1alpha1.Default()
	for slot, want := range []string{
		`{"metadata":{"labels":{"node-role.kubernetes.io/control-plane":"","node.kubernetes.io/exclude-from-external-load-balancers":""}},"spec":{"podCIDR":"10.244.0.0/24","podCIDRs":["10.244.0.0/24"],"taints":[{"key":"node-role.kubernetes.io/control-plane","effect":"NoSchedule"}]}}`,
		`{"spec":{"podCIDR":"10.244.1.0/24","podCIDRs":["10.244.1.0/24"]}}`,
	} {
		if got, err := json.Marshal(completion(topology.Resolve(settings).Nodes[slot])); err != nil || string(got) != want {
			t.Errorf("got  %s, %v\nwant %s", got, err, want)
		}
	}
	settings.Nodes = v1alpha1.Workers(0)
	if got, _ := json.Marshal(completion(topology.Resolve(settings).Init())); strings.Contains(string(got), "taints") {
		t.Errorf("the only node runs the pods as well: got %s", got)
	}
}

func TestSmallestMTU(t *testing.T) {
	up := net.FlagUp
	for _, test := range []struct {
		interfaces []net.Interface
		want       int
	}{
		{nil, 1500},
		{[]net.Interface{{Name: "lo", MTU: 65536, Flags: up | net.FlagLoopback}, {Name: "eth0", MTU: 9000, Flags: up}}, 1500},
		{[]net.Interface{{Name: "eth0", MTU: 1200, Flags: up}, {Name: "eth1", MTU: 1400, Flags: up}}, 1200},
		{[]net.Interface{{Name: "eth0", MTU: 1400, Flags: up}, {Name: "tun0", MTU: 600}, {Name: bridgeName, MTU: 500, Flags: up}, {Name: "veth1", MTU: 500, Flags: up}}, 1400},
	} {
		if got := smallestMTU(test.interfaces); got != test.want {
			t.Errorf("%+v: got %d, want %d", test.interfaces, got, test.want)
		}
	}
}

func TestMemory(t *testing.T) {
	for _, test := range []struct {
		name  string
		files map[string]string
		want  int64
	}{
		{"no limit", map[string]string{"sys/fs/cgroup/memory.max": "max\n", "sys/fs/cgroup/memory.current": "5\n"}, 3 << 30},
		{"no memory controller", nil, 3 << 30},
		{"cgroup v2", map[string]string{"sys/fs/cgroup/memory.max": "2147483648\n", "sys/fs/cgroup/memory.current": "1073741824\n"}, 1 << 30},
		{"cgroup v1", map[string]string{"sys/fs/cgroup/memory/memory.limit_in_bytes": "2147483648\n", "sys/fs/cgroup/memory/memory.usage_in_bytes": "1073741824\n"}, 1 << 30},
		{"cgroup v1, no limit", map[string]string{"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n", "sys/fs/cgroup/memory/memory.usage_in_bytes": "1073741824\n"}, 3 << 30},
	} {
		root := t.TempDir()
		files := map[string]string{"proc/meminfo": "MemTotal:        8388608 kB\nMemAvailable:    2097152 kB\nSwapFree:        1048576 kB\nHugePages_Total:       0\n"}
		maps.Copy(files, test.files)
		for name, text := range files {
			path := filepath.Join(root, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := availableMemory(root); err != nil || got != test.want {
			t.Errorf("%s: got %d, %v, want %d", test.name, got, err, test.want)
		}
	}
	if err := checkMemory(3, 4<<30); err != nil {
		t.Error(err)
	}
	if err := checkMemory(100, 8<<30); err == nil || !strings.Contains(err.Error(), "8.6 GB of memory free") || !strings.Contains(err.Error(), "100 nodes") || !strings.Contains(err.Error(), "NODES=") {
		t.Errorf("got %v", err)
	}
}

func TestImageName(t *testing.T) {
	for _, test := range []struct{ index, want, wantErr string }{
		{`{"manifests":[{"annotations":{"io.containerd.image.name":"dind-node:v1","org.opencontainers.image.ref.name":"v1"}}]}`, "dind-node:v1", ""},
		{`{"manifests":[{"annotations":{"org.opencontainers.image.ref.name":"dind-node:v1"}}]}`, "dind-node:v1", ""},
		{`{"manifests":[{}]}`, "", "does not name the image"},
		{`{"manifests":[{},{}]}`, "", "names 2 images"},
		{`{`, "", "reading index.json"},
	} {
		got, err := imageName([]byte(test.index))
		if got != test.want || (err == nil) != (test.wantErr == "") || err != nil && !strings.Contains(err.Error(), test.wantErr) {
			t.Errorf("%s: got %q, %v", test.index, got, err)
		}
	}
}

func TestStoreMounts(t *testing.T) {
	dir := t.TempDir()
	nodeStore, root := filepath.Join(dir, "store"), filepath.Join(dir, "root")
	if got, err := storeMounts(nodeStore, root); got != nil || err != nil {
		t.Errorf("no store: %q, %v", got, err)
	}
	// One snapshot without images, two with; one of them is copied.
	for _, path := range []string{
		nodeStore + "/" + store.Snapshots + "/1/fs/usr/bin",
		nodeStore + "/" + store.Snapshots + "/2/fs/usr/lib/dind-cluster/store/kubernetes",
		nodeStore + "/" + store.Snapshots + "/3/fs/usr/lib/dind-cluster/store/third-party",
		root + "/" + store.Snapshots + "/3/fs/usr/lib/dind-cluster/store/third-party",
	} {
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := storeMounts(nodeStore, root); err == nil || !strings.Contains(err.Error(), "snapshots/2") {
		t.Errorf("a snapshot that was not linked: %v", err)
	}
	for _, id := range []string{"1", "2"} {
		if err := os.Symlink(filepath.Join(nodeStore, store.Snapshots, id), filepath.Join(root, store.Snapshots, id)); err != nil {
			t.Fatal(err)
		}
	}
	got, err := storeMounts(nodeStore, root)
	want := "--volume " + nodeStore + "/" + store.Snapshots + "/2/fs/usr/lib/dind-cluster/store/kubernetes:/usr/lib/dind-cluster/store/kubernetes:ro" +
		" --volume " + root + "/" + store.Snapshots + "/3/fs/usr/lib/dind-cluster/store/third-party:/usr/lib/dind-cluster/store/third-party:ro"
	if err != nil || strings.Join(got, " ") != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}
