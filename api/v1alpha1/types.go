// Package v1alpha1 is the configuration file of a cluster: what people write, what is assumed where they write nothing, and what
// is allowed.
package v1alpha1

import (
	"net/netip"
	"time"
)

// APIVersion and Kind are the first fields of a file.
const (
	APIVersion = "dind-cluster.github.io/v1alpha1"
	Kind       = "Cluster"
)

// Cluster describes a cluster.
type Cluster struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`

	// Name is the name of the cluster in kubeconfigs, and of the container that bazel run makes. Default: dind-cluster.
	Name string `json:"name,omitempty"`
	// Nodes are the nodes: control planes, each with an etcd, and workers. With several control planes there is a load balancer
	// before their API servers; three of them survive the loss of one. Default: one control plane and two workers.
	Nodes []Node `json:"nodes"`
	// Networking has the subnets, and how the cluster is reached.
	Networking Networking `json:"networking"`
	// FeatureGates are set for all of Kubernetes' components.
	FeatureGates map[string]bool `json:"featureGates,omitempty"`
	// RuntimeConfig enables and disables API groups and versions: --runtime-config of kube-apiserver.
	RuntimeConfig map[string]string `json:"runtimeConfig,omitempty"`
	// KubeadmConfigPatches are JSON merge patches (RFC 7386) of kubeadm's configuration, as YAML. Their field kind says what
	// they change: InitConfiguration, ClusterConfiguration, JoinConfiguration, KubeletConfiguration or KubeProxyConfiguration.
	// Unlike other lists, extraArgs, kubeletExtraArgs and certSANs are added to; the former may be maps. One whose apiVersion is
	// that of an earlier v1beta is applied as well, any other is left away.
	KubeadmConfigPatches []string `json:"kubeadmConfigPatches,omitempty"`
	// KubeadmConfigPatchesJSON6902 are JSON patches (RFC 6902) of the same, made after the others.
	KubeadmConfigPatchesJSON6902 []JSON6902Patch `json:"kubeadmConfigPatchesJSON6902,omitempty"`

	// ContainerdConfigPatches are merged into the configuration of the nodes' containerd, one after the other: TOML, in
	// version 2, 3 or 4 of its configuration. One that says another version is left away. Mirrors of registries become files
	// /etc/containerd/certs.d/REGISTRY/hosts.toml.
	ContainerdConfigPatches []string `json:"containerdConfigPatches,omitempty"`

	// Kubernetes has settings of Kubernetes' own components.
	Kubernetes Kubernetes `json:"kubernetes"`
	// Registries says how the nodes' containerd reaches registries, by their names: a host, perhaps with a port, or "*" for all others. Docker
	// Hub is docker.io.
	Registries map[string]Registry `json:"registries,omitempty"`
	// AdditionalCACertificates are certificates of authorities, PEM, that the nodes and the cluster's container trust besides the usual ones.
	AdditionalCACertificates []string `json:"additionalCACertificates,omitempty"`
	// Manifests are applied as soon as the cluster is ready, after those in its container's directory /etc/dind-cluster/manifests: server-side,
	// and again at a later start if they have changed.
	Manifests []Manifest `json:"manifests,omitempty"`
	// Images are loaded into all nodes as soon as the cluster is ready: names of images of the local Docker, and absolute paths of
	// archives. With plain Docker, archives belong into the container's directory /etc/dind-cluster/images.
	Images []string `json:"images,omitempty"`

	// Addons are parts of the cluster that come once it is ready.
	Addons Addons `json:"addons"`
	// Etcd has settings of etcd.
	Etcd Etcd `json:"etcd"`
	// OpenFiles is how many files a process of a pod may have open before it raises its own limit: 256 to 1048576. Default: 1024.
	OpenFiles int `json:"openFiles"`
	// Start is about the start of the cluster.
	Start Start `json:"start"`
	// Health says what has to work for the container to count as healthy: "nodes", the API server, all nodes, and all manifests
	// and images once they have been tried, or "api", the API server alone. Default: nodes.
	Health string `json:"health"`
}

// Node describes one node, or several alike.
type Node struct {
	// Role is control-plane or worker.
	Role string `json:"role"`
	// Count is how many nodes there are of this kind. Default: 1.
	Count *int `json:"count,omitempty"`
	// Name is the name of a single node: 2 to 63 lower case letters, digits and hyphens. Default: control-plane, or worker and a number.
	Name string `json:"name,omitempty"`
	// Labels are labels of the Node object.
	Labels map[string]string `json:"labels,omitempty"`
	// Taints are taints of the Node object. Default: that of a control plane beside which there are workers. An empty list
	// leaves it away.
	Taints []Taint `json:"taints,omitzero"`
	// ExtraMounts are directories and files of the Docker host that the nodes have, too.
	ExtraMounts []Mount `json:"extraMounts,omitempty"`
	// ExtraPortMappings are ports of the node that are published on the Docker host.
	ExtraPortMappings []Port `json:"extraPortMappings,omitempty"`
	// Resources limit what each of these nodes has of the machine's processors and memory. Default: all of it.
	Resources Resources `json:"resources,omitzero"`
	// KubeadmConfigPatches and KubeadmConfigPatchesJSON6902 are for these nodes, made after those of the cluster.
	KubeadmConfigPatches         []string        `json:"kubeadmConfigPatches,omitempty"`
	KubeadmConfigPatchesJSON6902 []JSON6902Patch `json:"kubeadmConfigPatchesJSON6902,omitempty"`
}

// Resources are limits of a node, which it shows as its capacity.
type Resources struct {
	// CPUs is how many of the machine's processors the node runs on, from 1. Each node gets others, as far as there are.
	CPUs int `json:"cpus,omitempty"`
	// Memory is how much memory the node can take, without swap: a number of bytes with a suffix Ki, Mi, Gi, Ti, k, M, G or T, such
	// as 2Gi. A control plane takes at least 1Gi, a worker 512Mi.
	Memory string `json:"memory,omitempty"`
}

// Mount is a directory or file of the Docker host in a node.
type Mount struct {
	// HostPath is the path on the Docker host. With plain Docker, the cluster's container must have it at the same path below
	// /host.
	HostPath string `json:"hostPath"`
	// ContainerPath is the path in the node: none where the node has its own files.
	ContainerPath string `json:"containerPath"`
	// ReadOnly keeps the node from writing to it. Default: false.
	ReadOnly bool `json:"readOnly,omitempty"`
	// Propagation of mounts below it: None, HostToContainer or Bidirectional. Default: None.
	Propagation string `json:"propagation,omitempty"`
}

// Port is a port of a node on the Docker host. With plain Docker, the cluster's container must publish it under its own number.
type Port struct {
	// ContainerPort is the port of the node, such as that of a NodePort service or of a pod with a hostPort.
	ContainerPort int `json:"containerPort"`
	// HostPort is the port of the Docker host: any but 53 and, for TCP, 6443 and the API server's.
	HostPort int `json:"hostPort"`
	// ListenAddress is an address of the Docker host. Default: 127.0.0.1.
	ListenAddress string `json:"listenAddress,omitempty"`
	// Protocol is TCP or UDP. Default: TCP.
	Protocol string `json:"protocol,omitempty"`
}

// Taint is a taint of a node.
type Taint struct {
	Key   string `json:"key"`
	Value string `json:"value,omitempty"`
	// Effect is NoSchedule, PreferNoSchedule or NoExecute.
	Effect string `json:"effect"`
}

// Networking has the cluster's networks.
type Networking struct {
	// IPFamily is what addresses nodes, pods and services have: ipv4, ipv6 or dual. Subnets of a dual cluster are two, with a
	// comma between, in all fields in the same order: the first is of the primary family, which the API server, the cluster's
	// DNS and services have that ask for nothing else. Default: ipv4.
	IPFamily string `json:"ipFamily"`
	// NodeSubnet has the nodes' addresses: /8 to /24, or of IPv6 /16 to /120. In an ipv6 cluster a second subnet, of IPv4, is for
	// the way out alone: images are pulled by it where the Docker host has no IPv6. Default: 10.250.0.0/24, fd00:10:250::/64.
	NodeSubnet Subnets `json:"nodeSubnet"`
	// PodSubnet has the pods' addresses: /8 to /16, or of IPv6 /48 to /112. Each node has a /24, or of IPv6 a /64, and of a subnet
	// longer than /56 the 256th part. Default: 10.244.0.0/16, fd00:10:244::/56.
	PodSubnet Subnets `json:"podSubnet"`
	// ServiceSubnet has the services' addresses: /12 to /24, or of IPv6 /108 to /120. Default: 10.96.0.0/16, fd00:10:96::/112.
	ServiceSubnet Subnets `json:"serviceSubnet"`
	// LoadBalancerSubnets have the addresses that services of type LoadBalancer get: /8 to /32, or of IPv6 /64 to /128. An empty
	// list leaves such services to others. Default: those of 10.251.0.0/24, fd00:10:251::/112 that are of the IP family.
	LoadBalancerSubnets []netip.Prefix `json:"loadBalancerSubnets,omitzero"`
	// APIServerAddress is the address of the Docker host on which bazel run publishes the API server; 0.0.0.0 is all. With plain
	// Docker, -p says where. Beyond 127.0.0.1, everybody who has the kubeconfig controls the machine. The API server's certificate
	// has it, and kubeconfigs name it. Default: 127.0.0.1.
	APIServerAddress string `json:"apiServerAddress,omitempty"`
	// APIServerPort is the port of the Docker host under which the API server is reached, and which kubeconfigs name.
	// Default: 6443; bazel run looks for a free one.
	APIServerPort int `json:"apiServerPort,omitempty"`
	// APIServerLoadBalancer puts a load balancer before a single control plane, too, so that others can be added while the
	// cluster runs. Before several there always is one. Default: false.
	APIServerLoadBalancer bool `json:"apiServerLoadBalancer,omitempty"`
	// APIServerSANs are further names and addresses for the API server's certificate.
	APIServerSANs []string `json:"apiServerSANs,omitempty"`
	// KubeProxyMode is iptables, nftables, ipvs, if the Docker host's kernel has that, or none, which leaves kube-proxy away: for a
	// pod network that does its work. Default: iptables.
	KubeProxyMode string `json:"kubeProxyMode"`
	// DetectLocalMode is how kube-proxy recognizes what comes from pods: ClusterCIDR, NodeCIDR, InterfaceNamePrefix or
	// BridgeInterface; the last one is for pod networks with a bridge. Default: ClusterCIDR.
	DetectLocalMode string `json:"detectLocalMode,omitempty"`
	// DetectLocalInterface is what the last two modes need without a pod network of ours: the name of the bridge, or how the names
	// of the pods' interfaces begin.
	DetectLocalInterface string `json:"detectLocalInterface,omitempty"`
	// MTU is the size of the largest packet in bytes, 1280 to 65535, between nodes and from pods. Default: that of the cluster's
	// container.
	MTU int `json:"mtu,omitempty"`
	// DNSSearch are the domains in which nodes and pods look for names, in the place of the Docker host's; an empty list is none.
	// Default: nodes have the Docker host's, pods none, beside those of the cluster.
	DNSSearch []string `json:"dnsSearch,omitzero"`
	// PodNetwork is ptp, the reference plugin of that name, or none, which leaves the pod network to the user. Default: ptp.
	PodNetwork string `json:"podNetwork"`
}

// KubeProxyModes are the values of Networking.KubeProxyMode, KubeProxyNone and KubeProxyIPVS two of them.
var KubeProxyModes = []string{"iptables", "nftables", KubeProxyIPVS, KubeProxyNone}

const KubeProxyIPVS, KubeProxyNone = "ipvs", "none"

// The values of Networking.DetectLocalMode: LocalMode in
// https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/proxy/apis/config/types.go.
const (
	DetectClusterCIDR     = "ClusterCIDR"
	DetectNodeCIDR        = "NodeCIDR"
	DetectInterfacePrefix = "InterfaceNamePrefix"
	DetectBridge          = "BridgeInterface"
)

// The values of Networking.PodNetwork.
const (
	PodNetworkPTP  = "ptp"
	PodNetworkNone = "none"
)

// JSON6902Patch is a JSON patch of one of kubeadm's configuration objects.
type JSON6902Patch struct {
	// Group and Version restrict the patch to an API version of the object.
	Group   string `json:"group,omitempty"`
	Version string `json:"version,omitempty"`
	// Kind is that of the object.
	Kind string `json:"kind"`
	// Patch is the patch, as JSON or YAML.
	Patch string `json:"patch"`
}

// Etcd has settings of etcd.
type Etcd struct {
	// Sync reports whether etcd waits until the disk has what it was given. Without, a cluster is quicker, and gone if the
	// machine goes down. Default: true.
	Sync bool `json:"sync"`
	// ExtraArgs are flags of etcd, as those of Kubernetes' components.
	ExtraArgs ExtraArgs `json:"extraArgs,omitempty"`
}

// Start is about the start of a cluster.
type Start struct {
	// Timeout bounds the start: 1s to 24h. Default: 5m.
	Timeout Duration `json:"timeout"`
	// OnFailure says what becomes of the container when the cluster does not come up: exit, or keep, for a person to look at.
	// Default: exit.
	OnFailure string `json:"onFailure"`
	// WaitFor says what has to be done before the cluster is ready, and fails the start if it cannot be done: images, manifests.
	// Default: nothing; both come after.
	WaitFor []string `json:"waitFor,omitempty"`
	// FreshKeys gives a cluster that a snapshot brings back keys of its own: a new certificate authority, new certificates and
	// kubeconfigs, and a new key for the tokens of service accounts. Default: false, the keys of the cluster that was saved.
	FreshKeys bool `json:"freshKeys,omitempty"`
}

// The values of Health and of Start.OnFailure.
const (
	HealthNodes   = "nodes"
	HealthAPI     = "api"
	OnFailureExit = "exit"
	OnFailureKeep = "keep"
)

// The values of Start.WaitFor.
const (
	WaitForImages    = "images"
	WaitForManifests = "manifests"
)

// The roles of nodes.
const (
	RoleControlPlane = "control-plane"
	RoleWorker       = "worker"
)

// Duration is a time.Duration that is written as in Go, such as 90s or 5m.
type Duration time.Duration

// MarshalText writes the duration.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads what MarshalText writes.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil {
		return errDuration
	}
	*d = Duration(parsed)
	return nil
}
