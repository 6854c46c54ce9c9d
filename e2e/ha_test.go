package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dind-cluster/dind-cluster/cluster/host"
	"github.com/dind-cluster/dind-cluster/cluster/paths"
	"github.com/dind-cluster/dind-cluster/cluster/timeline"
)

const threeControlPlanes = `
apiVersion: dind-cluster.github.io/v1alpha1
kind: Cluster
nodes:
- role: control-plane
  count: 3
- role: worker
`

// TestControlPlanes loses each of three control planes while a client writes, and restarts the
// cluster without one of them.
func TestControlPlanes(t *testing.T) {
	ctx, m := newMachine(t)
	o := m.options(t, "ha", 0)
	o.Config = &host.ConfigFile{Name: "ha.yaml", Data: []byte(threeControlPlanes)}
	b := m.create(ctx, t, o)
	step := steps(t)
	step("members", func(t *testing.T) { b.checkMembers(ctx, t, controlPlanes) })
	step("each is lost", func(t *testing.T) {
		for _, node := range controlPlanes {
			testLostWhileWriting(ctx, t, b, node, "writes-"+node)
		}
	})
	step("restart without the first", func(t *testing.T) {
		uid := b.kubectl(ctx, t, "get", "namespace", "kube-system", "--output=jsonpath={.metadata.uid}")
		b.exec(ctx, t, "docker", "rm", "--force", "--volumes", controlPlanes[0])
		b.restart(ctx, t)
		if now := b.kubectl(ctx, t, "get", "namespace", "kube-system", "--output=jsonpath={.metadata.uid}"); now != uid {
			t.Error("this is another cluster")
		}
		b.checkMembers(ctx, t, controlPlanes)
		b.kubectl(ctx, t, "wait", "--for=condition=Ready", "nodes", "--all", "--timeout=60s")
	})
}

// testLostWhileWriting kills a control plane. What was acknowledged stays, and writing goes on within 15 seconds. It returns how
// many writes were acknowledged, and the longest pause between two of them.
func testLostWhileWriting(ctx context.Context, t *testing.T, b *box, node, name string) (int, time.Duration) {
	t.Helper()
	var acknowledged, longest atomic.Int64 // longest is in milliseconds
	writing, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		last := time.Now()
		for n := 1; writing.Err() == nil; {
			cmd := exec.CommandContext(ctx, b.launcher.Docker.Path, "exec", b.name, "kubectl", "--request-timeout=5s",
				"create", "configmap", fmt.Sprintf("%s-%d", name, n))
			out, err := cmd.CombinedOutput()
			// One that was stored before its answer was lost is there already.
			if err != nil && !strings.Contains(string(out), "already exists") {
				continue
			}
			acknowledged.Store(int64(n))
			longest.Store(max(longest.Load(), time.Since(last).Milliseconds()))
			last = time.Now()
			n++
		}
	}()
	wait := func(writes int64) {
		t.Helper()
		from := acknowledged.Load()
		for deadline := time.Now().Add(b.patience * time.Minute); acknowledged.Load() < from+writes; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("after %s was killed nothing is written", node)
			}
		}
	}
	wait(3)
	b.exec(ctx, t, "docker", "kill", node)
	wait(10)
	stop()
	<-done
	found := map[string]bool{}
	for object := range strings.Lines(b.kubectl(ctx, t, "get", "configmaps", "--output=name")) {
		found[strings.TrimSpace(object)] = true
	}
	n := int(acknowledged.Load())
	for i := range n {
		if object := fmt.Sprintf("configmap/%s-%d", name, i+1); !found[object] {
			t.Errorf("%s was killed: %s was acknowledged, and is not there", node, object)
		}
	}
	pause := time.Duration(longest.Load()) * time.Millisecond
	t.Logf("%s killed: %d writes, the longest pause was %v", node, n, pause)
	if pause > b.patience*15*time.Second {
		t.Errorf("%s was killed: nothing was written for %v", node, pause)
	}
	b.exec(ctx, t, "docker", "start", node)
	b.kubectl(ctx, t, "wait", "--for=condition=Ready", "node/"+node, "--timeout=60s")
	b.checkMembers(ctx, t, controlPlanes)
	return n, pause
}

// TestControlPlaneKills kills one of three control planes, 20 times, each in its turn.
func TestControlPlaneKills(t *testing.T) {
	ctx, m := newMachine(t)
	o := m.options(t, "kills", 0)
	o.Config = &host.ConfigFile{Name: "ha.yaml", Data: []byte(threeControlPlanes)}
	b := m.create(ctx, t, o)
	const kills = 20
	writes := 0
	var pauses []time.Duration
	for i := range kills {
		n, pause := testLostWhileWriting(ctx, t, b, controlPlanes[i%len(controlPlanes)], fmt.Sprintf("kill-%d", i+1))
		if t.Failed() {
			t.FailNow()
		}
		writes, pauses = writes+n, append(pauses, pause)
	}
	slices.Sort(pauses)
	t.Logf("%d kills, %d acknowledged writes, none lost; pauses: median %v, longest %v", kills, writes, pauses[kills/2], pauses[kills-1])
}

// TestRestarts stops and starts a cluster of one node 20 times. A start takes at most 0.7 times as long as the first one, none more
// than 1.5 times their median.
func TestRestarts(t *testing.T) {
	ctx, m := newMachine(t)
	o := m.options(t, "restarts", 1)
	b := m.create(ctx, t, o)
	fresh := b.took(ctx, t)
	var all []time.Duration
	for range 20 {
		b.restart(ctx, t)
		all = append(all, b.took(ctx, t))
	}
	t.Logf("fresh %v, again %v", fresh, all)
	slices.Sort(all)
	median := all[len(all)/2]
	if float64(median) > 0.7*float64(fresh) {
		t.Errorf("a start after a stop takes %v, more than 0.7 times a fresh one's %v", median, fresh)
	}
	if longest := all[len(all)-1]; float64(longest) > 1.5*float64(median) {
		t.Errorf("a start after a stop took %v, more than 1.5 times the median %v", longest, median)
	}
}

// took returns how long the last start took, from the entrypoint's begin.
func (b *box) took(ctx context.Context, t *testing.T) time.Duration {
	t.Helper()
	line, err := timeline.Parse([]byte(b.exec(ctx, t, "cat", paths.Timeline)))
	if err != nil {
		t.Fatal(err)
	}
	if !line.Ready {
		t.Fatal("the cluster was not ready")
	}
	return line.End.Sub(line.Start)
}

// TestResources limits a worker, and fills its memory.
func TestResources(t *testing.T) {
	ctx, m := newMachine(t)
	o := m.options(t, "resources", 0)
	o.Config = &host.ConfigFile{Name: "resources.yaml", Data: []byte(`
apiVersion: dind-cluster.github.io/v1alpha1
kind: Cluster
nodes:
- role: control-plane
- role: worker
  resources: {cpus: 1, memory: 600Mi}
`)}
	b := m.create(ctx, t, o)
	check := func(t *testing.T) {
		t.Helper()
		const fields = "--output=jsonpath={.status.capacity.cpu} {.status.capacity.memory} {.status.allocatable.memory}"
		// The kubelet evicts pods below 100 MiB.
		if got, want := b.kubectl(ctx, t, "get", "node/worker1", fields), "1 600Mi 500Mi"; got != want {
			t.Errorf("worker1 has %q, want %q", got, want)
		}
		if got := strings.TrimSpace(b.exec(ctx, t, "docker", "exec", "worker1", "nproc")); got != "1" {
			t.Errorf("a process in worker1 has %s processors", got)
		}
	}
	step := steps(t)
	step("capacity", check)
	step("too much memory", func(t *testing.T) {
		// A process of the node itself, in no pod: the container's own limit ends it, and the machine's memory stays.
		out, err := b.launcher.Docker.Exec(ctx, b.name, "docker", "exec", "worker1", "sh", "-c", "head -c 700m /dev/zero | tail >/dev/null; echo ended ${?}")
		t.Logf("filling the memory: %s, %v", out, err)
		if strings.Contains(string(out), "ended 0") {
			t.Error("a node of 600 MiB has given a process 700 MB")
		}
		b.kubectl(ctx, t, "wait", "--for=condition=Ready", "node/worker1", "--timeout=60s")
	})
	step("restart", func(t *testing.T) {
		b.restart(ctx, t)
		check(t)
	})
}
