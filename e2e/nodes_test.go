package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dind-cluster/dind-cluster/api/config"
	"github.com/dind-cluster/dind-cluster/cluster/control"
	"github.com/dind-cluster/dind-cluster/cluster/host"
)

const balancedOne = `
apiVersion: dind-cluster.github.io/v1alpha1
kind: Cluster
nodes:
- role: control-plane
- role: worker
networking:
  apiServerLoadBalancer: true
`

// TestNodes adds and removes nodes of a running cluster. Its steps build on each other.
func TestNodes(t *testing.T) {
	ctx, m := newMachine(t)
	o := m.options(t, "nodes", 0)
	o.Config = &host.ConfigFile{Name: "nodes.yaml", Data: []byte(balancedOne)}
	b := m.create(ctx, t, o)
	step := steps(t)
	step("bad requests", func(t *testing.T) { testBadRequests(ctx, t, b) })
	step("two workers", func(t *testing.T) {
		b.perform(ctx, t, control.Request{Verb: control.Add, Count: 2, Labels: []string{"disk=fast"}})
		b.checkNodes(ctx, t, "control-plane", "worker1", "worker2", "worker3")
		if got := b.kubectl(ctx, t, "get", "nodes", "--selector=disk=fast", "--output=name"); got != "node/worker2\nnode/worker3\n" {
			t.Errorf("nodes with the label: %q", got)
		}
	})
	step("drained", func(t *testing.T) { testDrained(ctx, t, b) })
	step("restarted", func(t *testing.T) {
		b.perform(ctx, t, control.Request{Verb: control.Stop, Nodes: []string{"worker1"}})
		if err := b.health(ctx); err == nil || !strings.Contains(err.Error(), "worker1: its container is exited") {
			t.Errorf("health: %v", err)
		}
		b.perform(ctx, t, control.Request{Verb: control.Start, Nodes: []string{"worker1"}})
		b.perform(ctx, t, control.Request{Verb: control.Restart, Nodes: []string{"worker1"}})
		if err := b.health(ctx); err != nil {
			t.Error(err)
		}
	})
	step("taken back", func(t *testing.T) {
		adding, cancel := context.WithCancel(ctx)
		err := b.launcher.Perform(adding, b.name, control.Request{Verb: control.Add, Count: 2}, func(e control.Event) {
			if strings.Contains(e.Log, "+ starting worker") {
				cancel()
			}
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		b.checkNodes(ctx, t, "control-plane", "worker1", "worker3")
	})
	step("control planes", func(t *testing.T) {
		b.perform(ctx, t, control.Request{Verb: control.Add, Role: "control-plane", Count: 2})
		b.checkMembers(ctx, t, controlPlanes)
		b.perform(ctx, t, control.Request{Verb: control.Remove, Nodes: controlPlanes[:1]})
		b.checkMembers(ctx, t, controlPlanes[1:])
		b.perform(ctx, t, control.Request{Verb: control.Remove, Nodes: controlPlanes[2:]})
		b.checkMembers(ctx, t, controlPlanes[1:2])
	})
	step("start again", func(t *testing.T) {
		b.perform(ctx, t, control.Request{Verb: control.Scale, Workers: 1})
		b.restart(ctx, t)
		// worker3, which was added, has a higher number than worker1, which the file has.
		b.checkNodes(ctx, t, "control-plane2", "worker1")
		if log := b.log(ctx, t); strings.Contains(log, "the cluster in the volume keeps") {
			t.Errorf("it complains that its nodes were changed:\n%s", log)
		}
	})
}

// perform carries out a request that must succeed.
func (b *box) perform(ctx context.Context, t *testing.T, r control.Request) string {
	t.Helper()
	var out strings.Builder
	begin := time.Now()
	err := b.launcher.Perform(ctx, b.name, r, func(e control.Event) {
		out.WriteString(e.Output)
		if e.Log != "" {
			t.Log(strings.TrimSuffix(e.Log, "\n"))
		}
	})
	if err != nil {
		t.Fatalf("%+v: %v", r, err)
	}
	t.Logf("%s: %.2f s", r.Verb, time.Since(begin).Seconds())
	return out.String()
}

// checkNodes checks that just these are nodes: to Kubernetes, to Docker and to the configuration.
func (b *box) checkNodes(ctx context.Context, t *testing.T, want ...string) {
	t.Helper()
	var got []string
	for _, n := range b.nodes(ctx, t) {
		got = append(got, n.Metadata.Name)
		if !n.ready() {
			t.Errorf("%s is not ready", n.Metadata.Name)
		}
	}
	containers := strings.Fields(b.exec(ctx, t, "docker", "ps", "--all", "--format", "{{.Names}}"))
	slices.Sort(containers)
	effective, err := config.Read("runner config", []byte(b.exec(ctx, t, "runner", "config")))
	if err != nil {
		t.Fatal(err)
	}
	var described []string
	for _, n := range effective.Expand() {
		described = append(described, n.Name)
	}
	slices.Sort(described)
	if !slices.Equal(got, want) || !slices.Equal(containers, want) || !slices.Equal(described, want) {
		t.Errorf("Kubernetes has %q, Docker %q, the configuration %q, want %q", got, containers, described, want)
	}
	var report struct {
		Ready bool
		Nodes []struct{ Name, State string }
	}
	decode(t, b.perform(ctx, t, control.Request{Verb: control.Status, Output: "json"}), &report)
	if len(report.Nodes) != len(want) || !report.Ready {
		t.Errorf("the status is %+v", report)
	}
}

// testBadRequests checks that mistakes are all named, and change nothing.
func testBadRequests(ctx context.Context, t *testing.T, b *box) {
	for want, r := range map[string]control.Request{
		`there is no node "worker7": there are control-plane, worker1`: {Verb: control.Remove, Nodes: []string{"worker7"}},
		"the last control plane": {Verb: control.Remove, Nodes: []string{"control-plane"}},
		"role: \"master\": want control-plane or worker\nthere is a node \"worker1\" already": {Verb: control.Add, Role: "master", Nodes: []string{"worker1"}},
		"200 nodes: want a whole number from 1 to 100":                                        {Verb: control.Add, Count: 200},
		"101 nodes: want at most 100":                                                         {Verb: control.Add, Count: 99},
		"n.yaml: line 2: nmae: no such field: did you mean name?": {Verb: control.Add, File: &control.File{
			Name: "n.yaml", Data: []byte("role: worker\nnmae: x\n"),
		}},
		"100 workers: want a whole number from 0 to 99": {Verb: control.Scale, Workers: 100},
		"--for \"pods\": want ready":                    {Verb: control.Wait, For: []string{"pods"}},
	} {
		err := b.launcher.Perform(ctx, b.name, r, func(control.Event) {})
		var refused *control.Error
		if !errors.As(err, &refused) || !refused.Usage || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v\nwant %s", r, err, want)
		}
	}
	b.checkNodes(ctx, t, "control-plane", "worker1")
}

// testDrained removes a node with pods of a deployment with a disruption budget, which is never
// broken.
func testDrained(ctx context.Context, t *testing.T, b *box) {
	image := b.kubectl(ctx, t, "get", "deployment/coredns", "--namespace=kube-system", "--output=jsonpath={.spec.template.spec.containers[0].image}")
	// All of them on worker2, at first.
	b.kubectl(ctx, t, "cordon", "worker3")
	b.apply(ctx, t, "budget.yaml", "COREDNS", image)
	b.kubectl(ctx, t, "rollout", "status", "deployment/steady", "--timeout=60s")
	if out := b.kubectl(ctx, t, "get", "pods", "--selector=app=steady", "--output=jsonpath={.items[*].spec.nodeName}"); !strings.Contains(out, "worker2") {
		t.Fatalf("the pods are on %s", out)
	}
	// One that nothing would make anew is a reason not to begin.
	err := b.launcher.Perform(ctx, b.name, control.Request{Verb: control.Remove, Nodes: []string{"worker2"}}, func(control.Event) {})
	if err == nil || !strings.Contains(err.Error(), "pods that nothing would make anew: default/alone on worker2") {
		t.Fatalf("got %v", err)
	}
	b.kubectl(ctx, t, "delete", "pod/alone", "--now")
	// With no other place for them, the budget keeps the pods where they are, and the node stays.
	err = b.launcher.Perform(ctx, b.name, control.Request{Verb: control.Remove, Nodes: []string{"worker2"}, Timeout: 5 * time.Second}, func(control.Event) {})
	if err == nil || !strings.Contains(err.Error(), "was not done within 5s; pods that did not leave: default/steady-") {
		t.Fatalf("got %v", err)
	}
	if got := b.kubectl(ctx, t, "get", "node/worker2", "--output=jsonpath={.spec.unschedulable}"); got != "" {
		t.Error("the node still takes no pods")
	}
	b.kubectl(ctx, t, "uncordon", "worker3")
	watching, stop := context.WithCancel(ctx)
	least := make(chan string, 1)
	go func() {
		seen := "3"
		for watching.Err() == nil {
			out, err := b.launcher.Docker.Exec(watching, b.name, "kubectl", "get", "deployment/steady", "--output=jsonpath={.status.readyReplicas}")
			if err == nil && string(out) < seen {
				seen = string(out)
			}
		}
		least <- seen
	}()
	b.perform(ctx, t, control.Request{Verb: control.Remove, Nodes: []string{"worker2"}})
	stop()
	if got := <-least; got < "2" {
		t.Errorf("at a time there were only %q pods", got)
	}
	b.kubectl(ctx, t, "rollout", "status", "deployment/steady", "--timeout=60s")
	if out := b.kubectl(ctx, t, "get", "pods", "--all-namespaces", "--field-selector=spec.nodeName=worker2", "--output=name"); out != "" {
		t.Errorf("pods of the node are left: %s", out)
	}
	b.checkNodes(ctx, t, "control-plane", "worker1", "worker3")
	b.kubectl(ctx, t, "delete", "deployment/steady", "poddisruptionbudget/steady")
}

// TestNodeAddTime measures how long a worker takes to get ready beside an idle cluster. On request only.
func TestNodeAddTime(t *testing.T) {
	ctx, m := newMachine(t)
	b := m.create(ctx, t, m.options(t, "addtime", 2))
	var times []time.Duration
	for i := range 10 {
		begin := time.Now()
		b.perform(ctx, t, control.Request{Verb: control.Add, Nodes: []string{fmt.Sprintf("added%d", i)}})
		times = append(times, time.Since(begin).Round(10*time.Millisecond))
		b.perform(ctx, t, control.Request{Verb: control.Remove, Nodes: []string{fmt.Sprintf("added%d", i)}})
	}
	slices.Sort(times)
	t.Logf("node add: median %v, most %v, all %v", times[len(times)/2], times[len(times)-1], times)
}
