package cluster

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/cluster/topology"
)

func family(name string) topology.Topology {
	s := v1alpha1.Default()
	s.Nodes = []v1alpha1.Node{{Role: v1alpha1.RoleControlPlane}, {Role: v1alpha1.RoleWorker, ExtraPortMappings: []v1alpha1.Port{
		{ContainerPort: 80, HostPort: 8080}, {ContainerPort: 53, HostPort: 5353, Protocol: "UDP"},
	}}}
	s.Networking.SetIPFamily(name)
	return topology.Resolve(s)
}

func TestNetworkArgs(t *testing.T) {
	const options = "--opt com.docker.network.bridge.name=nodes --opt com.docker.network.driver.mtu=1400"
	for name, want := range map[string]string{
		"ipv4": "--subnet 10.250.0.0/24 --gateway 10.250.0.1 ",
		"dual": "--subnet 10.250.0.0/24 --gateway 10.250.0.1 --subnet fd00:10:250::/64 --gateway fd00:10:250::1 --ipv6 ",
		"ipv6": "--subnet fd00:10:250::/64 --gateway fd00:10:250::1 --ipv6 --subnet 10.250.0.0/24 ",
	} {
		if got := strings.Join(networkArgs(family(name).Networks, 1400), " "); got != "network create --driver bridge "+want+options {
			t.Errorf("%s: got %s", name, got)
		}
	}
}

// The engine publishes what the node's IPv4 address leads to; the rest is forwarded.
func TestPublished(t *testing.T) {
	for name, want := range map[string]int{"ipv4": 2, "dual": 2, "ipv6": 0} {
		nodes := family(name).Nodes
		if got := strings.Count(strings.Join(runArgs(nodes[1]), " "), "--publish"); got != want {
			t.Errorf("%s: %d ports of the worker are published, want %d", name, got, want)
		}
		if args := runArgs(nodes[0]); !slices.Contains(args, "6443:6443/tcp") {
			t.Errorf("%s: the API server is not published: %q", name, args)
		}
	}
	worker := family("ipv6").Nodes[1]
	if got := strings.Join(socat(worker, worker.Ports[0]), " "); got != "socat TCP6-LISTEN:8080,ipv6only=0,reuseaddr,fork TCP6:[fd00:10:250::3]:80" {
		t.Errorf("got %s", got)
	}
	if got := strings.Join(socat(worker, worker.Ports[1]), " "); got != "socat -T 60 UDP6-LISTEN:5353,ipv6only=0,reuseaddr,fork UDP6:[fd00:10:250::3]:53" {
		t.Errorf("got %s", got)
	}
}

func TestNetworkOptions(t *testing.T) {
	full, empty := t.TempDir(), t.TempDir()
	if err := os.Mkdir(filepath.Join(full, "6.12"), 0o755); err != nil {
		t.Fatal(err)
	}
	own := topology.Node{Mounts: []topology.Mount{{Source: "/host/lib/modules", Target: "/lib/modules"}}}
	for _, test := range []struct {
		search  []string
		node    topology.Node
		modules string
		want    string
	}{
		{nil, topology.Node{}, "/no/such", ""},
		{nil, topology.Node{}, empty, ""},
		{nil, topology.Node{}, full, "--volume " + full + ":/lib/modules:ro"},
		{nil, own, full, ""},
		{[]string{}, own, empty, "--dns-search ."},
		{[]string{"a.b", "c"}, own, empty, "--dns-search a.b --dns-search c"},
	} {
		if got := strings.Join(networkOptions(topology.Networks{Search: test.search}, test.node, test.modules), " "); got != test.want {
			t.Errorf("%+v: got %q", test, got)
		}
	}
}

// The packet filter is as strict for one IP family as for the other, and nft takes it.
func TestInboundRules(t *testing.T) {
	const input4, input6 = `ip daddr 10.250.0.1 iifname != { "nodes", "lo" } counter drop`, `ip6 daddr fd00:10:250::1 iifname != { "nodes", "lo" } counter drop`
	const out = `ip6 saddr fd00:10:250::/64 oifname != "nodes" masquerade`
	for name, want := range map[string][]bool{"ipv4": {true, false, false}, "dual": {true, true, true}, "ipv6": {false, true, true}} {
		got := inboundRules(family(name).Networks)
		for i, rule := range []string{input4, input6, out} {
			if strings.Contains(got, rule) != want[i] {
				t.Errorf("%s: %q: want %v in\n%s", name, rule, want[i], got)
			}
		}
		if nft, err := exec.LookPath("nft"); err == nil {
			cmd := exec.CommandContext(t.Context(), nft, "--check", "--file", "-")
			cmd.Stdin = strings.NewReader(got)
			if text, err := cmd.CombinedOutput(); err != nil && os.Getuid() == 0 {
				t.Errorf("%s: %v: %s", name, err, text)
			}
		}
	}
}

func TestCheckKernel(t *testing.T) {
	without, with := t.TempDir(), t.TempDir()
	for _, dir := range []string{"sys/net/ipv6/conf/all", "net/ip_vs"} {
		if err := os.MkdirAll(filepath.Join(with, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	ipvs := family("ipv4")
	ipvs.ProxyMode = v1alpha1.KubeProxyIPVS
	both := family("dual")
	both.ProxyMode = v1alpha1.KubeProxyIPVS
	for _, test := range []struct {
		name     string
		topology topology.Topology
		want     []string
	}{
		{"nothing asked for", family("ipv4"), nil},
		{"dual", family("dual"), []string{"kernel has no IPv6", "IP_FAMILY"}},
		{"ipvs", ipvs, []string{"kernel has no IPVS", "modprobe ip_vs", "KUBE_PROXY_MODE"}},
		{"both", both, []string{"no IPv6", "no IPVS"}},
	} {
		if err := checkKernel(context.Background(), test.topology, with); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		err := checkKernel(context.Background(), test.topology, without)
		if (err == nil) != (test.want == nil) {
			t.Errorf("%s: got %v", test.name, err)
		}
		for _, want := range test.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v, want %q", test.name, err, want)
			}
		}
	}
}
