package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	configfile "github.com/dind-cluster/dind-cluster/api/config"
	"github.com/dind-cluster/dind-cluster/cluster/host"
	"github.com/dind-cluster/dind-cluster/tools/publisher/registrytest"
)

// TestSettings has every documented setting in a real cluster that no other test has there, and
// sees what comes of it.
func TestSettings(t *testing.T) {
	t.Run("addresses, names, proxies", testAddressesAndProxies)
	t.Run("no pod network", testNoPodNetwork)
	t.Run("configuration file", testConfigFile)
}

// Addresses that differ in each part from the defaults.
const (
	nodeSubnet, podSubnet, serviceSubnet = "10.51.0.0/24", "10.52.0.0/16", "10.53.0.0/20"
	sanName, sanAddress                  = "ci.example.org", "203.0.113.7"
)

func testAddressesAndProxies(t *testing.T) {
	ctx, m := newMachine(t)
	network, gateway := m.network(ctx, t)
	registry := registrytest.New(t, registrytest.Options{TLS: true})
	// httptest's certificate is for this name, whose address only the proxy knows.
	const host = "registry.example.com"
	proxy := startProxy(t, gateway, map[string]string{host + ":443": registry.Host})

	o := m.options(t, "settings", 1)
	o.RunArgs = []string{"--network", network}
	o.Env = []string{
		"API_SANS=" + sanName + "," + sanAddress,
		"NODE_SUBNET=" + nodeSubnet, "POD_SUBNET=" + podSubnet, "SERVICE_SUBNET=" + serviceSubnet,
		"KUBE_PROXY_MODE=nftables", "ETCD_SYNC=off",
		// One of either case.
		"HTTPS_PROXY=" + proxy.url(), "http_proxy=" + proxy.url(), "NO_PROXY=internal.example.org",
	}
	b := m.create(ctx, t, o)

	t.Run("API_SANS", func(t *testing.T) {
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(b.made.Kubeconfig.CA)
		address := net.JoinHostPort("127.0.0.1", hostPort(ctx, t, b))
		conn, err := (&tls.Dialer{Config: &tls.Config{RootCAs: roots, ServerName: sanName}}).DialContext(ctx, "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.(*tls.Conn).ConnectionState().PeerCertificates[0].VerifyHostname(sanAddress); err != nil {
			t.Error(err)
		}
	})
	t.Run("subnets", func(t *testing.T) {
		in := func(what, address, subnet string) {
			if a, err := netip.ParseAddr(address); err != nil || !netip.MustParsePrefix(subnet).Contains(a) {
				t.Errorf("%s has the address %q, want one of %s", what, address, subnet)
			}
		}
		in("the node", b.nodes(ctx, t)[0].ip(), nodeSubnet)
		pods := b.pods(ctx, t, "--namespace=kube-system", "--selector=k8s-app=kube-dns")
		if len(pods) == 0 {
			t.Error("there is no CoreDNS")
		}
		for _, p := range pods {
			in(p.Metadata.Name, p.Status.PodIP, podSubnet)
		}
		services := strings.Fields(b.kubectl(ctx, t, "get", "services", "--all-namespaces", "--output=jsonpath={.items[*].spec.clusterIP}"))
		slices.Sort(services)
		if want := []string{"10.53.0.1", "10.53.0.10"}; !slices.Equal(services, want) {
			t.Errorf("the services' addresses are %q, want %q", services, want)
		}
		// From a node, which does not have the proxies in its environment.
		if out := b.inNode(ctx, t, "kubectl", "--kubeconfig=/etc/kubernetes/admin.conf", "--server=https://10.53.0.1", "get", "--raw=/readyz"); out != "ok" {
			t.Errorf("the service kubernetes answers %q", out)
		}
	})
	t.Run("KUBE_PROXY_MODE", func(t *testing.T) {
		const ask = `exec 3<>/dev/tcp/127.0.0.1/10249; printf 'GET /proxyMode HTTP/1.0\r\n\r\n' >&3; cat <&3`
		if answer := b.inNode(ctx, t, "bash", "-c", ask); !strings.HasSuffix(answer, "\r\n\r\nnftables") {
			t.Errorf("kube-proxy answers %q", answer)
		}
	})
	t.Run("ETCD_SYNC", func(t *testing.T) {
		// Such an etcd never calls fsync or fdatasync; what it is told is what there is to see of
		// that.
		if line := b.inNode(ctx, t, "sh", "-c", `tr '\0' ' ' < /proc/$(pidof etcd)/cmdline`); !strings.Contains(line, "--unsafe-no-fsync=true") {
			t.Errorf("etcd was started as %s", line)
		}
	})
	t.Run("proxy", func(t *testing.T) { testProxy(ctx, t, b, proxy, registry, host) })
}

// testProxy pulls through the proxy what is to be had in no other way, and checks that no program
// asks the proxy for what is inside.
func testProxy(ctx context.Context, t *testing.T, b *box, proxy *connectProxy, registry *registrytest.Server, host string) {
	const repository = "/team/image:1"
	image, err := random.Image(1<<10, 2)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(registry.Host + repository)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, image, remote.WithContext(ctx), remote.WithTransport(registry.Client().Transport)); err != nil {
		t.Fatal(err)
	}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: registry.Certificate().Raw})
	dir := "/etc/containerd/certs.d/" + host
	if _, err := b.launcher.Docker.ExecInput(ctx, b.name, strings.NewReader(string(ca)), "docker", "exec", "-i", "control-plane",
		"sh", "-c", "mkdir -p "+dir+" && cat > "+dir+"/ca.crt"); err != nil {
		t.Fatal(err)
	}
	b.inNode(ctx, t, "crictl", "pull", host+repository)
	if !slices.Contains(proxy.asked(), host+":443") {
		t.Errorf("the image did not come through the proxy, which was asked for %q", proxy.asked())
	}
	// Another name, which the proxy does not know: containerd asks it and no other server.
	if out, err := b.launcher.Docker.Exec(ctx, b.name, "docker", "exec", "control-plane", "crictl", "pull", "other.example.com/x:1"); err == nil {
		t.Errorf("pulled %s", out)
	}

	// All that was done so far had the proxies in its environment. kubectl by itself, and the
	// specs.
	if env := b.exec(ctx, t, "env"); !strings.Contains(env, "HTTPS_PROXY=") || !strings.Contains(env, "http_proxy=") {
		t.Errorf("docker exec has the environment\n%s", env)
	}
	if err := b.runSuite(ctx, t, outputs(t), "--images=", "--spec=[sig-api-machinery] server version should find the server version [Conformance]"); err != nil {
		t.Error(err)
	}
	for _, asked := range proxy.asked() {
		if asked != host+":443" && asked != "other.example.com:443" {
			t.Errorf("the proxy was asked for %s", asked)
		}
	}
	if n := proxy.refused(); n > 0 {
		t.Errorf("the proxy refused %d requests without the password", n)
	}

	// The password.
	const file = "/run/dind-cluster/nodes/proxy.env"
	if mode := strings.TrimSpace(b.exec(ctx, t, "stat", "--format=%a", file)); mode != "600" {
		t.Errorf("%s has mode %s, want 600", file, mode)
	}
	if env := b.inNode(ctx, t, "env"); strings.Contains(env, proxy.password) {
		t.Error("it is in the node's environment")
	}
	for where, text := range map[string]string{"docker logs": b.log(ctx, t), "runner logs": b.exec(ctx, t, "runner", "logs")} {
		if strings.Contains(text, proxy.password) {
			t.Errorf("%s shows it", where)
		}
	}
}

// testNoPodNetwork has a cluster without a pod network, made with Docker alone, by a file of kind's
// and of an image without a name, to which a user brings a network.
func testNoPodNetwork(t *testing.T) {
	ctx, m := newMachine(t)
	ref, err := m.image.Send(ctx)
	if err != nil {
		t.Fatal(err)
	}
	image, err := m.launcher.Docker.InspectImage(ctx, ref)
	if err != nil {
		t.Fatal(err)
	}
	b := &box{machine: m, name: m.run + "-none"}
	t.Cleanup(func() { m.remove(t, b.name) })
	t.Cleanup(func() {
		if t.Failed() {
			m.dump(t, b.name)
		}
	})
	// As kind's users have it: no nodes are one node.
	file := filepath.Join(t.TempDir(), "kind.yaml")
	const config = "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnetworking:\n  disableDefaultCNI: true\n"
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	if b.id, err = m.launcher.Docker.Run(ctx, "--privileged", "--name", b.name, "--volume", file+":/etc/dind-cluster/config.yaml:ro",
		"--env", "TIMEOUT="+m.options(t, "none", 1).Wait.String(), image.ID); err != nil {
		t.Fatal(err)
	}
	if err := m.launcher.WaitReady(ctx, b.name); err != nil {
		t.Fatal(err)
	}
	if out := strings.TrimSpace(b.inNode(ctx, t, "ls", "/etc/cni/net.d")); out != "" {
		t.Errorf("there is a pod network: %s", out)
	}
	const reason = "--output=jsonpath={.items[0].status.conditions[?(@.type==\"Ready\")].message}"
	if b.nodes(ctx, t)[0].ready() || !strings.Contains(b.kubectl(ctx, t, "get", "nodes", reason), "cni plugin not initialized") {
		t.Errorf("the node is %s", b.kubectl(ctx, t, "get", "nodes", reason))
	}
	const own = `{"cniVersion": "1.0.0", "name": "own", "plugins": [{"type": "ptp", "ipam": {"type": "host-local",
		"ranges": [[{"subnet": "10.99.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}`
	if _, err := b.launcher.Docker.ExecInput(ctx, b.name, strings.NewReader(own), "docker", "exec", "-i", "control-plane",
		"sh", "-c", "cat > /etc/cni/net.d/10-own.conflist"); err != nil {
		t.Fatal(err)
	}
	b.kubectl(ctx, t, "wait", "--for=condition=Ready", "nodes", "--all", "--timeout=60s")
	b.kubectl(ctx, t, "wait", "--for=condition=Ready", "pods", "--all", "--namespace=kube-system", "--timeout=60s")
	for _, p := range b.pods(ctx, t, "--namespace=kube-system", "--selector=k8s-app=kube-dns") {
		if !strings.HasPrefix(p.Status.PodIP, "10.99.0.") {
			t.Errorf("%s has the address %s", p.Metadata.Name, p.Status.PodIP)
		}
	}

	// The container's host has no name of the user's: its ID is not a good one for a context.
	if out := b.exec(ctx, t, "kubeconfig"); !strings.Contains(out, "current-context: dind-cluster\n") {
		t.Error("the context is not called dind-cluster")
	}
	// It is a cluster by its label, and not to a caller that gives the beginning of its ID.
	list, err := m.launcher.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(list, func(s host.Summary) bool { return s.Name == b.name }) {
		t.Errorf("the list lacks it: %+v", list)
	}
	for name, want := range map[string]bool{b.id[:12]: false, b.name: true} {
		if found, err := m.launcher.Delete(ctx, name); err != nil || found != want {
			t.Fatalf("delete %s: found %v, %v, want %v", name, found, err, want)
		}
	}
}

// testConfigFile has a cluster in which every part of its configuration file shows.
func testConfigFile(t *testing.T) {
	ctx, m := newMachine(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "seed"), []byte("of the host"), 0o644); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	listener.Close()
	config := fmt.Sprintf(`
apiVersion: dind-cluster.github.io/v1alpha1
kind: Cluster
nodes:
- role: worker
  name: storage
  labels: {example.org/disk: fast}
  taints: [{key: example.org/own, value: "1", effect: NoSchedule}]
  extraMounts: [{hostPath: %s, containerPath: /srv/data, readOnly: true}]
  extraPortMappings: [{containerPort: 10250, hostPort: %d}]
  kubeadmConfigPatches:
  - |
    kind: KubeletConfiguration
    maxPods: 60
- role: control-plane
  taints: []
featureGates: {PodLogsQuerySplitStreams: true}
runtimeConfig: {api/alpha: "true"}
kubeadmConfigPatches:
- |
  kind: KubeletConfiguration
  maxPods: 50
- |
  apiVersion: kubeadm.k8s.io/v1beta3
  kind: ClusterConfiguration
  apiServer: {extraArgs: {max-requests-inflight: 500}}
kubeadmConfigPatchesJSON6902:
- kind: ClusterConfiguration
  patch: |
    - {op: add, path: /apiServer/extraArgs/-, value: {name: event-ttl, value: 2h0m0s}}
containerdConfigPatches:
- |
  [plugins.'io.containerd.cri.v1.images'.registry]
  config_path = '/etc/containerd/certs.d'
- |
  [plugins."io.containerd.grpc.v1.cri".registry.mirrors."localhost:5005"]
  endpoint = ["http://mirror.example:5000"]
openFiles: 4096
`, dir, port)
	o := m.options(t, "config", 0)
	o.Config = &host.ConfigFile{Name: "cluster.yaml", Data: []byte(config)}
	b := m.create(ctx, t, o)

	field := func(want string, args ...string) {
		t.Helper()
		if got := b.kubectl(ctx, t, args...); got != want {
			t.Errorf("kubectl %q: got %q, want %q", args, got, want)
		}
	}
	field("storage", "get", "nodes", "--selector=example.org/disk=fast", "--output=jsonpath={.items[*].metadata.name}")
	field("example.org/own=1:NoSchedule", "get", "node", "storage", "--output=jsonpath={range .spec.taints[*]}{.key}={.value}:{.effect}{end}")
	field("", "get", "node", "control-plane", "--output=jsonpath={.spec.taints}")
	field("60", "get", "node", "storage", "--output=jsonpath={.status.capacity.pods}")
	field("50", "get", "node", "control-plane", "--output=jsonpath={.status.capacity.pods}")
	if groups := b.kubectl(ctx, t, "api-versions"); !strings.Contains(groups, "alpha") {
		t.Errorf("there is no alpha API: %s", groups)
	}
	if line := b.inNode(ctx, t, "sh", "-c", `tr '\0' ' ' < /proc/$(pidof kube-apiserver)/cmdline`); !strings.Contains(line, "--event-ttl=2h0m0s") || !strings.Contains(line, "--max-requests-inflight=500") || !strings.Contains(line, "--feature-gates=PodLogsQuerySplitStreams=true") {
		t.Errorf("the API server was started as %s", line)
	}
	if metrics := b.kubectl(ctx, t, "get", "--raw=/api/v1/nodes/storage/proxy/metrics"); !strings.Contains(metrics, `kubernetes_feature_enabled{name="PodLogsQuerySplitStreams",stage="ALPHA"} 1`) {
		t.Error("the kubelet's feature gate is not set")
	}
	inStorage := func(command ...string) string {
		return b.exec(ctx, t, append([]string{"docker", "exec", "storage"}, command...)...)
	}
	if got := inStorage("cat", "/srv/data/seed"); got != "of the host" {
		t.Errorf("the mount has %q", got)
	}
	if out, err := b.launcher.Docker.Exec(ctx, b.name, "docker", "exec", "storage", "touch", "/srv/data/x"); err == nil {
		t.Errorf("the mount is not read-only: %s", out)
	}
	if text := inStorage("containerd", "config", "dump"); !strings.Contains(text, "config_path = '/etc/containerd/certs.d'") {
		t.Error("containerd's configuration is without the patch")
	}
	if text := inStorage("cat", "/etc/containerd/certs.d/localhost:5005/hosts.toml"); !strings.Contains(text, "http://mirror.example:5000") {
		t.Errorf("the mirror is %s", text)
	}
	if limit := strings.TrimSpace(inStorage("systemctl", "show", "--property=LimitNOFILESoft", "--value", "containerd.service")); limit != "4096" {
		t.Errorf("containerd's limit is %s", limit)
	}

	// The published port leads to the node: its kubelet has a certificate with its name.
	kubelet := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}
	conn, err := kubelet.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		t.Fatalf("port %d: %v", port, err)
	}
	defer conn.Close()
	if err := conn.(*tls.Conn).ConnectionState().PeerCertificates[0].VerifyHostname("storage"); err != nil {
		t.Error(err)
	}

	// What came of it makes another such cluster.
	if again, err := configfile.Read("runner config", []byte(b.exec(ctx, t, "runner", "config"))); err != nil || len(again.Expand()) != 2 || again.OpenFiles != 4096 {
		t.Errorf("runner config prints %+v, %v", again, err)
	}
	// The cluster keeps its nodes, whatever is said later.
	if out := b.exec(ctx, t, "kubeconfig"); !strings.Contains(out, "current-context: "+b.name+"\n") {
		t.Errorf("the context is not the cluster's name: %s", out)
	}
}

// inNode runs a command in the control plane.
func (b *box) inNode(ctx context.Context, t *testing.T, command ...string) string {
	t.Helper()
	return b.exec(ctx, t, append([]string{"docker", "exec", "control-plane"}, command...)...)
}

// hostPort is the port of the Docker host where the API server is.
func hostPort(ctx context.Context, t *testing.T, b *box) string {
	t.Helper()
	c, err := b.launcher.Docker.Inspect(ctx, b.id)
	if err != nil {
		t.Fatal(err)
	}
	return c.NetworkSettings.Ports["6443/tcp"][0].HostPort
}

// network makes a network that goes with the test, and returns the address that this machine has in
// it.
func (m *machine) network(ctx context.Context, t *testing.T) (network, gateway string) {
	t.Helper()
	network = m.run + "-network"
	if err := m.launcher.Docker.Do(ctx, "make a network", "network", "create", network); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := cleanup(t)
		defer cancel()
		if err := m.launcher.Docker.Do(ctx, "remove a network", "network", "rm", network); err != nil {
			t.Error(err)
		}
	})
	out, err := m.launcher.Docker.Output(ctx, "look at a network", "network", "inspect", "--format", "{{(index .IPAM.Config 0).Gateway}}", network)
	if err != nil {
		t.Fatal(err)
	}
	return network, strings.TrimSpace(string(out))
}

// connectProxy is a proxy for HTTPS, with a password, that knows only a few names.
type connectProxy struct {
	*httptest.Server
	password string
	// known are the real addresses of what may be asked for.
	known map[string]string

	mu      sync.Mutex
	targets []string
	without int
}

// startProxy starts a proxy on an address of this machine, which ends with the test.
func startProxy(t *testing.T, address string, known map[string]string) *connectProxy {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		t.Fatal(err)
	}
	p := &connectProxy{password: "correct$horse", known: known}
	p.Server = httptest.NewUnstartedServer(p)
	p.Listener.Close()
	p.Listener = listener
	p.Start()
	t.Cleanup(func() {
		p.CloseClientConnections()
		p.Close()
	})
	return p
}

// url is the proxy's, with its password.
func (p *connectProxy) url() string {
	return "http://someone:" + p.password + "@" + p.Listener.Addr().String()
}

func (p *connectProxy) asked() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.targets)
}

func (p *connectProxy) refused() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.without
}

func (p *connectProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	authorized := r.Header.Get("Proxy-Authorization") == "Basic "+base64.StdEncoding.EncodeToString([]byte("someone:"+p.password))
	p.mu.Lock()
	p.targets = append(p.targets, r.Host)
	if !authorized {
		p.without++
	}
	p.mu.Unlock()
	address, ok := p.known[r.Host]
	switch {
	case !authorized:
		http.Error(w, "who are you?", http.StatusProxyAuthRequired)
		return
	case r.Method != http.MethodConnect || !ok:
		http.Error(w, "not from here", http.StatusForbidden)
		return
	}
	server, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer server.Close()
	client, buffered, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer client.Close()
	if _, err := io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		return
	}
	go func() {
		io.Copy(server, buffered)
		server.(*net.TCPConn).CloseWrite()
	}()
	io.Copy(client, server)
}
