// Package kind reads the configuration files of kind, https://kind.sigs.k8s.io/docs/user/configuration.
package kind

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/internal/strictyaml"
)

// APIVersion is that of the files that Convert takes.
const APIVersion = "kind.x-k8s.io/v1alpha4"

// cluster has the fields of Cluster in sigs.k8s.io/kind/pkg/apis/config/v1alpha4.
type cluster struct {
	APIVersion                      string                   `json:"apiVersion"`
	Kind                            string                   `json:"kind"`
	Name                            string                   `json:"name"`
	Nodes                           []node                   `json:"nodes"`
	Networking                      networking               `json:"networking"`
	FeatureGates                    map[string]bool          `json:"featureGates"`
	RuntimeConfig                   map[string]string        `json:"runtimeConfig"`
	KubeadmConfigPatches            []string                 `json:"kubeadmConfigPatches"`
	KubeadmConfigPatchesJSON6902    []v1alpha1.JSON6902Patch `json:"kubeadmConfigPatchesJSON6902"`
	ContainerdConfigPatches         []string                 `json:"containerdConfigPatches"`
	ContainerdConfigPatchesJSON6902 []string                 `json:"containerdConfigPatchesJSON6902"`
}

type node struct {
	Role                         string                   `json:"role"`
	Image                        string                   `json:"image"`
	Labels                       map[string]string        `json:"labels"`
	ExtraMounts                  []mount                  `json:"extraMounts"`
	ExtraPortMappings            []v1alpha1.Port          `json:"extraPortMappings"`
	KubeadmConfigPatches         []string                 `json:"kubeadmConfigPatches"`
	KubeadmConfigPatchesJSON6902 []v1alpha1.JSON6902Patch `json:"kubeadmConfigPatchesJSON6902"`
}

type mount struct {
	v1alpha1.Mount
	SELinuxRelabel bool `json:"selinuxRelabel"`
}

type networking struct {
	IPFamily          string       `json:"ipFamily"`
	APIServerPort     int          `json:"apiServerPort"`
	APIServerAddress  string       `json:"apiServerAddress"`
	PodSubnet         netip.Prefix `json:"podSubnet"`
	ServiceSubnet     netip.Prefix `json:"serviceSubnet"`
	DisableDefaultCNI bool         `json:"disableDefaultCNI"`
	KubeProxyMode     string       `json:"kubeProxyMode"`
	DNSSearch         []string     `json:"dnsSearch"`
}

// Convert returns the cluster that a file describes. What it asks for and cannot be had is an error; so is what kind would not
// take.
func Convert(doc *strictyaml.Document) (v1alpha1.Cluster, error) {
	c := v1alpha1.Default()
	var in cluster
	// What could not be read has the value that it has if it is not said, so that all mistakes are found at once.
	errs := []error{doc.Decode(&in)}
	refuse := func(is bool, path, format string, args ...any) {
		if is {
			errs = append(errs, &strictyaml.Error{Path: path, Text: fmt.Sprintf(format, args...)})
		}
	}
	c.Kind, c.Name = in.Kind, in.Name
	// Without a list, kind makes a single node; without a role, a control plane.
	c.Nodes = nil
	for i, n := range in.Nodes {
		path := fmt.Sprintf("nodes[%d].", i)
		refuse(n.Image != "", path+"image", "all nodes are made from the image that dind-cluster has inside: leave it away")
		var mounts []v1alpha1.Mount
		for i, m := range n.ExtraMounts {
			refuse(m.SELinuxRelabel, fmt.Sprintf("%sextraMounts[%d].selinuxRelabel", path, i), "labels of the host stay as they are")
			mounts = append(mounts, m.Mount)
		}
		for i, p := range n.ExtraPortMappings {
			refuse(p.HostPort <= 0, fmt.Sprintf("%sextraPortMappings[%d].hostPort", path, i), "want a port: none is chosen by itself")
		}
		if n.Role == "" {
			n.Role = v1alpha1.RoleControlPlane
		}
		c.Nodes = append(c.Nodes, v1alpha1.Node{
			Role:                         n.Role,
			Labels:                       n.Labels,
			ExtraMounts:                  mounts,
			ExtraPortMappings:            n.ExtraPortMappings,
			KubeadmConfigPatches:         n.KubeadmConfigPatches,
			KubeadmConfigPatchesJSON6902: n.KubeadmConfigPatchesJSON6902,
		})
	}
	if len(c.Nodes) == 0 {
		c.Nodes = v1alpha1.Workers(0)
	}
	c.FeatureGates, c.RuntimeConfig = in.FeatureGates, in.RuntimeConfig
	c.KubeadmConfigPatches, c.KubeadmConfigPatchesJSON6902 = in.KubeadmConfigPatches, in.KubeadmConfigPatchesJSON6902
	c.ContainerdConfigPatches = in.ContainerdConfigPatches
	refuse(len(in.ContainerdConfigPatchesJSON6902) > 0, "containerdConfigPatchesJSON6902", "only containerdConfigPatches are possible yet")

	from := in.Networking
	refuse(from.IPFamily != "" && from.IPFamily != "ipv4", "networking.ipFamily", "%q: only ipv4 is possible yet", from.IPFamily)
	refuse(from.APIServerAddress != "" && from.APIServerAddress != "127.0.0.1", "networking.apiServerAddress",
		"%q: the launcher publishes the API server at 127.0.0.1 alone; with plain Docker, -p says where", from.APIServerAddress)
	refuse(from.KubeProxyMode == "ipvs" || from.KubeProxyMode == "none", "networking.kubeProxyMode", "%q: only iptables and nftables are possible yet", from.KubeProxyMode)
	refuse(len(from.DNSSearch) > 0, "networking.dnsSearch", "the search domains cannot be set yet")
	to := &c.Networking
	if from.PodSubnet.IsValid() {
		to.PodSubnet = from.PodSubnet
	}
	if from.ServiceSubnet.IsValid() {
		to.ServiceSubnet = from.ServiceSubnet
	}
	// kind has a free port chosen for 0 and -1. Here it is a cluster's own, as it is without a file.
	if from.APIServerPort > 0 {
		to.APIServerPort = from.APIServerPort
	}
	if from.DisableDefaultCNI {
		to.PodNetwork = v1alpha1.PodNetworkNone
	}
	if from.KubeProxyMode != "" {
		to.KubeProxyMode = from.KubeProxyMode
	}
	return c, errors.Join(errs...)
}
