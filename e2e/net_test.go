package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dind-cluster/dind-cluster/cluster/host"
)

// TestDualStack has a cluster with both IP families, and kube-proxy with nftables.
func TestDualStack(t *testing.T) {
	testFamilies(t, "dual", "{ipFamily: dual, kubeProxyMode: nftables, mtu: 1400, dnsSearch: [corp.example]}", "IPv4", "IPv6")
}

// TestIPv6 has a cluster with IPv6 alone, on whatever network this machine has.
func TestIPv6(t *testing.T) {
	testFamilies(t, "ipv6", "{ipFamily: ipv6, detectLocalMode: NodeCIDR}", "IPv6")
}

// nodePorts and webServicePort are those of testdata/families.yaml, webPort that of testdata/web.yaml.
var nodePorts = map[string]int{"IPv4": 30084, "IPv6": 30086}

const webPort, webServicePort = 8080, 80

// testFamilies checks the ways to and between two pods by each IP family, before and after a
// restart.
func testFamilies(t *testing.T, name, networking string, families ...string) {
	ctx, m := newMachine(t)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	published := free.Addr().(*net.TCPAddr).Port
	free.Close()
	o := m.options(t, name, 0)
	o.Config = &host.ConfigFile{Name: name + ".yaml", Data: []byte(fmt.Sprintf(`
apiVersion: dind-cluster.github.io/v1alpha1
kind: Cluster
nodes:
- {role: control-plane, taints: []}
- {role: worker, extraPortMappings: [{containerPort: %d, hostPort: %d}]}
networking: %s
`, nodePorts[families[0]], published, networking))}
	b := m.create(ctx, t, o)
	b.load(ctx, t, "AGNHOST")
	b.apply(ctx, t, "web.yaml", "AGNHOST", b.testImage(ctx, t, "registry.k8s.io/e2e-test-images/agnhost"))
	for _, family := range families {
		b.apply(ctx, t, "families.yaml", "FAMILY", family, "NAME", strings.ToLower(family), "HTTPNODEPORT", strconv.Itoa(nodePorts[family]))
	}
	b.kubectl(ctx, t, "rollout", "status", "deployment/web", "--timeout=60s")
	step := steps(t)
	step("network", func(t *testing.T) { b.checkFamilies(ctx, t, families) })
	step("published port", func(t *testing.T) { checkPublished(ctx, t, b, published) })
	step("neighbour", func(t *testing.T) { testNeighbour6(ctx, t, b) })
	if name == "dual" {
		step("settings", func(t *testing.T) { b.checkNetworkSettings(ctx, t) })
	}
	step("restart", func(t *testing.T) {
		if err := b.launcher.Docker.Stop(ctx, b.name, 30*time.Second); err != nil {
			t.Fatal(err)
		}
		if err := b.launcher.Docker.Start(ctx, b.name); err != nil {
			t.Fatal(err)
		}
		if err := b.launcher.WaitReady(ctx, b.name); err != nil {
			t.Fatal(err)
		}
		b.kubectl(ctx, t, "wait", "--for=condition=Ready", "pods", "--all", "--timeout=60s")
		b.checkFamilies(ctx, t, families)
		checkPublished(ctx, t, b, published)
		// From this machine, at the same port.
		hostGet(ctx, t, o.Kubeconfig.Path(), host.ContextName(b.name), "/readyz")
	})
}

// familiesOf returns the IP families of addresses, each once, in their order.
func familiesOf(addresses []string) []string {
	var out []string
	for _, text := range addresses {
		family := "IPv4"
		if a, err := netip.ParseAddr(text); err != nil {
			family = err.Error()
		} else if a.Is6() {
			family = "IPv6"
		}
		if !slices.Contains(out, family) {
			out = append(out, family)
		}
	}
	return out
}

// checkFamilies checks that nodes, pods and services have addresses of just these families, and
// lead to the pods by each.
func (b *box) checkFamilies(ctx context.Context, t *testing.T, want []string) {
	t.Helper()
	lists := func(args ...string) [][]string {
		var out [][]string
		for line := range strings.Lines(b.kubectl(ctx, t, append([]string{"get"}, args...)...)) {
			out = append(out, strings.Fields(line))
		}
		return out
	}
	nodes := lists("nodes", `--output=jsonpath={range .items[*]}{.status.addresses[?(@.type=="InternalIP")].address}{"\n"}{end}`)
	pods := lists("pods", "--selector=app=web", `--output=jsonpath={range .items[*]}{.status.podIPs[*].ip}{"\n"}{end}`)
	for _, addresses := range slices.Concat(nodes, pods) {
		if got := familiesOf(addresses); !slices.Equal(got, want) {
			t.Errorf("a node or a pod has the addresses %q, want %q", addresses, want)
		}
	}
	web := b.pods(ctx, t, "--selector=app=web")
	if len(web) != 2 || len(pods) != 2 || len(nodes) != 2 || web[0].Spec.NodeName == web[1].Spec.NodeName {
		t.Fatalf("got pods %+v on nodes %q, want two on different nodes", web, nodes)
	}
	names := []string{web[0].Metadata.Name, web[1].Metadata.Name}
	check := func(from pod, what, address string, port int, want ...string) {
		t.Helper()
		if got := b.dial(ctx, t, from, "http", address, port); !slices.Contains(want, got) {
			t.Errorf("%s at %s: %q answered, want one of %q", what, address, got, want)
		}
	}
	for i, family := range want {
		service := "web-" + strings.ToLower(family)
		address := b.kubectl(ctx, t, "get", "service", service, "--output=jsonpath={.spec.clusterIP}")
		if got := familiesOf([]string{address}); !slices.Equal(got, []string{family}) {
			t.Errorf("service %s has the address %s", service, address)
		}
		for j, from := range web {
			check(from, "the other pod", pods[1-j][i], webPort, names[1-j])
			check(from, "service", address, webServicePort, names...)
			// The DNS has an A or an AAAA record of it, and no other one.
			check(from, "service", service+".default.svc.cluster.local", webServicePort, names...)
			for _, n := range nodes {
				check(from, "node port", n[i], nodePorts[family], names...)
			}
		}
		// From the cluster's own container, too.
		for _, target := range []string{address + "/" + strconv.Itoa(webServicePort), pods[0][i] + "/" + strconv.Itoa(webPort)} {
			b.exec(ctx, t, "timeout", "10", "bash", "-c", "until (</dev/tcp/"+target+") 2>/dev/null; do sleep 0.1; done")
		}
	}
}

// checkPublished checks that a node port is reached at a port of this machine.
func checkPublished(ctx context.Context, t *testing.T, b *box, port int) {
	t.Helper()
	var last string
	for deadline := time.Now().Add(b.patience * 15 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		try, cancel := context.WithTimeout(ctx, 2*time.Second)
		request, err := http.NewRequestWithContext(try, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/hostname", port), nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(request)
		if last = fmt.Sprint(err); err == nil {
			body, _ := io.ReadAll(answer.Body)
			answer.Body.Close()
			last = string(body)
		}
		cancel()
		if strings.HasPrefix(last, "web-") {
			return
		}
	}
	t.Errorf("port %d of this machine does not lead to a pod: %s", port, last)
}

// testNeighbour6 checks what another container on the same network reaches by IPv6, by a route
// through the cluster's. The network need not have IPv6: both get an address by hand.
func testNeighbour6(ctx context.Context, t *testing.T, b *box) {
	const own, neighbour = "fd99:1::1", "fd99:1::2"
	info, err := b.launcher.Docker.Inspect(ctx, b.name)
	if err != nil {
		t.Fatal(err)
	}
	b.exec(ctx, t, "sh", "-c", "echo 0 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6; ip address replace "+own+"/64 dev eth0 nodad")
	service := b.kubectl(ctx, t, "get", "service", "web-ipv6", "--output=jsonpath={.spec.clusterIP}")
	var addresses []string
	var list struct {
		Items []struct {
			Status struct{ PodIPs []struct{ IP string } }
		}
	}
	if err := json.Unmarshal([]byte(b.kubectl(ctx, t, "get", "pods", "--selector=app=web", "--output=json")), &list); err != nil || len(list.Items) == 0 {
		t.Fatalf("reading pods: %d, %v", len(list.Items), err)
	}
	for _, ip := range list.Items[0].Status.PodIPs {
		addresses = append(addresses, ip.IP)
	}
	pod := addresses[slices.IndexFunc(addresses, func(a string) bool { return strings.Contains(a, ":") })]
	const node, gateway = "fd00:10:250::2", "fd00:10:250::1"
	open := []string{own + "/6443"}
	closed := []string{node + "/6443", node + "/10250", node + "/" + strconv.Itoa(nodePorts["IPv6"]), pod + "/" + strconv.Itoa(webPort), service + "/" + strconv.Itoa(webServicePort), gateway + "/53"}
	reach := func(targets []string) string {
		var script strings.Builder
		for _, a := range targets {
			fmt.Fprintf(&script, "if timeout 2 bash -c '</dev/tcp/%[1]s' 2>/dev/null; then echo %[1]s; fi & ", a)
		}
		return script.String() + "wait"
	}
	sorted := func(text string) []string { return slices.Sorted(strings.FieldsSeq(text)) }
	slices.Sort(closed)
	// From inside all of them are open: otherwise that they are closed would mean nothing.
	if got := sorted(b.exec(ctx, t, "bash", "-c", reach(closed))); !slices.Equal(got, closed) {
		t.Fatalf("from the cluster's own container %q are open, want %q", got, closed)
	}
	out, err := b.launcher.Docker.Output(ctx, "look from a neighbour", "run", "--rm", "--pull", "never", "--name", b.name+"-neighbour",
		"--privileged", "--entrypoint", "bash", info.Config.Image, "-c",
		"echo 0 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6; ip address replace "+neighbour+"/64 dev eth0 nodad && ip route add fd00:10::/32 via "+own+" || exit; "+reach(slices.Concat(open, closed)))
	if err != nil {
		t.Fatal(err)
	}
	if got := sorted(string(out)); !slices.Equal(got, open) {
		t.Errorf("by IPv6 a neighbour reaches %q, want %q", got, open)
	}
}

// checkNetworkSettings checks the settings of TestDualStack that are about neither IP family.
func (b *box) checkNetworkSettings(ctx context.Context, t *testing.T) {
	pod := b.pods(ctx, t, "--selector=app=web")[0].Metadata.Name
	for _, where := range [][]string{{"docker", "exec", "worker1"}, {"kubectl", "exec", pod, "--"}} {
		if got := strings.TrimSpace(b.exec(ctx, t, append(where, "cat", "/sys/class/net/eth0/mtu")...)); got != "1400" {
			t.Errorf("%q: the MTU is %s, want 1400", where, got)
		}
		if got := b.exec(ctx, t, append(where, "cat", "/etc/resolv.conf")...); !strings.Contains(got, "corp.example") {
			t.Errorf("%q: there is no corp.example in\n%s", where, got)
		}
	}
	if got := b.exec(ctx, t, "docker", "exec", "worker1", "nft", "list", "tables"); !strings.Contains(got, "table ip kube-proxy") || !strings.Contains(got, "table ip6 kube-proxy") {
		t.Errorf("kube-proxy has not the tables of both families, but\n%s", got)
	}
}
