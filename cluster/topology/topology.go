// Package topology resolves a cluster's settings to its endpoint, its networks, and every node with
// its name and addresses.
//
// The top-level container owns the network that its nodes live in, so nothing has to be allocated:
// all addresses follow from the settings alone. They are therefore the same after a restart, and
// routes to nodes that do not exist yet can be laid down in advance.
package topology

import (
	"cmp"
	"maps"
	"math/big"
	"net/netip"
	"slices"
	"strings"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/cluster/paths"
)

// The roles of nodes.
const (
	ControlPlane = v1alpha1.RoleControlPlane
	Worker       = v1alpha1.RoleWorker
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
	// FeatureGates are those of all components, RuntimeConfig the API server's --runtime-config.
	FeatureGates  map[string]bool   `json:"featureGates,omitempty"`
	RuntimeConfig map[string]string `json:"runtimeConfig,omitempty"`
	// Kubernetes has settings of components, and EtcdArgs are flags of etcd.
	Kubernetes v1alpha1.Kubernetes `json:"kubernetes"`
	EtcdArgs   v1alpha1.ExtraArgs  `json:"etcdArgs,omitempty"`
	// ContainerdPatches are made to containerd's configuration: see v1alpha1.Cluster.
	ContainerdPatches []string `json:"containerdPatches,omitempty"`
	// Registries are those that containerd reaches in a way of their own, passwords among it.
	Registries map[string]v1alpha1.Registry `json:"registries,omitempty"`
	// CACertificates are authorities, PEM, that nodes trust besides the usual ones.
	CACertificates []string `json:"caCertificates,omitempty"`
	// Patches are made to kubeadm's configuration.
	Patches Patches `json:"patches,omitzero"`
}

// Patches change kubeadm's configuration: see v1alpha1.Cluster.
type Patches struct {
	Merge    []string                 `json:"merge,omitempty"`
	JSON6902 []v1alpha1.JSON6902Patch `json:"json6902,omitempty"`
}

// Networks are the cluster's subnets: one per IP family and purpose, the primary family first.
type Networks struct {
	Nodes    []netip.Prefix `json:"nodes"`
	Pods     []netip.Prefix `json:"pods"`
	Services []netip.Prefix `json:"services"`
	// PodNetwork is v1alpha1.PodNetworkPTP or v1alpha1.PodNetworkNone.
	PodNetwork string `json:"podNetwork"`
}

// Node is one node.
type Node struct {
	Name string `json:"name"`
	Role string `json:"role"`
	// Slot is the node's place in the subnets, from which its addresses follow.
	Slot int `json:"slot"`
	// IPs are the node's own addresses and PodCIDRs those of its pods, in the order of Networks.
	IPs      []netip.Addr   `json:"ips"`
	PodCIDRs []netip.Prefix `json:"podCIDRs"`
	// Labels and Taints are those of the Node object.
	Labels map[string]string `json:"labels,omitempty"`
	Taints []v1alpha1.Taint  `json:"taints,omitempty"`
	// Ports of the node are published in the top-level container.
	Ports []Port `json:"ports,omitempty"`
	// Mounts are what the node has of the top-level container's files.
	Mounts []Mount `json:"mounts,omitempty"`
	// Patches are made after those of the cluster.
	Patches Patches `json:"patches,omitzero"`
}

// Port is a port of a node, and that under which the top-level container has it.
type Port struct {
	Host int `json:"host"`
	Node int `json:"node"`
	// Protocol is tcp or udp.
	Protocol string `json:"protocol"`
}

// Mount is a path in the top-level container that a node has under a path of its own.
type Mount struct {
	Source   string `json:"source"`
	Target   string `json:"target"`
	ReadOnly bool   `json:"readOnly,omitempty"`
	// Propagation is Docker's word for it: rprivate, rslave or rshared.
	Propagation string `json:"propagation"`
}

// Resolve returns the topology of a cluster as its user described it.
func Resolve(c v1alpha1.Cluster) Topology {
	t := Topology{
		Networks: Networks{
			Nodes:      []netip.Prefix{c.Networking.NodeSubnet},
			Pods:       []netip.Prefix{c.Networking.PodSubnet},
			Services:   []netip.Prefix{c.Networking.ServiceSubnet},
			PodNetwork: c.Networking.PodNetwork,
		},
		APISANs:       c.Networking.APIServerSANs,
		ProxyMode:     c.Networking.KubeProxyMode,
		EtcdSync:      c.Etcd.Sync,
		NoFile:        c.OpenFiles,
		FeatureGates:  c.FeatureGates,
		RuntimeConfig: c.RuntimeConfig,

		Kubernetes:        c.Kubernetes,
		EtcdArgs:          c.Etcd.ExtraArgs,
		ContainerdPatches: c.ContainerdConfigPatches,
		Registries:        c.Registries,
		CACertificates:    c.AdditionalCACertificates,
		Patches:           Patches{c.KubeadmConfigPatches, c.KubeadmConfigPatchesJSON6902},
	}
	nodes := c.Expand()
	for slot, from := range nodes {
		n := Node{
			Name:    from.Name,
			Role:    from.Role,
			Slot:    slot,
			Labels:  maps.Clone(from.Labels),
			Taints:  from.Taints,
			Patches: Patches{from.KubeadmConfigPatches, from.KubeadmConfigPatchesJSON6902},
		}
		n.IPs, n.PodCIDRs = t.Networks.Slot(slot)
		for _, p := range from.ExtraPortMappings {
			n.Ports = append(n.Ports, Port{p.HostPort, p.ContainerPort, strings.ToLower(cmp.Or(p.Protocol, "TCP"))})
		}
		for _, m := range from.ExtraMounts {
			n.Mounts = append(n.Mounts, Mount{paths.Host + m.HostPath, m.ContainerPath, m.ReadOnly, cmp.Or(m.DockerPropagation(), "rprivate")})
		}
		if n.Role == ControlPlane {
			// As kubeadm's phase mark-control-plane adds them
			// (https://github.com/kubernetes/kubernetes/blob/v1.37.2/cmd/kubeadm/app/phases/markcontrolplane/markcontrolplane.go).
			if n.Labels == nil {
				n.Labels = map[string]string{}
			}
			n.Labels["node-role.kubernetes.io/control-plane"] = ""
			n.Labels["node.kubernetes.io/exclude-from-external-load-balancers"] = ""
			if n.Taints == nil && len(nodes) > 1 { // The only node has to run the pods as well.
				n.Taints = []v1alpha1.Taint{{Key: "node-role.kubernetes.io/control-plane", Effect: "NoSchedule"}}
			}
		}
		t.Nodes = append(t.Nodes, n)
	}
	if t.Balanced() {
		t.Endpoint = netip.AddrPortFrom(t.Networks.Gateway(), v1alpha1.APIServerPort)
		return t
	}
	init := &t.Nodes[0]
	init.Ports = append(init.Ports, Port{v1alpha1.APIServerPort, v1alpha1.APIServerPort, "tcp"})
	t.Endpoint = netip.AddrPortFrom(init.IPs[0], v1alpha1.APIServerPort)
	return t
}

// ControlPlanes returns the control planes, that of Init first.
func (t Topology) ControlPlanes() []Node {
	return slices.DeleteFunc(slices.Clone(t.Nodes), func(n Node) bool { return n.Role != ControlPlane })
}

// Balanced reports whether there are several control planes, and a load balancer in the top-level
// container before them.
func (t Topology) Balanced() bool { return len(t.ControlPlanes()) > 1 }

// APIServer returns the address of a control plane's own API server.
func (n Node) APIServer() netip.AddrPort {
	return netip.AddrPortFrom(n.IPs[0], v1alpha1.APIServerPort)
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

// Slot returns the addresses of the node in a slot, from 0 to v1alpha1.MaxNodes-1, and those of its
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
