package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/dind-cluster/dind-cluster/cluster/host"
)

const withMetrics = `
apiVersion: dind-cluster.github.io/v1alpha1
kind: Cluster
nodes:
- role: control-plane
- role: worker
addons:
  metricsServer: true
`

// TestAddons uses the add-ons of a cluster, and restarts it.
func TestAddons(t *testing.T) {
	ctx, m := newMachine(t)
	o := m.options(t, "addons", 0)
	o.Config = &host.ConfigFile{Name: "addons.yaml", Data: []byte(withMetrics)}
	b := m.create(ctx, t, o)
	b.load(ctx, t, "METRICS_SERVER")
	b.load(ctx, t, "AGNHOST")
	agnhost := b.testImage(ctx, t, "registry.k8s.io/e2e-test-images/agnhost")
	step := steps(t)
	step("up", func(t *testing.T) {
		b.waitAddons(ctx, t, "add-on storageClass: up\nadd-on metricsServer: up\n")
	})
	step("volume", func(t *testing.T) {
		b.apply(ctx, t, "volume.yaml", "IMAGE", agnhost, "COMMAND", "echo kept > /data/file")
		b.kubectl(ctx, t, "wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/volume", "--timeout=60s")
	})
	step("another pod", func(t *testing.T) { b.checkVolume(ctx, t, agnhost) })
	step("metrics", func(t *testing.T) {
		b.until(ctx, t, "worker1", "kubectl", "top", "nodes", "--no-headers")
		b.until(ctx, t, "coredns-", "kubectl", "top", "pods", "--namespace=kube-system", "--no-headers")
	})
	step("autoscaling", func(t *testing.T) {
		b.apply(ctx, t, "autoscaled.yaml", "IMAGE", agnhost)
		b.until(ctx, t, "2", "kubectl", "get", "deployment/busy", "--output=jsonpath={.spec.replicas}")
		b.kubectl(ctx, t, "delete", "deployment/busy", "hpa/busy")
	})
	step("restart", func(t *testing.T) {
		b.restart(ctx, t)
		b.waitAddons(ctx, t, "add-on storageClass: up\nadd-on metricsServer: up\n")
		b.checkVolume(ctx, t, agnhost)
	})
	step("volume deleted", func(t *testing.T) {
		const list = "ls /var/local-path-provisioner"
		if dirs := b.exec(ctx, t, "docker", "exec", "worker1", "sh", "-c", list); strings.Count(dirs, "pvc-") != 1 {
			t.Fatalf("there is not one volume, but %q", dirs)
		}
		b.kubectl(ctx, t, "delete", "pod/volume", "pvc/data", "--timeout=60s")
		b.kubectl(ctx, t, "wait", "--for=delete", "pv", "--all", "--timeout=60s")
		if dirs := b.exec(ctx, t, "docker", "exec", "worker1", "sh", "-c", list); strings.TrimSpace(dirs) != "" {
			t.Errorf("%q is left", dirs)
		}
	})
}

// checkVolume reads in a new pod what the first one has written.
func (b *box) checkVolume(ctx context.Context, t *testing.T, image string) {
	t.Helper()
	b.kubectl(ctx, t, "delete", "pod/volume", "--timeout=60s")
	b.apply(ctx, t, "volume.yaml", "IMAGE", image, "COMMAND", "cat /data/file")
	b.kubectl(ctx, t, "wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/volume", "--timeout=60s")
	if got := b.kubectl(ctx, t, "logs", "volume"); got != "kept\n" {
		t.Errorf("the volume has %q", got)
	}
}

func (b *box) waitAddons(ctx context.Context, t *testing.T, want string) {
	t.Helper()
	b.until(ctx, t, want, "runner", "health")
}

// until repeats a command in the cluster's container until its output has a text.
func (b *box) until(ctx context.Context, t *testing.T, want string, command ...string) {
	t.Helper()
	deadline := time.Now().Add(b.patience * time.Minute)
	for {
		out, err := b.launcher.Docker.Exec(ctx, b.name, command...)
		if err == nil && strings.Contains(string(out), want) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: want %q, got %q, %v", strings.Join(command, " "), want, out, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}
