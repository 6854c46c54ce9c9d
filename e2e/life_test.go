package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestLife follows one cluster through what happens to clusters that people keep: nodes die, are
// deleted and removed, and the container is started again, or replaced by another one with the same
// volume. Its steps build on each other.
func TestLife(t *testing.T) {
	ctx, m := newMachine(t)
	o := m.options(t, "life", 2)
	volume := o.Name
	o.RunArgs = []string{"--volume", volume + ":/var/lib/docker"}
	t.Cleanup(func() {
		ctx, cancel := cleanup(t)
		defer cancel()
		// After the container, which has it.
		if err := m.launcher.Docker.Do(ctx, "remove the volume", "volume", "rm", "--force", volume); err != nil {
			t.Error(err)
		}
	})
	b := m.create(ctx, t, o)

	step := steps(t)
	step("static pods", func(t *testing.T) { testStaticPods(ctx, t, b) })
	step("certificates", func(t *testing.T) { testCertificates(ctx, t, b) })
	step("tokens", func(t *testing.T) { testTokens(ctx, t, b) })
	step("node deleted", func(t *testing.T) { testNodeDeleted(ctx, t, b) })
	step("node down", func(t *testing.T) { testNodeDown(ctx, t, b) })
	step("restart without a worker", func(t *testing.T) { testWorkerRemoved(ctx, t, b) })
	step("another container", func(t *testing.T) {
		before := b.identity(ctx, t)
		m.remove(t, o.Name)
		// It ends by itself when it cannot come up.
		o.Retain = false
		b = m.createKept(ctx, t, o)
		if after := b.identity(ctx, t); after != before {
			t.Errorf("it is another cluster:\n%s\nwas\n%s", after, before)
		}
	})
	step("restart without the control plane", func(t *testing.T) { testNoControlPlane(ctx, t, b) })
}

// identity is what two clusters do not share.
func (b *box) identity(ctx context.Context, t *testing.T) string {
	t.Helper()
	b.kubectl(ctx, t, "wait", "--for=condition=Ready", "nodes", "--all", "--timeout=60s")
	return b.kubectl(ctx, t, "get", "nodes,namespaces,jobs", "--all-namespaces", "--output=jsonpath={range .items[*]}{.kind}/{.metadata.name} {.metadata.uid}{\"\\n\"}{end}") +
		b.exec(ctx, t, "kubectl", "config", "view", "--raw", "--output=jsonpath={.clusters[0].cluster.certificate-authority-data}")
}

// testStaticPods checks that a cluster which says it is ready shows the pods of its control plane.
func testStaticPods(ctx context.Context, t *testing.T, b *box) {
	var got []string
	for _, p := range b.pods(ctx, t, "--namespace=kube-system", "--selector=tier=control-plane") {
		got = append(got, p.Metadata.Name)
	}
	slices.Sort(got)
	want := []string{"etcd-control-plane", "kube-apiserver-control-plane", "kube-controller-manager-control-plane", "kube-scheduler-control-plane"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// testCertificates checks that no certificate ends before the cluster's authority does, whichever
// program made it.
func testCertificates(ctx context.Context, t *testing.T, b *box) {
	const find = `cd /
		for f in $(find etc/kubernetes var/lib/kubelet/pki -name '*.crt' -o -name '*.pem' -type f); do echo "# $f"; cat $f; done
		for f in etc/kubernetes/*.conf; do echo "# $f"; sed -n 's/.*client-certificate-data: //p' $f | base64 -d; done`
	found := map[string]*x509.Certificate{}
	parse := func(source, text string) {
		t.Helper()
		block, _ := pem.Decode([]byte(text))
		if block == nil || block.Type != "CERTIFICATE" {
			return
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Errorf("%s: %v", source, err)
			return
		}
		found[source] = cert
	}
	for _, node := range []string{"control-plane", "worker1"} {
		for file := range strings.SplitSeq(b.exec(ctx, t, "docker", "exec", node, "sh", "-c", find), "# ") {
			name, text, _ := strings.Cut(file, "\n")
			parse(node+":"+name, text)
		}
	}
	parse("a signed request", b.sign(ctx, t))
	ca := found["control-plane:etc/kubernetes/pki/ca.crt"]
	// 10 below pki, of kubelets, components and kubeconfigs the rest.
	if ca == nil || len(found) < 18 {
		t.Fatalf("only found %q", slices.Sorted(maps.Keys(found)))
	}
	t.Logf("%d certificates, the authority's until %v", len(found), ca.NotAfter)
	if left := time.Until(ca.NotAfter); left < 9*365*24*time.Hour {
		t.Errorf("the authority ends in %v", left)
	}
	for name, cert := range found {
		if cert.NotAfter.Before(ca.NotAfter.Add(-time.Hour)) {
			t.Errorf("%s ends at %v, before the authority", name, cert.NotAfter)
		}
	}
}

// sign has the cluster sign a certificate for a new key.
func (b *box) sign(ctx context.Context, t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "somebody"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	request := base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
	manifest := fmt.Sprintf(`{"apiVersion":"certificates.k8s.io/v1","kind":"CertificateSigningRequest","metadata":{"name":"somebody"},
		"spec":{"request":%q,"signerName":"kubernetes.io/kube-apiserver-client","usages":["client auth"]}}`, request)
	if _, err := b.launcher.Docker.ExecInput(ctx, b.name, strings.NewReader(manifest), "kubectl", "create", "--filename=-"); err != nil {
		t.Fatal(err)
	}
	b.kubectl(ctx, t, "certificate", "approve", "somebody")
	b.kubectl(ctx, t, "wait", "--for=jsonpath={.status.certificate}", "csr/somebody", "--timeout=30s")
	cert, err := base64.StdEncoding.DecodeString(b.kubectl(ctx, t, "get", "csr/somebody", "--output=jsonpath={.status.certificate}"))
	if err != nil {
		t.Fatal(err)
	}
	return string(cert)
}

// testTokens checks that there is no bootstrap token, neither in the cluster nor in what people
// publish, and no key in the container's own layer, which `docker commit` and `docker export` take.
func testTokens(ctx context.Context, t *testing.T, b *box) {
	if out := b.kubectl(ctx, t, "get", "secrets", "--namespace=kube-system", "--field-selector=type=bootstrap.kubernetes.io/token", "--output=name"); out != "" {
		t.Errorf("the cluster has tokens: %s", out)
	}
	logs := b.exec(ctx, t, "sh", "-c", "runner logs | tar --extract --to-stdout")
	if !strings.Contains(logs, "[bootstrap-token]") {
		t.Error("the logs do not have kubeadm's output")
	}
	if found := regexp.MustCompile(`(?i)\b[a-z0-9]{6}\.[a-z0-9]{16}\b|PRIVATE KEY|using tokens?:.*`).FindString(logs); found != "" {
		t.Errorf("the logs show a secret: %s", found)
	}
	const keys = `find / -xdev -type f -newer /run/dind-cluster/settings.yaml -exec grep -lE 'PRIVATE KEY|client-key-data|"Key":' {} +`
	if out := b.exec(ctx, t, "sh", "-c", keys+" || :"); out != "" {
		t.Errorf("the container's layer has keys:\n%s", out)
	}
}

// testNodeDeleted checks that nodes which were deleted and register again are whole.
func testNodeDeleted(ctx context.Context, t *testing.T, b *box) {
	for node, cidr := range map[string]string{"control-plane": "10.244.0.0/24", "worker1": "10.244.1.0/24"} {
		b.kubectl(ctx, t, "delete", "node", node)
		if err := b.health(ctx); err == nil || !strings.Contains(err.Error(), node+": it is not registered") {
			t.Errorf("health without node %s: %v", node, err)
		}
		b.exec(ctx, t, "docker", "exec", node, "systemctl", "restart", "kubelet.service")
		b.kubectl(ctx, t, "wait", "--for=create", "node/"+node, "--timeout=60s")
		b.kubectl(ctx, t, "wait", "--for=jsonpath={.spec.podCIDR}="+cidr, "node/"+node, "--timeout=20s")
		b.kubectl(ctx, t, "wait", "--for=condition=Ready", "node/"+node, "--timeout=60s")
	}
	const mark = "--output=jsonpath={.spec.taints[?(@.key==\"node-role.kubernetes.io/control-plane\")].effect} {.metadata.labels}"
	got := b.kubectl(ctx, t, "get", "node/control-plane", mark)
	if !strings.HasPrefix(got, "NoSchedule ") || !strings.Contains(got, `"node-role.kubernetes.io/control-plane":""`) {
		t.Errorf("the control plane has %s", got)
	}
}

// health is what Docker asks the container for its health.
func (b *box) health(ctx context.Context) error {
	_, err := b.launcher.Docker.Exec(ctx, b.name, "runner", "health")
	return err
}

// waitHealth waits for a health status.
func (b *box) waitHealth(ctx context.Context, t *testing.T, want string) {
	t.Helper()
	for deadline := time.Now().Add(b.patience * 90 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		c, err := b.launcher.Docker.Inspect(ctx, b.name)
		if err != nil {
			t.Fatal(err)
		}
		if c.State.HealthStatus() == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the container is %s, not %s; health: %v", c.State.HealthStatus(), want, b.health(ctx))
		}
	}
}

// testNodeDown checks that a node which is down shows in the container's health.
func testNodeDown(ctx context.Context, t *testing.T, b *box) {
	if err := b.health(ctx); err != nil {
		t.Fatal(err)
	}
	b.exec(ctx, t, "docker", "kill", "worker1")
	if err := b.health(ctx); err == nil || !strings.Contains(err.Error(), "nodes are down: worker1: its container is exited") {
		t.Errorf("health: %v", err)
	}
	// A caller that cares for the API server only.
	if out, err := b.launcher.Docker.Exec(ctx, b.name, "runner", "health", "--of=api"); err != nil {
		t.Errorf("health of the API server: %s, %v", out, err)
	}
	b.waitHealth(ctx, t, "unhealthy")
	b.exec(ctx, t, "docker", "start", "worker1")
	b.waitHealth(ctx, t, "healthy")
}

// testWorkerRemoved checks that a cluster comes back with a worker whose container is gone,
// whatever is in kube-system.
func testWorkerRemoved(ctx context.Context, t *testing.T, b *box) {
	image := b.kubectl(ctx, t, "get", "deployment/coredns", "--namespace=kube-system", "--output=jsonpath={.spec.template.spec.containers[0].image}")
	b.apply(ctx, t, "leftovers.yaml", "COREDNS", image)
	b.kubectl(ctx, t, "wait", "--for=condition=Complete", "job/finished", "--namespace=kube-system", "--timeout=60s")
	before := b.kubectl(ctx, t, "get", "node/control-plane", "job/finished", "--namespace=kube-system", "--output=jsonpath={.items[*].metadata.uid}")
	id := b.exec(ctx, t, "docker", "inspect", "--format={{.Id}}", "worker1")
	b.exec(ctx, t, "docker", "rm", "--force", "--volumes", "worker1")
	if err := b.health(ctx); err == nil || !strings.Contains(err.Error(), "worker1: its container is gone") {
		t.Errorf("health: %v", err)
	}
	if err := b.launcher.Docker.Do(ctx, "restart the cluster", "restart", b.name); err != nil {
		t.Fatal(err)
	}
	if err := b.launcher.WaitReady(ctx, b.name); err != nil {
		t.Fatal(err)
	}
	if got := b.exec(ctx, t, "docker", "inspect", "--format={{.Id}}", "worker1"); got == id {
		t.Error("worker1 is still there")
	}
	if after := b.kubectl(ctx, t, "get", "node/control-plane", "job/finished", "--namespace=kube-system", "--output=jsonpath={.items[*].metadata.uid}"); after != before {
		t.Errorf("objects are %s, were %s", after, before)
	}
	b.kubectl(ctx, t, "wait", "--for=condition=Ready", "node/worker1", "--timeout=30s")
	b.kubectl(ctx, t, "wait", "--for=jsonpath={.spec.podCIDR}=10.244.1.0/24", "node/worker1", "--timeout=10s")
	log := b.log(ctx, t)
	for _, want := range []string{"worker1 is missing: making it anew", "not waited for: kube-system/no-image: ErrImageNeverPull"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log does not say %q", want)
		}
	}
}

// testNoControlPlane checks that a cluster which cannot be saved says so, and ends.
func testNoControlPlane(ctx context.Context, t *testing.T, b *box) {
	start := time.Now()
	b.exec(ctx, t, "docker", "rm", "--force", "--volumes", "control-plane")
	if err := b.launcher.Docker.Do(ctx, "restart the cluster", "restart", b.name); err != nil {
		t.Fatal(err)
	}
	err := b.launcher.WaitReady(ctx, b.name)
	if err == nil || !strings.Contains(err.Error(), "exit status 1") {
		t.Errorf("got %v", err)
	}
	since, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := b.launcher.Docker.Output(since, "read the log", "logs", "--since", start.UTC().Format(time.RFC3339), b.name)
	if err != nil || !strings.Contains(string(out), "the control plane's container is gone") {
		t.Errorf("the log does not say why: %v\n%s", err, out)
	}
}
