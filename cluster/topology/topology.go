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
	// ProxyMode is kube-proxy's mode, one of v1alpha1.KubeProxyModes.
	ProxyMode string `json:"proxyMode"`
	// DetectLocal is how kube-proxy recognizes what comes from pods.
	DetectLocal DetectLocal `json:"detectLocal,omitzero"`
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
	// LoadBalancers have the addresses of services of type LoadBalancer. Without any there is no load balancer.
	LoadBalancers []netip.Prefix `json:"loadBalancers,omitempty"`
	// Outside is an IPv4 subnet in which the nodes of an IPv6 cluster have addresses besides, for the
	// way out of it. Kubernetes does not know of them.
	Outside netip.Prefix `json:"outside,omitzero"`
	// PodNetwork is v1alpha1.PodNetworkPTP or v1alpha1.PodNetworkNone.
	PodNetwork string `json:"podNetwork"`
	// MTU is in bytes; 0 means that of the top-level container.
	MTU int `json:"mtu,omitempty"`
	// Search are the domains in which names are looked for; nil means those of the top-level
	// container for nodes, and none for pods.
	Search []string `json:"search,omitzero"`
}

// DetectLocal has fields of the same name of kube-proxy's configuration.
type DetectLocal struct {
	Mode string `json:"mode,omitempty"`
	// Interface is bridgeInterface or interfaceNamePrefix there, as the mode has it.
	Interface string `json:"interface,omitempty"`
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
	// CPUs is how many processors the node has, and Memory how many bytes of memory; 0 means all of the machine's.
	CPUs   int   `json:"cpus,omitempty"`
	Memory int64 `json:"memory,omitempty"`
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
			Nodes:      c.Networking.NodeSubnet,
			Pods:       c.Networking.PodSubnet,
			Services:   c.Networking.ServiceSubnet,
			PodNetwork: c.Networking.PodNetwork,

			LoadBalancers: c.Networking.LoadBalancerSubnets,
			MTU:           c.Networking.MTU,
			Search:        c.Networking.DNSSearch,
		},
		APISANs:       c.Networking.APIServerSANs,
		ProxyMode:     c.Networking.KubeProxyMode,
		DetectLocal:   DetectLocal{c.Networking.DetectLocalMode, c.Networking.DetectLocalInterface},
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
	if c.Networking.IPFamily == v1alpha1.IPv6 {
		t.Networks.Nodes, t.Networks.Outside = c.Networking.NodeSubnet[:1], c.Networking.NodeSubnet[1]
	}
	if c.Networking.APIServerAddress != "" {
		t.APISANs = append(slices.Clone(t.APISANs), v1alpha1.Reached(c.Networking.APIAddress()).String())
	}
	if t.DetectLocal.Mode == v1alpha1.DetectInterfacePrefix && t.Networks.PodNetwork == v1alpha1.PodNetworkPTP {
		t.DetectLocal.Interface = "veth"
	}
	nodes := c.Expand()
	for slot, from := range nodes {
		n := Node{
			Name:    from.Name,
			Role:    from.Role,
			Slot:    slot,
			Labels:  maps.Clone(from.Labels),
			Taints:  from.Taints,
			CPUs:    from.Resources.CPUs,
			Patches: Patches{from.KubeadmConfigPatches, from.KubeadmConfigPatchesJSON6902},
		}
		n.Memory, _ = from.Resources.MemoryBytes() // Validate has seen it
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
	if len(t.ControlPlanes()) > 1 || c.Networking.APIServerLoadBalancer {
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

// Balanced reports whether there is a load balancer in the top-level container before the API
// servers. That is decided when a cluster is made: all of its certificates and kubeconfigs have the
// endpoint in them.
func (t Topology) Balanced() bool {
	return len(t.ControlPlanes()) > 1 || len(t.Networks.Nodes) > 0 && t.Endpoint.Addr() == t.Networks.Gateway()
}

// APIServer returns the address of a control plane's own API server.
func (n Node) APIServer() netip.AddrPort {
	return netip.AddrPortFrom(n.IPs[0], v1alpha1.APIServerPort)
}

// Publishes reports whether the inner Docker engine can publish a port of the node. It leads to the
// node's IPv4 address, where in an IPv6 cluster only the API server listens.
func (n Node) Publishes(p Port) bool {
	return slices.ContainsFunc(n.IPs, netip.Addr.Is4) || p.Node == v1alpha1.APIServerPort && p.Host == v1alpha1.APIServerPort
}

// Init returns the control plane on which `kubeadm init` runs.
func (t Topology) Init() Node { return t.Nodes[0] }

// Node returns the node of a name.
func (t Topology) Node(name string) (Node, bool) {
	i := slices.IndexFunc(t.Nodes, func(n Node) bool { return n.Name == name })
	if i < 0 {
		return Node{}, false
	}
	return t.Nodes[i], true
}

// Has reports whether there is a node of a name.
func (t Topology) Has(name string) bool {
	_, ok := t.Node(name)
	return ok
}

// Names returns the names of nodes.
func Names(nodes []Node) []string {
	var names []string
	for _, n := range nodes {
		names = append(names, n.Name)
	}
	return names
}

// PodCIDRBits returns the length of one node's piece of a subnet for pods: of IPv4 254 addresses for
// at most 110 pods, of IPv6 the usual length for a network or, if the subnet is too small for
// that, its 256th part.
func PodCIDRBits(subnet netip.Prefix) int {
	if subnet.Addr().Is4() {
		return 24
	}
	return max(64, subnet.Bits()+8)
}

// Slot returns the addresses of the node in a slot, from 0 to v1alpha1.MaxNodes-1, and those of its
// pods.
func (n Networks) Slot(slot int) (ips []netip.Addr, podCIDRs []netip.Prefix) {
	for _, subnet := range n.Nodes {
		ips = append(ips, nth(subnet, int64(2+slot)))
	}
	for _, subnet := range n.Pods {
		bits := PodCIDRBits(subnet)
		n := new(big.Int).Lsh(big.NewInt(int64(slot)), uint(subnet.Addr().BitLen()-bits))
		podCIDRs = append(podCIDRs, netip.PrefixFrom(offset(subnet, n), bits))
	}
	return ips, podCIDRs
}

// IPv6 reports whether the cluster has IPv6 addresses.
func (n Networks) IPv6() bool {
	return slices.ContainsFunc(n.Nodes, func(p netip.Prefix) bool { return p.Addr().Is6() })
}

// Gateways returns the top-level container's addresses in the nodes' network, one per IP family. It
// also answers the nodes' DNS queries there.
func (n Networks) Gateways() []netip.Addr {
	var out []netip.Addr
	for _, subnet := range n.Nodes {
		out = append(out, nth(subnet, 1))
	}
	return out
}

// Gateway returns the first of Gateways.
func (n Networks) Gateway() netip.Addr { return n.Gateways()[0] }

// KubernetesService returns the address of the service "kubernetes".
func (n Networks) KubernetesService() netip.Addr { return nth(n.Services[0], 1) }

// DNSService returns the address of the cluster's DNS service: the tenth, as GetDNSIP in
// https://github.com/kubernetes/kubernetes/blob/v1.37.2/cmd/kubeadm/app/constants/constants.go has
// it.
func (n Networks) DNSService() netip.Addr { return nth(n.Services[0], 10) }

// nth returns the n-th address of p.
func nth(p netip.Prefix, n int64) netip.Addr { return offset(p, big.NewInt(n)) }

// offset returns the n-th address of p.
func offset(p netip.Prefix, n *big.Int) netip.Addr {
	base := p.Masked().Addr().AsSlice()
	sum := new(big.Int).Add(new(big.Int).SetBytes(base), n)
	a, _ := netip.AddrFromSlice(sum.FillBytes(base))
	return a
}
