package e2e

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
)

// components are the repositories of the images that come with a node.
var components = []string{
	"docker.io/rancher/local-path-provisioner",
	"registry.k8s.io/coredns/coredns",
	"registry.k8s.io/etcd",
	"registry.k8s.io/kube-apiserver",
	"registry.k8s.io/kube-controller-manager",
	"registry.k8s.io/kube-proxy",
	"registry.k8s.io/kube-scheduler",
	"registry.k8s.io/pause",
}

// checkSeeded checks what containerd got at this start, in the top-level container ("") and in
// nodes.
func checkSeeded(ctx context.Context, t *testing.T, b *box, how string, nodes ...string) {
	t.Helper()
	for _, node := range append([]string{""}, nodes...) {
		command, want := []string{"cat", "/run/dind-cluster/images.json"}, 1
		if node != "" {
			command, want = append([]string{"docker", "exec", node}, command...), len(components)
		}
		var got struct {
			Images int
			How    string
			Why    string
			Took   int64
		}
		decode(t, b.exec(ctx, t, command...), &got)
		if got.How != how || got.Images != want {
			t.Errorf("node %q: %s %d images (%s), want %s %d", node, got.How, got.Images, got.Why, how, want)
		}
		t.Logf("node %q: %s %d images in %d ms", node, got.How, got.Images, got.Took/1e6)
	}
}

// repositories lists the images that a node's kubelet can use.
func (b *box) repositories(ctx context.Context, t *testing.T, node string) map[string]bool {
	t.Helper()
	var list struct{ Images []struct{ RepoTags []string } }
	if err := json.Unmarshal([]byte(b.exec(ctx, t, "docker", "exec", node, "crictl", "images", "--output=json")), &list); err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, i := range list.Images {
		for _, tag := range i.RepoTags {
			repository, _, _ := strings.Cut(tag, ":")
			got[repository] = true
		}
	}
	return got
}

// testStore checks that the images which come unpacked with a node, and which all nodes share,
// behave as images that were pulled: they can be listed, run, removed, collected and loaded again,
// and containerd can be restarted.
func testStore(ctx context.Context, t *testing.T, b *box) {
	nodes := []string{"control-plane", "worker1", "worker2"}
	checkSeeded(ctx, t, b, "linked", nodes...)
	for _, node := range nodes {
		got := b.repositories(ctx, t, node)
		for _, repository := range components {
			if !got[repository] {
				t.Errorf("%s has no image %s", node, repository)
			}
		}
	}
	const trees = "/usr/lib/dind-cluster/store/*/io.containerd.snapshotter.v1.overlayfs/snapshots/*/fs"
	count := func(node string) string {
		return b.exec(ctx, t, "docker", "exec", node, "sh", "-c", "find "+trees+" | wc -l")
	}
	before := count("worker1")
	untouched := b.pods(ctx, t, "--namespace=kube-system")

	// Removed from one node: the others share its files, and keep theirs.
	etcd := b.testImage(ctx, t, "registry.k8s.io/etcd")
	b.exec(ctx, t, "docker", "exec", "worker1", "crictl", "rmi", etcd)
	if b.repositories(ctx, t, "worker1")["registry.k8s.io/etcd"] {
		t.Error("worker1 still has an image that was removed")
	}
	if !b.repositories(ctx, t, "worker2")["registry.k8s.io/etcd"] {
		t.Error("worker2 has lost an image that was removed from worker1")
	}
	// As the kubelet's garbage collection does when the disk gets full. What the node came with
	// stays, used or not: it takes nothing of the node's disk, and without a network nothing would
	// bring it back.
	b.exec(ctx, t, "docker", "exec", "worker2", "crictl", "rmi", "--prune")
	left := b.repositories(ctx, t, "worker2")
	for repository, want := range map[string]bool{"registry.k8s.io/kube-scheduler": true, "registry.k8s.io/kube-proxy": true, "registry.k8s.io/pause": true} {
		if left[repository] != want {
			t.Errorf("after collecting, worker2 has %v; of %s want %v", left, repository, want)
		}
	}
	if after := count("worker1"); after != before {
		t.Errorf("the shared store has %s files, had %s", after, before)
	}

	// Loaded again: into new snapshots where it was removed, and nothing happens where it is.
	b.load(ctx, t, "ETCD")
	for _, node := range nodes {
		if !b.repositories(ctx, t, node)["registry.k8s.io/etcd"] {
			t.Errorf("%s lacks an image that was loaded", node)
		}
		// One from the shared trees, one that was loaded or shared: its program runs.
		name := "etcd-on-" + node
		b.kubectl(ctx, t, "run", name, "--image="+etcd, "--image-pull-policy=Never", "--restart=Never",
			"--overrides="+`{"spec":{"nodeName":"`+node+`"}}`, "--command", "--", "etcd", "--version")
		b.kubectl(ctx, t, "wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/"+name, "--timeout=60s")
		if out := b.kubectl(ctx, t, "logs", name); !strings.Contains(out, "etcd Version: ") {
			t.Errorf("etcd on %s says %q", node, out)
		}
		b.kubectl(ctx, t, "delete", "pod", name, "--wait=false")
	}

	// The runtime starts again, with the containers left running.
	b.exec(ctx, t, "docker", "exec", "worker1", "systemctl", "restart", "containerd.service")
	got := b.repositories(ctx, t, "worker1")
	for _, repository := range components {
		if !got[repository] {
			t.Errorf("after a restart of containerd, worker1 lacks %s", repository)
		}
	}
	b.kubectl(ctx, t, "wait", "--for=condition=Ready", "nodes", "--all", "--timeout=60s")
	checkUntouched(t, untouched, b.pods(ctx, t, "--namespace=kube-system"))
}
