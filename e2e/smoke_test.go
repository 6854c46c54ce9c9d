// Package e2e tests the image dind-cluster as its users have it: on a real Docker engine,
// through the launcher.
package e2e

import (
	"context"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/dind-cluster/dind-cluster/cluster/host"
	"github.com/dind-cluster/dind-cluster/e2e/internal/census"
)

// TestSmoke follows one cluster of three nodes from its start to its removal. Its steps build
// on each other.
func TestSmoke(t *testing.T) {
	ctx, m := newMachine(t)
	before, err := m.counter.Take(ctx)
	if err != nil {
		t.Fatal(err)
	}

	options := m.options(t, "first", 3)
	first := m.create(ctx, t, options)
	var second *box
	var belongings census.Belongings

	step := steps(t)
	step("nodes", func(t *testing.T) { testNodes(ctx, t, first, options) })
	step("secrets", func(t *testing.T) { testSecrets(ctx, t, first) })
	step("images", func(t *testing.T) { testStore(ctx, t, first) })
	step("cgroups", func(t *testing.T) { testCgroups(ctx, t, first) })
	step("network", func(t *testing.T) { testNetwork(ctx, t, first) })
	step("user namespace", func(t *testing.T) { testUserNamespace(ctx, t, first) })
	step("neighbour", func(t *testing.T) { testNeighbour(ctx, t, first) })
	step("host", func(t *testing.T) { testHost(ctx, t, first) })
	step("second cluster without a network", func(t *testing.T) {
		untouched := first.pods(ctx, t, "--all-namespaces")
		o := m.options(t, "second", 1)
		o.RunArgs = []string{"--network", "none"}
		o.Kubeconfig = nil
		second = m.create(ctx, t, o)
		testAlone(ctx, t, first, second)
		checkUntouched(t, untouched, first.pods(ctx, t, "--all-namespaces"))

		belongings, err = m.counter.Of(ctx, second.id)
		if err != nil {
			t.Fatal(err)
		}
		if found, err := m.launcher.Delete(ctx, second.name); err != nil || !found {
			t.Fatalf("delete: found %v, %v", found, err)
		}
		checkUntouched(t, untouched, first.pods(ctx, t, "--all-namespaces"))
	})
	step("conformance", func(t *testing.T) { testSlice(ctx, t, first) })
	step("missing images", func(t *testing.T) { testMissing(ctx, t, first) })
	step("restart", func(t *testing.T) { testRestart(ctx, t, first, options) })
	step("delete", func(t *testing.T) {
		more, err := m.counter.Of(ctx, first.id)
		if err != nil {
			t.Fatal(err)
		}
		belongings = append(belongings, more...)
		if found, err := m.launcher.Delete(ctx, first.name, options.Kubeconfig); err != nil || !found {
			t.Fatalf("delete: found %v, %v", found, err)
		}
		data, err := os.ReadFile(options.Kubeconfig.Path())
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(data), first.name) {
			t.Errorf("the kubeconfig still has the cluster:\n%s", data)
		}
	})
	step("leaks", func(t *testing.T) { m.checkLeaks(ctx, t, before, belongings) })
}

func testNodes(ctx context.Context, t *testing.T, b *box, o host.Request) {
	nodes := b.nodes(ctx, t)
	if len(nodes) != o.Nodes {
		t.Fatalf("%d nodes, want %d", len(nodes), o.Nodes)
	}
	for _, n := range nodes {
		t.Logf("%s: kubelet %s, %s, %s", n.Metadata.Name, n.Status.NodeInfo.KubeletVersion, n.Status.NodeInfo.ContainerRuntimeVersion, n.ip())
		if !n.ready() {
			t.Errorf("node %s is not Ready", n.Metadata.Name)
		}
	}
	for _, p := range b.pods(ctx, t, "--all-namespaces") {
		for _, c := range p.Status.ContainerStatuses {
			if !c.Ready {
				t.Errorf("pod %s is not ready although the cluster is", p.Metadata.Name)
			}
			if c.RestartCount > 0 {
				t.Errorf("pod %s has started %d times", p.Metadata.Name, c.RestartCount+1)
			}
		}
	}

	// From outside, with the kubeconfig that the launcher wrote.
	info, err := os.Stat(o.Kubeconfig.Path())
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o600 {
		t.Errorf("kubeconfig has mode %v, want 0600", info.Mode())
	}
	var version struct{ GitVersion, GitTreeState string }
	decode(t, hostGet(ctx, t, o.Kubeconfig.Path(), host.ContextName(b.name), "/version"), &version)
	if version.GitTreeState != "clean" {
		t.Errorf("the API server's tree state is %q, want clean", version.GitTreeState)
	}
	for _, n := range nodes {
		if n.Status.NodeInfo.KubeletVersion != version.GitVersion {
			t.Errorf("node %s has kubelet %s, the API server is %s", n.Metadata.Name, n.Status.NodeInfo.KubeletVersion, version.GitVersion)
		}
	}
	// The right version of the tests always travels with the cluster.
	if got := strings.TrimSpace(b.exec(ctx, t, "e2e.test", "--version")); !strings.Contains(got, version.GitVersion) {
		t.Errorf("e2e.test is version %q, the API server %s", got, version.GitVersion)
	}
}

// testSecrets checks that keys are for root alone and tokens are nowhere to be read.
func testSecrets(ctx context.Context, t *testing.T, b *box) {
	find := []string{"find", "/etc/kubernetes", "/etc/dind-cluster", "/var/lib/docker/dind-cluster", "/var/lib/kubelet/pki", "/root/.kube",
		"(", "-name", "*.key", "-o", "-name", "*.conf", "-o", "-name", "*.pem", "-o", "-name", "*.json", "-o", "-path", "*/.kube/config", ")",
		"-not", "-path", "*/.kube/cache/*", "-type", "f", "-perm", "/077"}
	// Not all of these directories are everywhere.
	tolerant := []string{"sh", "-c", `"$@" 2>/dev/null || :`, "sh"}
	if out := b.exec(ctx, t, slices.Concat(tolerant, find)...); out != "" {
		t.Errorf("in the cluster's container others can read:\n%s", out)
	}
	nodes := strings.Fields(b.exec(ctx, t, "docker", "ps", "--format", "{{.Names}}"))
	if len(nodes) != 3 {
		t.Errorf("nodes' containers are %q, want 3", nodes)
	}
	for _, n := range nodes {
		out := b.exec(ctx, t, slices.Concat([]string{"docker", "exec", n}, tolerant, find)...)
		if out != "" {
			t.Errorf("in node %s others can read:\n%s", n, out)
		}
	}
	if out := b.exec(ctx, t, "stat", "--dereference", "--format=%a", "/root/.kube/config"); strings.TrimSpace(out) != "600" {
		t.Errorf("the admin's kubeconfig has mode %s, want 600", out)
	}
	inspect, err := b.launcher.Docker.Output(ctx, "look at the cluster", "container", "inspect", b.name)
	if err != nil {
		t.Fatal(err)
	}
	token := regexp.MustCompile(`\b[a-z0-9]{6}\.[a-z0-9]{16}\b|PRIVATE KEY`)
	for where, text := range map[string]string{"docker logs": b.log(ctx, t), "docker inspect": string(inspect)} {
		if found := token.FindString(text); found != "" {
			t.Errorf("%s shows a secret: %s", where, found)
		}
	}
}

// httpPort and the others are those of testdata/web.yaml.
const (
	httpPort, udpPort         = 8080, 8081
	servicePort               = 80
	httpNodePort, udpNodePort = 30080, 30081
)

func testNetwork(ctx context.Context, t *testing.T, b *box) {
	b.load(ctx, t, "AGNHOST") // what most of the tests' pods run
	testWeb(ctx, t, b)
}

// testWeb starts two web servers, and checks the ways to them.
func testWeb(ctx context.Context, t *testing.T, b *box) {
	b.apply(ctx, t, "web.yaml", "AGNHOST", b.testImage(ctx, t, "registry.k8s.io/e2e-test-images/agnhost"))
	b.kubectl(ctx, t, "rollout", "status", "deployment/web", "--timeout=60s")
	checkNetwork(ctx, t, b)
}

// checkNetwork checks all ways to and between the pods of testdata/web.yaml.
func checkNetwork(ctx context.Context, t *testing.T, b *box) {
	t.Helper()
	web := b.pods(ctx, t, "--selector=app=web", "--field-selector=status.phase=Running")
	if len(web) != 2 || web[0].Spec.NodeName == web[1].Spec.NodeName {
		t.Fatalf("got pods %+v, want two on different nodes", web)
	}
	for i, from := range web {
		to := web[1-i]
		for protocol, port := range map[string]int{"http": httpPort, "udp": udpPort} {
			if got := b.dial(ctx, t, from, protocol, to.Status.PodIP, port); got != to.Metadata.Name {
				t.Errorf("%s from pod to pod: %q answered, want %s", protocol, got, to.Metadata.Name)
			}
		}
		names := []string{from.Metadata.Name, to.Metadata.Name}
		// By the service's name: DNS, and the service's address.
		if got := b.dial(ctx, t, from, "http", "web.default.svc.cluster.local", servicePort); !slices.Contains(names, got) {
			t.Errorf("service: %q answered, want one of %q", got, names)
		}
		// Every node, those without such a pod too, leads to the service.
		for _, n := range b.nodes(ctx, t) {
			for protocol, port := range map[string]int{"http": httpNodePort, "udp": udpNodePort} {
				if got := b.dial(ctx, t, from, protocol, n.ip(), port); !slices.Contains(names, got) {
					t.Errorf("node port of %s, %s: %q answered, want one of %q", n.Metadata.Name, protocol, got, names)
				}
			}
		}
	}
}

// testAlone checks a cluster of one node that has no network at all around it: what runs
// in it cannot have come from anywhere else. Its addresses are those of the first cluster too.
func testAlone(ctx context.Context, t *testing.T, first, second *box) {
	if out := second.exec(ctx, t, "ls", "/sys/class/net"); strings.Contains(out, "eth0") {
		t.Errorf("the container has a network: %s", out)
	}
	nodes := second.nodes(ctx, t)
	if len(nodes) != 1 || !nodes[0].ready() {
		t.Fatalf("got nodes %+v, want one that is Ready", nodes)
	}
	pause := second.testImage(ctx, t, "registry.k8s.io/pause")
	second.apply(ctx, t, "alone.yaml", "PAUSE", pause)
	second.kubectl(ctx, t, "wait", "--for=condition=Ready", "pod/alone", "--timeout=60s")

	ca := func(b *box) string {
		return b.exec(ctx, t, "kubectl", "config", "view", "--raw", "--output=jsonpath={.clusters[0].cluster.certificate-authority-data}")
	}
	if a, b := ca(first), ca(second); a == b || a == "" {
		t.Error("both clusters have the same certificate authority")
	}
	list, err := first.launcher.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range []*box{first, second} {
		if !slices.ContainsFunc(list, func(s host.Summary) bool { return s.Name == b.name && s.State == "running" }) {
			t.Errorf("the list lacks %s: %+v", b.name, list)
		}
	}
}

// checkUntouched checks that the same pods run, without a restart since.
func checkUntouched(t *testing.T, before, after []pod) {
	t.Helper()
	restarts := func(p pod) (n int) {
		for _, c := range p.Status.ContainerStatuses {
			n += c.RestartCount
		}
		return n
	}
	for _, p := range before {
		i := slices.IndexFunc(after, func(q pod) bool { return q.Metadata.UID == p.Metadata.UID })
		if i < 0 {
			t.Errorf("pod %s/%s has gone", p.Metadata.Namespace, p.Metadata.Name)
		} else if was, is := restarts(p), restarts(after[i]); is != was || after[i].Status.Phase != p.Status.Phase {
			t.Errorf("pod %s/%s: %d restarts and %s, were %d and %s", p.Metadata.Namespace, p.Metadata.Name, is, after[i].Status.Phase, was, p.Status.Phase)
		}
	}
}

// testRestart stops and starts the container as a person does.
func testRestart(ctx context.Context, t *testing.T, b *box, o host.Request) {
	const objects = "--output=jsonpath={range .items[*]}{.kind}/{.metadata.name} {.metadata.uid}{\"\\n\"}{end}"
	kinds := "nodes,deployments,pods,services,configmaps"
	before := b.kubectl(ctx, t, "get", kinds, "--namespace=default", objects)
	if !strings.Contains(before, "ConfigMap/keepsake") {
		t.Fatalf("objects are\n%s", before)
	}
	const remark = "this was before the restart"
	inJournal := []string{"sh", "-c", "echo " + remark + " | systemd-cat --identifier=remark && journalctl --sync"}
	onNode := []string{"docker", "exec", "worker1"}
	b.exec(ctx, t, inJournal...)
	b.exec(ctx, t, slices.Concat(onNode, inJournal)...)
	for _, verb := range []string{"stop", "start"} {
		if err := b.launcher.Docker.Do(ctx, verb+" the cluster", verb, b.name); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.launcher.WaitReady(ctx, b.name); err != nil {
		t.Fatal(err)
	}
	b.kubectl(ctx, t, "wait", "--for=condition=Ready", "nodes", "--all", "--timeout=60s")
	// Not in all namespaces: those of the conformance specs are on their way out.
	for _, namespace := range []string{"default", "kube-system"} {
		b.kubectl(ctx, t, "wait", "--for=condition=Ready", "pods", "--all", "--namespace="+namespace, "--timeout=60s")
	}
	checkSeeded(ctx, t, b, "kept", "control-plane", "worker1", "worker2")
	if after := b.kubectl(ctx, t, "get", kinds, "--namespace=default", objects); after != before {
		t.Errorf("objects are\n%swere\n%s", after, before)
	}
	// The journals go on where they ended.
	journal := []string{"journalctl", "--no-pager", "--output=cat", "--identifier=remark"}
	for _, command := range [][]string{journal, slices.Concat(onNode, journal)} {
		if got := b.exec(ctx, t, command...); got != remark+"\n" {
			t.Errorf("%q: got %q, want %q", command, got, remark)
		}
	}
	checkNetwork(ctx, t, b)
	// At the same port: the kubeconfig on the host is still right.
	hostGet(ctx, t, o.Kubeconfig.Path(), host.ContextName(b.name), "/readyz")
}
