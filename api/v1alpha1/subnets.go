package v1alpha1

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// The values of Networking.IPFamily.
const (
	IPv4 = "ipv4"
	IPv6 = "ipv6"
	Dual = "dual"
)

// Subnets are one subnet, or one of each IP family, the primary one first.
type Subnets []netip.Prefix

var errSubnets = errors.New("want a subnet, such as 10.32.0.0/16, or one of each IP family, as in 10.32.0.0/16,fd00:10:32::/56")

// ParseSubnets reads subnets with commas between, as kubeadm has them.
func ParseSubnets(text string) (Subnets, error) {
	var out Subnets
	for part := range strings.SplitSeq(text, ",") {
		p, err := netip.ParsePrefix(strings.TrimSpace(part))
		if err != nil {
			return nil, errSubnets
		}
		out = append(out, p)
	}
	return out, nil
}

// String writes what ParseSubnets reads.
func (s Subnets) String() string {
	var texts []string
	for _, p := range s {
		texts = append(texts, p.String())
	}
	return strings.Join(texts, ",")
}

// MarshalText writes what ParseSubnets reads.
func (s Subnets) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText calls ParseSubnets. Nothing is no subnet, as if nothing was said.
func (s *Subnets) UnmarshalText(text []byte) (err error) {
	if len(text) == 0 {
		*s = nil
		return nil
	}
	*s, err = ParseSubnets(string(text))
	return err
}

// first6 reports whether IPv6 is the primary family.
func (s Subnets) first6() bool { return len(s) > 0 && s[0].Addr().Is6() }

// Subnet is one of a cluster's subnets, with the field and the environment variable that set it.
type Subnet struct {
	Field, Variable string
	Prefix          netip.Prefix
}

// Sizes are the lengths that the prefixes of a field's subnets may have. The value is what an error says that it may be.
type Sizes struct {
	min4, max4, min6, max6 int
	// example4 and example6 are used by no default.
	example4, example6 string
}

// NodeSizes have room for MaxNodes. PodSizes have it for 256 times as many pods as a node has, which is what a /16 in pieces of
// /24 has; kubeadm and the controller manager take at most 16 bits between a subnet and its pieces (PodSubnetNodeMaskMaxDiff in
// https://github.com/kubernetes/kubernetes/blob/v1.37.2/cmd/kubeadm/app/constants/constants.go). ServiceSizes go up to the
// 2^20 addresses that kubeadm takes (MaximumBitsForServiceSubnet, there).
var (
	NodeSizes    = Sizes{8, 24, 16, 120, "10.32.0.0/24", "fd00:10:32::/64"}
	PodSizes     = Sizes{8, 16, 48, 112, "10.32.0.0/16", "fd00:10:32::/56"}
	ServiceSizes = Sizes{12, 24, 108, 120, "10.32.0.0/24", "fd00:10:32::/112"}

	loadBalancerSizes = Sizes{8, 32, 64, 128, "10.32.0.0/24", "fd00:10:32::/112"}
)

// String says what Check takes.
func (z Sizes) String() string {
	return fmt.Sprintf("an IPv4 subnet of /%d to /%d, an IPv6 subnet of /%d to /%d, or both with a comma between", z.min4, z.max4, z.min6, z.max6)
}

// Check reports whether a cluster of some IP family can have the subnets.
func (z Sizes) Check(s Subnets) error {
	if len(s) == 0 || len(s) > 2 || len(s) == 2 && s[0].Addr().Is4() == s[1].Addr().Is4() {
		return fmt.Errorf("want %v", z)
	}
	for _, p := range s {
		family, low, high, example := "IPv4", z.min4, z.max4, z.example4
		if p.Addr().Is6() {
			family, low, high, example = "IPv6", z.min6, z.max6, z.example6
		}
		if p.Bits() < low || p.Bits() > high {
			return fmt.Errorf("want an %s subnet of /%d to /%d, such as %s", family, low, high, example)
		}
		if p != p.Masked() {
			return fmt.Errorf("the subnet with this address is %s: want its first address", p.Masked())
		}
		for _, r := range reserved {
			if p.Overlaps(r.prefix) {
				return fmt.Errorf("has %s addresses (%s): want others, such as %s", r.what, r.prefix, example)
			}
		}
	}
	return nil
}

// CheckLoadBalancerSubnet reports whether services of type LoadBalancer can have the addresses of a subnet.
func CheckLoadBalancerSubnet(p netip.Prefix) error { return loadBalancerSizes.Check(Subnets{p}) }

// reserved are the addresses that no subnet can have: https://www.iana.org/assignments/iana-ipv4-special-registry and
// https://www.iana.org/assignments/iana-ipv6-special-registry.
var reserved = []struct {
	prefix netip.Prefix
	what   string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "\"this network\""},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved"},
	{netip.MustParsePrefix("::/8"), "reserved"}, // loopback and those that stand for IPv4 among them
	{netip.MustParsePrefix("fe80::/10"), "link-local"},
	{netip.MustParsePrefix("ff00::/8"), "multicast"},
}

// subnetField is one of the fields of Networking that have subnets. The defaults are outside of the pools that Docker hands out
// by itself (172.17.0.0/12, 192.168.0.0/16), so that they do not collide with the network which the top-level container is
// attached to, and those of IPv6 unique local (RFC 4193), as kind's are.
type subnetField struct {
	field, variable    string
	subnets            *Subnets
	sizes              Sizes
	default4, default6 netip.Prefix
}

func (n *Networking) subnetFields() []subnetField {
	return []subnetField{
		{"networking.nodeSubnet", "NODE_SUBNET", &n.NodeSubnet, NodeSizes, netip.MustParsePrefix("10.250.0.0/24"), netip.MustParsePrefix("fd00:10:250::/64")},
		{"networking.podSubnet", "POD_SUBNET", &n.PodSubnet, PodSizes, netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:10:244::/56")},
		{"networking.serviceSubnet", "SERVICE_SUBNET", &n.ServiceSubnet, ServiceSizes, netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("fd00:10:96::/112")},
	}
}

// Subnets returns the cluster's subnets.
func (n Networking) Subnets() []Subnet {
	var out []Subnet
	for _, f := range n.subnetFields() {
		for _, p := range *f.subnets {
			out = append(out, Subnet{f.field, f.variable, p})
		}
	}
	for i, p := range n.LoadBalancerSubnets {
		out = append(out, Subnet{fmt.Sprintf("networking.loadBalancerSubnets[%d]", i), "LOAD_BALANCER_SUBNETS", p})
	}
	return out
}

// loadBalancerDefaults returns the subnets for services of type LoadBalancer of an IP family.
func loadBalancerDefaults(family string) []netip.Prefix {
	v4, v6 := netip.MustParsePrefix("10.251.0.0/24"), netip.MustParsePrefix("fd00:10:251::/112")
	switch family {
	case IPv6:
		return []netip.Prefix{v6}
	case Dual:
		return []netip.Prefix{v4, v6}
	}
	return []netip.Prefix{v4}
}

// defaults returns the subnets of the IP family for a field in which nothing is said. In a dual cluster IPv6 comes first if it
// does so where something is said.
func (n *Networking) defaults(f subnetField) Subnets {
	switch n.IPFamily {
	case IPv6:
		if f.subnets == &n.NodeSubnet {
			return Subnets{f.default6, f.default4}
		}
		return Subnets{f.default6}
	case Dual:
		if n.PodSubnet.first6() || n.ServiceSubnet.first6() || n.NodeSubnet.first6() {
			return Subnets{f.default6, f.default4}
		}
		return Subnets{f.default4, f.default6}
	}
	return Subnets{f.default4}
}

// Complete gives a value to what is not said and depends on the IP family.
func (n *Networking) Complete() {
	for _, f := range n.subnetFields() {
		if len(*f.subnets) == 0 {
			*f.subnets = n.defaults(f)
		}
	}
	if n.IPFamily == IPv6 && len(n.NodeSubnet) == 1 && n.NodeSubnet.first6() {
		n.NodeSubnet = append(n.NodeSubnet, n.subnetFields()[0].default4)
	}
	if n.LoadBalancerSubnets == nil {
		n.LoadBalancerSubnets = loadBalancerDefaults(n.IPFamily)
	}
}

// SetIPFamily changes the IP family, and with it the subnets for which nothing else than the defaults was said.
func (n *Networking) SetIPFamily(family string) {
	var unsaid []*Subnets
	for _, f := range n.subnetFields() {
		if slices.Equal(*f.subnets, n.defaults(f)) {
			unsaid = append(unsaid, f.subnets)
		}
	}
	for _, s := range unsaid {
		*s = nil
	}
	if slices.Equal(n.LoadBalancerSubnets, loadBalancerDefaults(n.IPFamily)) {
		n.LoadBalancerSubnets = nil
	}
	n.IPFamily = family
	n.Complete()
}

// APIAddress returns APIServerAddress, or its default.
func (n Networking) APIAddress() netip.Addr {
	if a, err := netip.ParseAddr(n.APIServerAddress); err == nil {
		return a
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}

// Reached returns the address at which a machine itself reaches what listens at one of its
// addresses: that of the loopback interface, if it listens at all.
func Reached(a netip.Addr) netip.Addr {
	switch a {
	case netip.IPv4Unspecified():
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case netip.IPv6Unspecified():
		return netip.IPv6Loopback()
	}
	return a
}

// subnets checks each field by itself, then whether all fit the IP family and each other.
func (v *validation) subnets(n Networking) {
	wrong := map[string]bool{}
	fail := func(f subnetField, format string, args ...any) {
		v.fail(f.field, "%v: "+format, append([]any{*f.subnets}, args...)...)
		wrong[f.field] = true
	}
	fields := n.subnetFields()
	for _, f := range fields {
		if err := f.sizes.Check(*f.subnets); err != nil {
			fail(f, "%v", err)
		}
	}
	var order *subnetField // that of the first field with subnets of two families, in a dual cluster
	for _, f := range fields {
		s := *f.subnets
		out := f.field == fields[0].field && n.IPFamily == IPv6 && len(s) == 2 // the IPv4 subnet for the way out
		const why = "networking.ipFamily is %s: want %s, such as %s (environment variables IP_FAMILY and %s)"
		switch {
		case wrong[f.field]:
		case n.IPFamily == IPv4 && (len(s) > 1 || s.first6()):
			fail(f, why, n.IPFamily, "an IPv4 subnet", f.default4, f.variable)
		case n.IPFamily == IPv6 && (len(s) > 1 && !out || !s.first6()):
			fail(f, why, n.IPFamily, "an IPv6 subnet", f.default6, f.variable)
		case n.IPFamily == Dual && len(s) == 1:
			fail(f, why, n.IPFamily, "an IPv4 and an IPv6 subnet", Subnets{f.default4, f.default6}, f.variable)
		case n.IPFamily != Dual:
		case order == nil:
			order = &f
		case s.first6() != order.subnets.first6():
			fail(f, "the order of %s is another one, %v: the first subnet of each is of the primary IP family", order.field, *order.subnets)
		}
	}
	for i, p := range n.LoadBalancerSubnets {
		path := fmt.Sprintf("networking.loadBalancerSubnets[%d]", i)
		err := CheckLoadBalancerSubnet(p)
		if err == nil && (n.IPFamily == IPv4 && p.Addr().Is6() || n.IPFamily == IPv6 && p.Addr().Is4()) {
			err = fmt.Errorf("networking.ipFamily is %s: want subnets such as %s (environment variables IP_FAMILY and LOAD_BALANCER_SUBNETS)", n.IPFamily, loadBalancerDefaults(n.IPFamily)[0])
		}
		if err != nil {
			v.check(path, p, err)
			wrong[path] = true
		}
	}
	all := n.Subnets()
	for i, a := range all {
		for _, b := range all[i+1:] {
			if !wrong[a.Field] && !wrong[b.Field] && a.Prefix.Overlaps(b.Prefix) {
				v.fail(b.Field, "%s overlaps %s %s: give each its own addresses (environment variables %s and %s)", b.Prefix, a.Field, a.Prefix, a.Variable, b.Variable)
			}
		}
	}
}
