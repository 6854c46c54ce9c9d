// Package topology resolves a cluster's settings to its endpoint, its networks, and every node with
// its name and addresses.
//
// The top-level container owns the network that its nodes live in, so nothing has to be allocated:
// all addresses follow from the settings alone. They are therefore the same after a restart, and
// routes to nodes that do not exist yet can be laid down in advance.
package topology

import (
	"fmt"
	"math/big"
	"net/netip"

	"github.com/dind-cluster/dind-cluster/cluster/plan"
)

// Role is a node's role in the cluster.
type Role string

// The roles.
const (
	ControlPlane Role = "control-plane"
	Worker       Role = "worker"
)

// Topology describes a whole cluster. Nodes get no other settings, and it is saved with the
// cluster's state.
type Topology struct {
	// Endpoint is where nodes, pods and the runner reach the API server.
	Endpoint netip.AddrPort `json:"endpoint"`
	Networks Networks       `json:"networks"`
	// Nodes begins with the control plane on which `kubeadm init` runs.
	Nodes []Node `json:"nodes"`

	// APISANs are further names and addresses for the API server's certificate.
	APISANs []string `json:"apiSANs,omitempty"`
	// ProxyMode is kube-proxy's mode: iptables or nftables.
	ProxyMode string `json:"proxyMode"`
	// EtcdSync reports whether etcd syncs its writes to the disk (fsync).
	EtcdSync bool `json:"etcdSync"`
	// NoFile is the soft limit on open files (RLIMIT_NOFILE) of the processes of pods.
	NoFile int `json:"noFile"`
}

// Networks are the cluster's subnets: one per IP family and purpose, the primary family first.
type Networks struct {
	Nodes    []netip.Prefix `json:"nodes"`
	Pods     []netip.Prefix `json:"pods"`
	Services []netip.Prefix `json:"services"`
	// PodNetwork is plan.PodNetworkPTP or plan.PodNetworkNone.
	PodNetwork string `json:"podNetwork"`
}

// Node is one node.
type Node struct {
	Name string `json:"name"`
	Role Role   `json:"role"`
	// Slot is the node's place in the subnets, from which its addresses follow.
	Slot int `json:"slot"`
	// IPs are the node's own addresses and PodCIDRs those of its pods, in the order of Networks.
	IPs      []netip.Addr   `json:"ips"`
	PodCIDRs []netip.Prefix `json:"podCIDRs"`
	// Labels and Taints are those of the Node object.
	Labels map[string]string `json:"labels,omitempty"`
	Taints []Taint           `json:"taints,omitempty"`
	// Ports of the node are published in the top-level container.
	Ports []Port `json:"ports,omitempty"`
}

// Taint is a taint as the core/v1 API writes it.
type Taint struct {
	Key    string `json:"key"`
	Value  string `json:"value,omitempty"`
	Effect string `json:"effect"`
}

// Port is a TCP port of a node that is published as a port of the top-level container.
type Port struct {
	Host uint16 `json:"host"`
	Node uint16 `json:"node"`
}

// Resolve returns the topology that settings describe.
func Resolve(s plan.Cluster) Topology {
	t := Topology{
		Networks: Networks{
			Nodes:      []netip.Prefix{s.NodeSubnet},
			Pods:       []netip.Prefix{s.PodSubnet},
			Services:   []netip.Prefix{s.ServiceSubnet},
			PodNetwork: s.PodNetwork,
		},
		APISANs:   s.APISANs,
		ProxyMode: s.ProxyMode,
		EtcdSync:  s.EtcdSync,
		NoFile:    s.NoFile,
	}
	for slot := range s.Nodes {
		n := Node{Name: fmt.Sprintf("worker%d", slot), Role: Worker, Slot: slot}
		n.IPs, n.PodCIDRs = t.Networks.Slot(slot)
		if slot == 0 {
			n.Name, n.Role = "control-plane", ControlPlane
			n.Ports = []Port{{Host: plan.APIServerPort, Node: plan.APIServerPort}}
			// As kubeadm's phase mark-control-plane adds them
			// (https://github.com/kubernetes/kubernetes/blob/v1.37.2/cmd/kubeadm/app/phases/markcontrolplane/markcontrolplane.go).
			n.Labels = map[string]string{
				"node-role.kubernetes.io/control-plane":                   "",
				"node.kubernetes.io/exclude-from-external-load-balancers": "",
			}
			if s.Nodes > 1 { // The only node has to run the pods as well.
				n.Taints = []Taint{{Key: "node-role.kubernetes.io/control-plane", Effect: "NoSchedule"}}
			}
		}
		t.Nodes = append(t.Nodes, n)
	}
	t.Endpoint = netip.AddrPortFrom(t.Nodes[0].IPs[0], plan.APIServerPort)
	return t
}

// Init returns the control plane on which `kubeadm init` runs.
func (t Topology) Init() Node { return t.Nodes[0] }

// Names returns the names of nodes.
func Names(nodes []Node) []string {
	var names []string
	for _, n := range nodes {
		names = append(names, n.Name)
	}
	return names
}

// podCIDRBits is the length of one node's IPv4 pod prefix: 254 addresses for at most 110 pods.
const podCIDRBits = 24

// Slot returns the addresses of the node in a slot, from 0 to plan.MaxNodes-1, and those of its
// pods.
func (n Networks) Slot(slot int) (ips []netip.Addr, podCIDRs []netip.Prefix) {
	for _, subnet := range n.Nodes {
		ips = append(ips, offset(subnet, 2+slot))
	}
	for _, subnet := range n.Pods {
		podCIDRs = append(podCIDRs, netip.PrefixFrom(offset(subnet, slot<<(32-podCIDRBits)), podCIDRBits))
	}
	return ips, podCIDRs
}

// Gateway returns the top-level container's address in the nodes' network. It also answers the
// nodes' DNS queries.
func (n Networks) Gateway() netip.Addr { return offset(n.Nodes[0], 1) }

// KubernetesService returns the address of the service "kubernetes".
func (n Networks) KubernetesService() netip.Addr { return offset(n.Services[0], 1) }

// DNSService returns the address of the cluster's DNS service: the tenth, as GetDNSIP in
// https://github.com/kubernetes/kubernetes/blob/v1.37.2/cmd/kubeadm/app/constants/constants.go has
// it.
func (n Networks) DNSService() netip.Addr { return offset(n.Services[0], 10) }

// offset returns the n-th address of p.
func offset(p netip.Prefix, n int) netip.Addr {
	base := p.Masked().Addr().AsSlice()
	sum := new(big.Int).Add(new(big.Int).SetBytes(base), big.NewInt(int64(n)))
	a, _ := netip.AddrFromSlice(sum.FillBytes(base))
	return a
}
