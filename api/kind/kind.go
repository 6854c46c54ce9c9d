// Package kind reads the configuration files of kind, https://kind.sigs.k8s.io/docs/user/configuration.
package kind

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/internal/strictyaml"
	"sigs.k8s.io/yaml"
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
	IPFamily          string           `json:"ipFamily"`
	APIServerPort     int              `json:"apiServerPort"`
	APIServerAddress  string           `json:"apiServerAddress"`
	PodSubnet         v1alpha1.Subnets `json:"podSubnet"`
	ServiceSubnet     v1alpha1.Subnets `json:"serviceSubnet"`
	DisableDefaultCNI bool             `json:"disableDefaultCNI"`
	KubeProxyMode     string           `json:"kubeProxyMode"`
	DNSSearch         []string         `json:"dnsSearch"`
}

// Convert returns the cluster that a file describes. What it asks for and cannot be had is an error; so is what kind would not
// take. What can be left away without harm is a warning.
func Convert(doc *strictyaml.Document) (c v1alpha1.Cluster, warnings []*strictyaml.Error, err error) {
	c = v1alpha1.Begin()
	var in cluster
	// What could not be read has the value that it has if it is not said, so that all mistakes are found at once.
	errs := []error{doc.Decode(&in)}
	warn := func(is bool, path, format string, args ...any) {
		if is {
			warnings = append(warnings, &strictyaml.Error{Path: path, Text: fmt.Sprintf(format, args...)})
		}
	}
	refuse := func(is bool, path, format string, args ...any) {
		if is {
			errs = append(errs, &strictyaml.Error{Path: path, Text: fmt.Sprintf(format, args...)})
		}
	}
	c.Kind, c.Name = in.Kind, in.Name
	// Without a list, kind makes a single node; without a role, a control plane.
	c.Nodes = nil
	patches := splitPatches(in.KubeadmConfigPatches)
	image, initialized := "", false
	for i, n := range in.Nodes {
		field := fmt.Sprintf("nodes[%d].", i)
		warn(kindImage(n.Image) && n.Image != image, field+"image", "%s is left away: all nodes are made from the image that dind-cluster has inside", n.Image)
		refuse(n.Image != "" && !kindImage(n.Image), field+"image", "all nodes are made from the image that dind-cluster has inside: leave it away")
		image = n.Image
		var mounts []v1alpha1.Mount
		for i, m := range n.ExtraMounts {
			warn(m.SELinuxRelabel, fmt.Sprintf("%sextraMounts[%d].selinuxRelabel", field, i), "is left away: labels of the host stay as they are")
			m.HostPath, m.ContainerPath = cleanPath(m.HostPath), cleanPath(m.ContainerPath)
			mounts = append(mounts, m.Mount)
		}
		for i, p := range n.ExtraPortMappings {
			refuse(p.HostPort <= 0, fmt.Sprintf("%sextraPortMappings[%d].hostPort", field, i), "want a port: none is chosen by itself")
			n.ExtraPortMappings[i].Protocol = strings.ToUpper(p.Protocol)
		}
		if n.Role == "" {
			n.Role = v1alpha1.RoleControlPlane
		}
		n.KubeadmConfigPatches = splitPatches(n.KubeadmConfigPatches)
		if n.Role == v1alpha1.RoleWorker {
			n.KubeadmConfigPatches = slices.DeleteFunc(n.KubeadmConfigPatches, func(text string) bool {
				kind, err := v1alpha1.PatchKind(text)
				lost := err == nil && slices.Contains([]string{"InitConfiguration", "ClusterConfiguration", "KubeProxyConfiguration"}, kind)
				warn(lost, field+"kubeadmConfigPatches", "a worker has no %s: its patch is left away, as kind does", kind)
				return lost
			})
		}
		if len(n.KubeadmConfigPatches) == 0 {
			n.KubeadmConfigPatches = nil
		}
		var own []v1alpha1.Taint
		if n.Role == v1alpha1.RoleControlPlane && len(in.Nodes) > 1 {
			own = taints(initialized, append(slices.Clone(patches), n.KubeadmConfigPatches...))
			initialized = true
		}
		c.Nodes = append(c.Nodes, v1alpha1.Node{
			Role:                         n.Role,
			Taints:                       own,
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
	c.KubeadmConfigPatches, c.KubeadmConfigPatchesJSON6902 = patches, in.KubeadmConfigPatchesJSON6902
	c.ContainerdConfigPatches, c.Registries = v1alpha1.LiftRegistries(in.ContainerdConfigPatches)
	refuse(len(in.ContainerdConfigPatchesJSON6902) > 0, "containerdConfigPatchesJSON6902", "only containerdConfigPatches are possible yet")

	from, to := in.Networking, &c.Networking
	to.IPFamily = cmp.Or(from.IPFamily, to.IPFamily)
	to.PodSubnet, to.ServiceSubnet = masked(from.PodSubnet), masked(from.ServiceSubnet)
	to.APIServerAddress, to.DNSSearch = from.APIServerAddress, from.DNSSearch
	// kind has a free port chosen for 0 and -1. Here it is a cluster's own, as it is without a file.
	if from.APIServerPort > 0 {
		to.APIServerPort = from.APIServerPort
	}
	if from.DisableDefaultCNI {
		to.PodNetwork = v1alpha1.PodNetworkNone
	}
	to.KubeProxyMode = cmp.Or(from.KubeProxyMode, to.KubeProxyMode)
	to.Complete()
	return c, warnings, errors.Join(errs...)
}

// masked returns subnets by their first addresses: kind takes them by any.
func masked(subnets v1alpha1.Subnets) v1alpha1.Subnets {
	var out v1alpha1.Subnets
	for _, p := range subnets {
		out = append(out, p.Masked())
	}
	return out
}

// taints returns the taints that patches give to a control plane, which joins or is initialized, in
// the place of kubeadm's; nil if there are none. Those of a worker are left to kubeadm.
func taints(joins bool, patches []string) []v1alpha1.Taint {
	var out []v1alpha1.Taint
	for _, text := range patches {
		var patch struct {
			Kind             string `json:"kind"`
			NodeRegistration struct {
				Taints []v1alpha1.Taint `json:"taints"`
			} `json:"nodeRegistration"`
		}
		err := yaml.Unmarshal([]byte(text), &patch)
		is := "InitConfiguration"
		if joins {
			is = "JoinConfiguration"
		}
		if err == nil && patch.Kind == is && patch.NodeRegistration.Taints != nil {
			out = patch.NodeRegistration.Taints
		}
	}
	return out
}

// kindImage reports whether an image is one of kind's own, perhaps by way of a mirror: beside the
// version, there is nothing in it that a node here has not.
func kindImage(image string) bool {
	name, _, _ := strings.Cut(image, "@")
	if i := strings.LastIndex(name, ":"); i > strings.LastIndex(name, "/") {
		name = name[:i]
	}
	return name == "kindest/node" || strings.HasSuffix(name, "/kindest/node")
}

// cleanPath returns an absolute path without what Docker takes away from it, such as a slash at the
// end.
func cleanPath(p string) string {
	if path.IsAbs(p) && !strings.Contains(p, "..") {
		return path.Clean(p)
	}
	return p
}

// splitPatches returns each YAML document of patches as one of its own, as kind has them.
func splitPatches(patches []string) []string {
	if len(patches) == 0 {
		return nil
	}
	out := []string{}
	for _, p := range patches {
		out = append(out, v1alpha1.Documents(p)...)
	}
	return out
}
