package v1alpha1

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/dind-cluster/dind-cluster/internal/strictyaml"
)

// MaxNodes bounds the size of a cluster. Each node is a container with its own kubelet and container runtime, and a pod subnet
// of /16 in pieces of /24 has room for 256.
const MaxNodes = 100

// MinTimeout and MaxTimeout bound the time that a cluster may take to start.
const (
	MinTimeout = time.Second
	MaxTimeout = 24 * time.Hour
)

var errDuration = errors.New("want a duration such as 90s or 5m")

// Subnet is one of a cluster's subnets, with the field and the environment variable that set it.
type Subnet struct {
	Field, Variable string
	Prefix          netip.Prefix
}

// Subnets returns the cluster's subnets.
func (n Networking) Subnets() []Subnet {
	return []Subnet{
		{"networking.nodeSubnet", "NODE_SUBNET", n.NodeSubnet},
		{"networking.podSubnet", "POD_SUBNET", n.PodSubnet},
		{"networking.serviceSubnet", "SERVICE_SUBNET", n.ServiceSubnet},
	}
}

// Validate returns an error that joins one *strictyaml.Error, without its line, for each field that is not as it may be.
func (c Cluster) Validate() error {
	v := &validation{}
	v.check("apiVersion", c.APIVersion, OneOf(c.APIVersion, APIVersion))
	v.check("kind", c.Kind, OneOf(c.Kind, Kind))
	if c.Name != "" && (len(c.Name) > 63 || !label.MatchString(c.Name)) {
		v.fail("name", "%q: want at most 63 lower case letters, digits and hyphens", c.Name)
	}
	v.nodes(c)
	v.networking(c.Networking)
	for i, text := range c.ContainerdConfigPatches {
		if err := checkContainerdPatch(text); err != nil {
			v.fail(fmt.Sprintf("containerdConfigPatches[%d]", i), "%v", err)
		}
	}
	v.patches("", c.KubeadmConfigPatches, c.KubeadmConfigPatchesJSON6902)
	for _, name := range slices.Sorted(maps.Keys(c.FeatureGates)) {
		if !gateName.MatchString(name) {
			v.fail(strictyaml.Join("featureGates", name), "want the name of a feature gate")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.RuntimeConfig)) {
		if !runtimeName.MatchString(name) {
			v.fail(strictyaml.Join("runtimeConfig", name), "want an API group with a version, as in batch/v1, or api/all, api/ga, api/beta, api/alpha")
		}
		v.check(strictyaml.Join("runtimeConfig", name), c.RuntimeConfig[name], OneOf(c.RuntimeConfig[name], "true", "false", ""))
	}
	v.kubernetes(c.Kubernetes, c.Etcd)
	v.registries(c.Registries)
	v.content(c)
	v.check("openFiles", c.OpenFiles, Between(c.OpenFiles, 256, 1<<20))
	v.check("start.timeout", time.Duration(c.Start.Timeout), CheckTimeout(time.Duration(c.Start.Timeout)))
	v.check("start.onFailure", c.Start.OnFailure, OneOf(c.Start.OnFailure, OnFailureExit, OnFailureKeep))
	v.check("health", c.Health, OneOf(c.Health, HealthNodes, HealthAPI))
	return errors.Join(v.errs...)
}

type validation struct{ errs []error }

func (v *validation) fail(path, format string, args ...any) {
	v.errs = append(v.errs, &strictyaml.Error{Path: path, Text: fmt.Sprintf(format, args...)})
}

// check fails with the value in front if the value is not as it may be.
func (v *validation) check(path string, value any, err error) {
	switch value := value.(type) {
	case string:
		if err != nil {
			v.fail(path, "%q: %v", value, err)
		}
	default:
		if err != nil {
			v.fail(path, "%v: %v", value, err)
		}
	}
}

var (
	gateName    = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9]*$`)
	runtimeName = regexp.MustCompile(`^[a-z0-9][-a-z0-9.]*(/[a-z0-9]+(/[a-z0-9]+)?)?$`)
	// https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-label-names
	label = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
	// https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set
	labelKey   = regexp.MustCompile(`^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$`)
	labelValue = regexp.MustCompile(`^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$`)
)

// isKey reports whether a text is the key of a label or of a taint.
func isKey(key string) bool {
	prefix, _, _ := strings.Cut(key, "/")
	return labelKey.MatchString(key) && len(prefix) <= 253
}

func (v *validation) nodes(c Cluster) {
	controlPlanes, all := 0, 0
	names, ports := map[string]string{}, map[string]string{}
	if p := c.Networking.APIServerPort; p != 0 {
		ports[fmt.Sprintf("%d/TCP", p)] = apiServerPort
	}
	for i, n := range c.Nodes {
		path := fmt.Sprintf("nodes[%d]", i)
		v.check(path+".role", n.Role, OneOf(n.Role, RoleControlPlane, RoleWorker))
		count := 1
		if n.Count != nil {
			count = *n.Count
			v.check(path+".count", count, Between(count, 0, MaxNodes))
		}
		all += max(count, 0)
		if n.Role == RoleControlPlane {
			controlPlanes += max(count, 0)
		}
		switch {
		case n.Name == "":
		case count > 1:
			v.fail(path+".name", "%d nodes cannot have one name: leave it away, or list the nodes one by one", count)
		// Docker takes no name of one letter.
		case len(n.Name) < 2 || len(n.Name) > 63 || !label.MatchString(n.Name):
			v.fail(path+".name", "%q: want 2 to 63 lower case letters, digits and hyphens", n.Name)
		case n.Name == "localhost":
			v.fail(path+".name", "%q is each node's name for itself: choose another", n.Name)
		case names[n.Name] != "":
			v.fail(path+".name", "%q is the name of %s, too", n.Name, names[n.Name])
		default:
			names[n.Name] = path
		}
		for _, key := range slices.Sorted(maps.Keys(n.Labels)) {
			if !isKey(key) {
				v.fail(strictyaml.Join(path+".labels", key), "%q: want the key of a label, as in example.org/name", key)
			}
			if !labelValue.MatchString(n.Labels[key]) {
				v.fail(strictyaml.Join(path+".labels", key), "%q: want at most 63 letters, digits, hyphens, underscores and dots", n.Labels[key])
			}
		}
		for j, t := range n.Taints {
			path := fmt.Sprintf("%s.taints[%d]", path, j)
			if !isKey(t.Key) {
				v.fail(path+".key", "%q: want a key, as in example.org/name", t.Key)
			}
			if !labelValue.MatchString(t.Value) {
				v.fail(path+".value", "%q: want at most 63 letters, digits, hyphens, underscores and dots", t.Value)
			}
			v.check(path+".effect", t.Effect, OneOf(t.Effect, "NoSchedule", "PreferNoSchedule", "NoExecute"))
			if slices.ContainsFunc(n.Taints[:j], func(o Taint) bool { return o.Key == t.Key && o.Effect == t.Effect }) {
				v.fail(path, "there is another taint %s:%s: a node can have one of them", t.Key, t.Effect)
			}
		}
		v.mounts(path, n, c.Networking.PodNetwork)
		v.ports(path, n, count, ports)
		v.patches(path+".", n.KubeadmConfigPatches, n.KubeadmConfigPatchesJSON6902)
		if n.Role == RoleWorker {
			v.workerPatches(path, n)
		}
	}
	switch {
	case len(v.errs) > 0:
	case controlPlanes == 0:
		v.fail("nodes", "there is no control plane: want at least one")
	case all > MaxNodes:
		v.fail("nodes", "%d nodes: want at most %d", all, MaxNodes)
	}
}

// checkPath reports whether a path is absolute and in its shortest form, without characters that mean something to Docker.
func checkPath(p string) error {
	switch {
	case !path.IsAbs(p):
		return errors.New("want an absolute path")
	case path.Clean(p) != p:
		return fmt.Errorf("want it in its shortest form, %s", path.Clean(p))
	case p == "/":
		return errors.New("want a directory or a file below it")
	case strings.ContainsFunc(p, func(r rune) bool { return r == ':' || r == ',' || unicode.IsControl(r) }):
		return errors.New("want a path without colons, commas and control characters")
	}
	return nil
}

// What a node needs of its own files. Nothing can be mounted on any of this or on a directory above it, nor below ownTrees.
var (
	ownTrees = []string{
		"/etc/dind-cluster", "/proc", "/run/dind-cluster", "/usr/lib/dind-cluster", "/var/lib/containerd",
		"/var/lib/dind-cluster",
	}
	ownPaths = []string{
		"/bin", "/dev", "/etc/containerd", "/etc/kubernetes", "/etc/systemd", "/lib", "/lib64",
		"/run/containerd", "/run/systemd", "/sbin", "/sys", "/sys/fs/cgroup", "/usr/bin", "/usr/lib/systemd", "/usr/sbin", "/var/lib/kubelet", "/var/run",
	}
	// With a pod network of ours.
	ownNetwork = []string{"/etc/cni/net.d", "/opt/cni/bin"}
)

// checkTarget reports whether something can be mounted on a path of a node.
func checkTarget(p, podNetwork string) error {
	if err := checkPath(p); err != nil {
		return err
	}
	real := p
	if rest, ok := strings.CutPrefix(p, "/var/run/"); ok {
		real = "/run/" + rest
	}
	all := slices.Concat(ownTrees, ownPaths)
	if podNetwork != PodNetworkNone {
		all = append(all, ownNetwork...)
	}
	for _, own := range all {
		if own == real || strings.HasPrefix(own, real+"/") || slices.Contains(ownTrees, own) && strings.HasPrefix(real, own+"/") {
			return fmt.Errorf("the node needs its own %s: choose another path", own)
		}
	}
	return nil
}

func (v *validation) mounts(node string, n Node, podNetwork string) {
	for i, m := range n.ExtraMounts {
		field := fmt.Sprintf("%s.extraMounts[%d]", node, i)
		v.check(field+".hostPath", m.HostPath, checkPath(m.HostPath))
		v.check(field+".containerPath", m.ContainerPath, checkTarget(m.ContainerPath, podNetwork))
		if slices.ContainsFunc(n.ExtraMounts[:i], func(o Mount) bool { return o.ContainerPath == m.ContainerPath }) {
			v.fail(field+".containerPath", "%q: something else is mounted there, too", m.ContainerPath)
		}
		v.check(field+".propagation", m.Propagation, OneOf(m.Propagation, "", "None", "HostToContainer", "Bidirectional"))
	}
}

const apiServerPort = "networking.apiServerPort"

// ports takes the ports that nodes before have, by number and protocol.
func (v *validation) ports(node string, n Node, count int, taken map[string]string) {
	for i, p := range n.ExtraPortMappings {
		field := fmt.Sprintf("%s.extraPortMappings[%d]", node, i)
		v.check(field+".containerPort", p.ContainerPort, Between(p.ContainerPort, 1, 65535))
		v.check(field+".hostPort", p.HostPort, Between(p.HostPort, 1, 65535))
		v.check(field+".protocol", p.Protocol, OneOf(p.Protocol, "", "TCP", "UDP"))
		address, err := netip.ParseAddr(p.ListenAddress)
		if (err != nil || address.Zone() != "") && p.ListenAddress != "" {
			v.fail(field+".listenAddress", "%q: want an IP address", p.ListenAddress)
		}
		key := fmt.Sprintf("%d/%s", p.HostPort, cmp.Or(p.Protocol, "TCP"))
		other := taken[key]
		if other == apiServerPort && err == nil && !address.IsUnspecified() && address != netip.AddrFrom4([4]byte{127, 0, 0, 1}) {
			other = "" // the API server's is a port of 127.0.0.1
		}
		switch {
		case key == fmt.Sprintf("%d/TCP", APIServerPort):
			v.fail(field+".hostPort", "%d is the API server's in the cluster's container: choose another", p.HostPort)
		case p.HostPort == 53:
			v.fail(field+".hostPort", "53 is the nodes' name server's in the cluster's container: choose another")
		case other != "":
			v.fail(field+".hostPort", "%s is that of %s, too", key, other)
		case count > 1:
			v.fail(field+".hostPort", "%d nodes cannot have one port: list the nodes one by one", count)
		}
		taken[key] = field
	}
}

func (v *validation) networking(n Networking) {
	wrong := map[string]bool{}
	for _, s := range []struct {
		path     string
		prefix   netip.Prefix
		min, max int
	}{
		{"networking.nodeSubnet", n.NodeSubnet, 8, 24},
		{"networking.podSubnet", n.PodSubnet, 8, 16},
		// kubeadm takes at most 2^20 addresses (MaximumBitsForServiceSubnet in cmd/kubeadm/app/constants).
		{"networking.serviceSubnet", n.ServiceSubnet, 12, 24},
	} {
		if err := CheckSubnet(s.prefix, s.min, s.max); err != nil {
			v.check(s.path, s.prefix, err)
			wrong[s.path] = true
		}
	}
	subnets := n.Subnets()
	for i, a := range subnets {
		for _, b := range subnets[i+1:] {
			if !wrong[a.Field] && !wrong[b.Field] && a.Prefix.Overlaps(b.Prefix) {
				v.fail(b.Field, "%s overlaps %s %s: give each its own addresses (environment variables %s and %s)", b.Prefix, a.Field, a.Prefix, a.Variable, b.Variable)
			}
		}
	}
	if n.APIServerPort != 0 {
		v.check(apiServerPort, n.APIServerPort, Between(n.APIServerPort, 1, 65535))
	}
	for i, name := range n.APIServerSANs {
		v.check(fmt.Sprintf("networking.apiServerSANs[%d]", i), name, CheckSAN(name))
	}
	v.check("networking.kubeProxyMode", n.KubeProxyMode, OneOf(n.KubeProxyMode, "iptables", "nftables"))
	v.check("networking.podNetwork", n.PodNetwork, OneOf(n.PodNetwork, PodNetworkPTP, PodNetworkNone))
}

// Between reports whether a number lies in a range.
func Between(n, low, high int) error {
	if n < low || n > high {
		return fmt.Errorf("want a whole number from %d to %d", low, high)
	}
	return nil
}

// CheckTimeout reports whether a start can be bounded so.
func CheckTimeout(d time.Duration) error {
	if d < MinTimeout || d > MaxTimeout {
		return fmt.Errorf("want a duration from %s to %s, such as 90s or 5m", MinTimeout, MaxTimeout)
	}
	return nil
}

// OneOf reports whether a text is one of those that are allowed.
func OneOf(s string, allowed ...string) error {
	if !slices.Contains(allowed, s) {
		return fmt.Errorf("want %s", strings.Join(slices.DeleteFunc(slices.Clone(allowed), func(a string) bool { return a == "" }), " or "))
	}
	return nil
}

// reserved are the addresses that no subnet can have: https://www.iana.org/assignments/iana-ipv4-special-registry.
var reserved = []struct {
	prefix netip.Prefix
	what   string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "\"this network\""},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved"},
}

// CheckSubnet reports whether a cluster can have a subnet.
func CheckSubnet(p netip.Prefix, minBits, maxBits int) error {
	if !p.IsValid() || !p.Addr().Is4() || p.Bits() < minBits || p.Bits() > maxBits {
		return fmt.Errorf("want an IPv4 subnet of /%d to /%d, such as 10.32.0.0/%d", minBits, maxBits, maxBits)
	}
	if p != p.Masked() {
		return fmt.Errorf("the subnet with this address is %s: want its first address", p.Masked())
	}
	for _, r := range reserved {
		if p.Overlaps(r.prefix) {
			return fmt.Errorf("has %s addresses (%s): want others, such as 10.32.0.0/%d", r.what, r.prefix, maxBits)
		}
	}
	return nil
}

// hostName is what kubeadm accepts in certSANs: a DNS name, perhaps with a wildcard as its first label.
var hostName = regexp.MustCompile(`^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)

// CheckSAN reports whether a certificate can have a name or an address.
func CheckSAN(name string) error {
	a, err := netip.ParseAddr(name)
	// A zone is any text, and no certificate has one.
	if (err != nil || a.Zone() != "") && (len(name) > 253 || !hostName.MatchString(name)) {
		return errors.New("neither a DNS name nor an IP address")
	}
	return nil
}
