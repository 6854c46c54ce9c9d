package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dind-cluster/dind-cluster/cluster/host"
)

const threeControlPlanes = `
apiVersion: dind-cluster.github.io/v1alpha1
kind: Cluster
nodes:
- role: control-plane
  count: 3
- role: worker
`

var controlPlanes = []string{"control-plane", "control-plane2", "control-plane3"}

// TestControlPlanes loses each of three control planes while a client writes, and restarts the
// cluster without one of them.
func TestControlPlanes(t *testing.T) {
	ctx, m := newMachine(t)
	o := m.options(t, "ha", 0)
	o.Config = &host.ConfigFile{Name: "ha.yaml", Data: []byte(threeControlPlanes)}
	b := m.create(ctx, t, o)
	step := steps(t)
	step("members", func(t *testing.T) { b.checkMembers(ctx, t, controlPlanes) })
	step("each is lost", func(t *testing.T) { testLostWhileWriting(ctx, t, b) })
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

// restart stops and starts the container, and waits until the cluster is ready.
func (b *box) restart(ctx context.Context, t *testing.T) {
	t.Helper()
	if err := b.launcher.Docker.Stop(ctx, b.name, 30*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := b.launcher.Docker.Start(ctx, b.name); err != nil {
		t.Fatal(err)
	}
	if err := b.launcher.WaitReady(ctx, b.name); err != nil {
		t.Fatal(err)
	}
}

// checkMembers checks that just these are members of etcd, all of them healthy within a minute, and
// that each has all pods of a control plane.
func (b *box) checkMembers(ctx context.Context, t *testing.T, want []string) {
	t.Helper()
	const etcdctl = `crictl exec "$(crictl ps --quiet --name '^etcd$')" etcdctl --endpoints=https://127.0.0.1:2379 ` +
		`--cacert=/etc/kubernetes/pki/etcd/ca.crt --cert=/etc/kubernetes/pki/etcd/server.crt --key=/etc/kubernetes/pki/etcd/server.key `
	deadline := time.Now().Add(b.patience * time.Minute)
	for _, node := range want {
		for {
			// A node that has just started again has no etcd for a moment.
			out, err := b.launcher.Docker.Exec(ctx, b.name, "docker", "exec", node, "sh", "-c",
				etcdctl+"member list && "+etcdctl+"endpoint health --cluster")
			list := string(out)
			if err == nil && strings.Count(list, ", started, ") == len(want) {
				for _, n := range want {
					if !strings.Contains(list, ", "+n+", ") {
						t.Errorf("%s is no member:\n%s", n, list)
					}
				}
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("want the members %q, there are\n%s%v", want, list, err)
			}
			time.Sleep(50 * time.Millisecond)
		}
		for _, component := range []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"} {
			b.kubectl(ctx, t, "wait", "--namespace=kube-system", "--for=condition=Ready", "pod/"+component+"-"+node, "--timeout=60s")
		}
	}
}

// testLostWhileWriting kills one control plane after the other. What was acknowledged stays, and
// writing goes on within 15 seconds.
func testLostWhileWriting(ctx context.Context, t *testing.T, b *box) {
	for _, node := range controlPlanes {
		var acknowledged atomic.Int64
		var longest atomic.Int64 // pause between two writes, in milliseconds
		writing, stop := context.WithCancel(ctx)
		done := make(chan struct{})
		name := "writes-" + node
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
					stop()
					t.Fatalf("after %s was killed nothing is written", node)
				}
			}
		}
		wait(3)
		b.exec(ctx, t, "docker", "kill", node)
		wait(10)
		stop()
		<-done
		n := int(acknowledged.Load())
		found := strings.Count(b.kubectl(ctx, t, "get", "configmaps", "--output=name"), "configmap/"+name+"-")
		if found < n {
			t.Errorf("%s was killed: %d writes were acknowledged, and %d are there", node, n, found)
		}
		pause := time.Duration(longest.Load()) * time.Millisecond
		t.Logf("%s killed: %d writes, the longest pause was %v", node, n, pause)
		if pause > b.patience*15*time.Second {
			t.Errorf("%s was killed: nothing was written for %v", node, pause)
		}
		b.exec(ctx, t, "docker", "start", node)
		b.kubectl(ctx, t, "wait", "--for=condition=Ready", "node/"+node, "--timeout=60s")
		b.checkMembers(ctx, t, controlPlanes)
	}
}
