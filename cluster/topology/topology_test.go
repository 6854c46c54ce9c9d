package topology

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
)

func TestResolve(t *testing.T) {
	s := v1alpha1.Default()
	s.Nodes = v1alpha1.Workers(v1alpha1.MaxNodes - 1)
	got := Resolve(s)
	for _, test := range []struct {
		slot           int
		name, ip, cidr string
		role           string
		labels, taints int
	}{
		{0, "control-plane", "10.250.0.2", "10.244.0.0/24", ControlPlane, 2, 1},
		{1, "worker1", "10.250.0.3", "10.244.1.0/24", Worker, 0, 0},
		{99, "worker99", "10.250.0.101", "10.244.99.0/24", Worker, 0, 0},
	} {
		n := got.Nodes[test.slot]
		if n.Name != test.name || n.Slot != test.slot || n.Role != test.role ||
			len(n.IPs) != 1 || n.IPs[0].String() != test.ip || len(n.PodCIDRs) != 1 || n.PodCIDRs[0].String() != test.cidr ||
			len(n.Labels) != test.labels || len(n.Taints) != test.taints || (len(n.Ports) == 1) != (test.role == ControlPlane) {
			t.Errorf("slot %d: got %+v, want %+v", test.slot, n, test)
		}
	}
	if len(got.Nodes) != v1alpha1.MaxNodes || got.Init().Name != "control-plane" || got.Endpoint.String() != "10.250.0.2:6443" {
		t.Errorf("%d nodes, init on %s, endpoint %s", len(got.Nodes), got.Init().Name, got.Endpoint)
	}
	n := got.Networks
	if text := n.Gateway().String() + " " + n.KubernetesService().String() + " " + n.DNSService().String(); text != "10.250.0.1 10.96.0.1 10.96.0.10" {
		t.Errorf("got %s", text)
	}
}

// The only node has to run all pods.
func TestSingleNode(t *testing.T) {
	s := v1alpha1.Default()
	s.Nodes = v1alpha1.Workers(0)
	if n := Resolve(s).Init(); len(n.Taints) != 0 || len(n.Labels) != 2 {
		t.Errorf("got %+v", n)
	}
}

// What a user says of a node is the node's.
func TestNodes(t *testing.T) {
	s := v1alpha1.Default()
	s.Nodes = []v1alpha1.Node{
		{Role: Worker, Labels: map[string]string{"a": "b"}, Taints: []v1alpha1.Taint{{Key: "x", Effect: "NoExecute"}}},
		{Role: ControlPlane, Labels: map[string]string{"c": "d"}, Taints: []v1alpha1.Taint{}, KubeadmConfigPatches: []string{"kind: InitConfiguration"}},
	}
	nodes := Resolve(s).Nodes
	if n := nodes[0]; n.Role != ControlPlane || len(n.Labels) != 3 || len(n.Taints) != 0 || len(n.Patches.Merge) != 1 {
		t.Errorf("control plane: got %+v", n)
	}
	if n := nodes[1]; n.Name != "worker1" || n.Labels["a"] != "b" || n.Taints[0].Key != "x" || n.Slot != 1 {
		t.Errorf("worker: got %+v", n)
	}
	if len(s.Nodes[1].Labels) != 1 {
		t.Errorf("the configuration has changed: %+v", s.Nodes[1])
	}
}

// With several control planes, the API servers are behind the top-level container's load balancer.
func TestControlPlanes(t *testing.T) {
	s := v1alpha1.Default()
	three := 3
	s.Nodes = []v1alpha1.Node{{Role: Worker}, {Role: ControlPlane, Count: &three}}
	got := Resolve(s)
	names := Names(got.ControlPlanes())
	if !slices.Equal(names, []string{"control-plane", "control-plane2", "control-plane3"}) || !got.Balanced() || got.Endpoint.String() != "10.250.0.1:6443" {
		t.Errorf("got %q, balanced %v, endpoint %s", names, got.Balanced(), got.Endpoint)
	}
	for i, n := range got.Nodes {
		if len(n.Ports) != 0 || i < 3 && n.APIServer().String() != fmt.Sprintf("10.250.0.%d:6443", 2+i) || i < 3 && len(n.Taints) != 1 {
			t.Errorf("node %d: got %+v", i, n)
		}
	}
	if got.Nodes[3].Name != "worker1" || got.Nodes[3].Slot != 3 {
		t.Errorf("got %+v", got.Nodes[3])
	}
}

// By each IP family a node has one address and one subnet of pods, and none by the IPv4 subnet for
// the way out.
func TestIPFamilies(t *testing.T) {
	for _, test := range []struct {
		family, pods, want string
	}{
		{"dual", "", "10.250.0.101 fd00:10:250::65 10.244.99.0/24 fd00:10:244:63::/64 10.250.0.2:6443 10.250.0.1 10.96.0.10"},
		{"dual", "fd00:1::/112,10.9.0.0/16", "fd00:10:250::65 10.250.0.101 fd00:1::6300/120 10.9.99.0/24 [fd00:10:250::2]:6443 fd00:10:250::1 fd00:10:96::a"},
		{"ipv6", "", "fd00:10:250::65 fd00:10:244:63::/64 [fd00:10:250::2]:6443 fd00:10:250::1 fd00:10:96::a"},
		{"ipv6", "fd00:1::/48", "fd00:10:250::65 fd00:1:0:63::/64 [fd00:10:250::2]:6443 fd00:10:250::1 fd00:10:96::a"},
		{"ipv6", "fd00:1::/60", "fd00:10:250::65 fd00:1:0:6:3000::/68 [fd00:10:250::2]:6443 fd00:10:250::1 fd00:10:96::a"},
	} {
		s := v1alpha1.Begin()
		s.Nodes, s.Networking.IPFamily = v1alpha1.Workers(v1alpha1.MaxNodes-1), test.family
		if test.pods != "" {
			var err error
			if s.Networking.PodSubnet, err = v1alpha1.ParseSubnets(test.pods); err != nil {
				t.Fatal(err)
			}
		}
		s.Networking.Complete()
		if err := s.Validate(); err != nil {
			t.Errorf("%+v: %v", test, err)
		}
		top := Resolve(s)
		n := top.Nodes[v1alpha1.MaxNodes-1]
		var got []string
		for _, ip := range n.IPs {
			got = append(got, ip.String())
		}
		for _, p := range n.PodCIDRs {
			got = append(got, p.String())
		}
		got = append(got, top.Endpoint.String(), top.Networks.Gateway().String(), top.Networks.DNSService().String())
		if text := strings.Join(got, " "); text != test.want {
			t.Errorf("%s %s: got %s, want %s", test.family, test.pods, text, test.want)
		}
		if out := top.Networks.Outside; (test.family == "ipv6") != (out.IsValid() && out.Addr().Is4()) || !top.Networks.IPv6() {
			t.Errorf("%s: the way out is %v, IPv6 %v", test.family, out, top.Networks.IPv6())
		}
	}
}

// The certificate has the address at which the API server is published, as clients have it.
func TestAPIAddress(t *testing.T) {
	for address, want := range map[string]string{"": "", "0.0.0.0": "127.0.0.1", "::": "::1", "192.0.2.7": "192.0.2.7"} {
		s := v1alpha1.Default()
		s.Networking.APIServerAddress = address
		if got := strings.Join(Resolve(s).APISANs, ","); got != want {
			t.Errorf("%q: got %s, want %s", address, got, want)
		}
	}
}

// What is written to the disk comes back.
func TestRoundTrip(t *testing.T) {
	c := v1alpha1.Default()
	c.Networking.SetIPFamily("ipv6")
	c.Networking.DNSSearch = []string{}
	want := Resolve(c)
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got Topology
	if err := json.Unmarshal(data, &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
}

// A load balancer before a single control plane is asked for, and stays when others go.
func TestBalanced(t *testing.T) {
	c := v1alpha1.Default()
	if Resolve(c).Balanced() {
		t.Error("a single control plane has a load balancer")
	}
	c.Networking.APIServerLoadBalancer = true
	one := Resolve(c)
	if !one.Balanced() || one.Endpoint.String() != "10.250.0.1:6443" || len(one.Init().Ports) != 0 {
		t.Errorf("balanced %v, endpoint %s, ports %v", one.Balanced(), one.Endpoint, one.Init().Ports)
	}
	c.Networking.APIServerLoadBalancer = false
	c.Nodes = []v1alpha1.Node{{Role: ControlPlane, Count: new(2)}}
	two := Resolve(c)
	two.Nodes = two.Nodes[1:]
	if !two.Balanced() {
		t.Error("without the first control plane there is no load balancer")
	}
}
