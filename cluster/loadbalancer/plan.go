package loadbalancer

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/dind-cluster/dind-cluster/internal/kubeapi"
)

// Class is the class of services that name this load balancer: spec.loadBalancerClass. Services
// without a class are its own as well.
const Class = "dind-cluster.github.io/load-balancer"

// Finalizer keeps a service until its address is free again: ServiceLoadBalancerFinalizerLabel in
// https://github.com/kubernetes/kubernetes/blob/v1.37.2/staging/src/k8s.io/cloud-provider/service/helpers/helper.go.
const Finalizer = "service.kubernetes.io/load-balancer-cleanup"

// exclude is a label of nodes to which load balancers send nothing (LabelNodeExcludeBalancers in
// https://pkg.go.dev/k8s.io/api/core/v1).
const exclude = "node.kubernetes.io/exclude-from-external-load-balancers"

// Service is the part of a service that matters here.
type Service struct {
	Metadata kubeapi.Meta `json:"metadata"`
	Spec     struct {
		Type                  string   `json:"type"`
		LoadBalancerClass     *string  `json:"loadBalancerClass"`
		LoadBalancerIP        string   `json:"loadBalancerIP"`
		IPFamilies            []string `json:"ipFamilies"`
		ExternalTrafficPolicy string   `json:"externalTrafficPolicy"`
	} `json:"spec"`
	Status struct {
		LoadBalancer struct {
			Ingress []Ingress `json:"ingress"`
		} `json:"loadBalancer"`
	} `json:"status"`
}

// Ingress is an address of a service.
type Ingress struct {
	IP       string `json:"ip,omitempty"`
	Hostname string `json:"hostname,omitempty"`
	// IPMode is VIP: kube-proxy translates the address on each node (KEP-1860).
	IPMode string `json:"ipMode,omitempty"`
}

// Meta returns the service's metadata.
func (s Service) Meta() kubeapi.Meta { return s.Metadata }

func (s Service) key() string { return s.Metadata.Namespace + "/" + s.Metadata.Name }

// local reports whether only nodes with endpoints of the service take its traffic.
func (s Service) local() bool { return s.Spec.ExternalTrafficPolicy == "Local" }

// addresses returns the addresses of the service that are among the load balancer's own, and
// reports whether there are others, which another load balancer gave.
func (s Service) addresses(subnets []netip.Prefix) (own []netip.Addr, others bool) {
	for _, i := range s.Status.LoadBalancer.Ingress {
		a, err := netip.ParseAddr(i.IP)
		if err != nil || !within(subnets, a) {
			others = true
			continue
		}
		own = append(own, a)
	}
	return own, others
}

// wanted reports whether the load balancer gives the service its addresses.
func (s Service) wanted(subnets []netip.Prefix) bool {
	class := s.Spec.LoadBalancerClass
	_, others := s.addresses(subnets)
	return s.Spec.Type == "LoadBalancer" && (class == nil || *class == Class) && s.Metadata.DeletionTimestamp == nil && !others
}

func within(subnets []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(subnets, func(p netip.Prefix) bool { return p.Contains(a) })
}

// assignment is what a service gets.
type assignment struct {
	addresses []netip.Addr
	// problem says why it lacks an address.
	problem string
}

// assign gives every wanted service one address per IP family. Services keep what they have; others
// get theirs in the order in which they were made.
func assign(services map[string]Service, subnets []netip.Prefix) map[string]*assignment {
	var order []Service
	out := map[string]*assignment{}
	for key, s := range services {
		if s.wanted(subnets) {
			order = append(order, s)
			out[key] = &assignment{}
		}
	}
	slices.SortFunc(order, func(a, b Service) int {
		return cmp.Or(a.Metadata.CreationTimestamp.Compare(b.Metadata.CreationTimestamp), strings.Compare(a.key(), b.key()))
	})
	// What is being removed has its address until its finalizer is gone.
	taken := map[netip.Addr]string{}
	for key, s := range services {
		if own, _ := s.addresses(subnets); out[key] == nil && slices.Contains(s.Metadata.Finalizers, Finalizer) {
			for _, a := range own {
				taken[a] = key
			}
		}
	}
	for _, s := range order {
		own, _ := s.addresses(subnets)
		for _, family := range s.families() {
			asked, _ := s.asked()
			i := slices.IndexFunc(own, func(a netip.Addr) bool {
				return a.Is6() == family.is6 && taken[a] == "" && (!asked.IsValid() || asked.Is6() != family.is6 || asked == a)
			})
			if i >= 0 {
				taken[own[i]] = s.key()
				out[s.key()].addresses = append(out[s.key()].addresses, own[i])
			}
		}
	}
	for _, s := range order {
		got := out[s.key()]
		asked, err := s.asked()
		if err != nil {
			got.problem = err.Error()
			continue
		}
		var addresses []netip.Addr
		for _, family := range s.families() {
			if i := slices.IndexFunc(got.addresses, func(a netip.Addr) bool { return a.Is6() == family.is6 }); i >= 0 {
				addresses = append(addresses, got.addresses[i])
				continue
			}
			a, err := pick(subnets, family, asked, taken)
			if err != nil {
				got.problem = err.Error()
				continue
			}
			taken[a] = s.key()
			addresses = append(addresses, a)
		}
		got.addresses = addresses
	}
	return out
}

// family is an IP family.
type family struct {
	name string
	is6  bool
}

func (s Service) families() []family {
	var out []family
	for _, name := range s.Spec.IPFamilies {
		out = append(out, family{name, name == "IPv6"})
	}
	return out
}

// asked returns the address that the service asks for, the zero Addr if it asks for none.
func (s Service) asked() (netip.Addr, error) {
	if s.Spec.LoadBalancerIP == "" {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(s.Spec.LoadBalancerIP)
	if err != nil {
		return a, fmt.Errorf("spec.loadBalancerIP %q is no IP address", s.Spec.LoadBalancerIP)
	}
	for _, f := range s.families() {
		if f.is6 == a.Is6() {
			return a, nil
		}
	}
	return a, fmt.Errorf("spec.loadBalancerIP %s is of another IP family than the service, which has %s", a, strings.Join(s.Spec.IPFamilies, " and "))
}

// pick returns an address that is free: the one that is asked for, if it is of the family, or else
// the first.
func pick(subnets []netip.Prefix, f family, asked netip.Addr, taken map[netip.Addr]string) (netip.Addr, error) {
	if asked.IsValid() && asked.Is6() == f.is6 {
		switch {
		case !within(subnets, asked):
			return asked, fmt.Errorf("spec.loadBalancerIP %s is not among the addresses of this cluster's load balancer: %s (networking.loadBalancerSubnets)", asked, list(subnets))
		case taken[asked] != "":
			return asked, fmt.Errorf("spec.loadBalancerIP %s is the address of service %s", asked, taken[asked])
		}
		return asked, nil
	}
	any := false
	for _, p := range subnets {
		if p.Addr().Is6() != f.is6 {
			continue
		}
		any = true
		for a := p.Addr(); p.Contains(a); a = a.Next() {
			if taken[a] == "" && usable(p, a) {
				return a, nil
			}
		}
	}
	if !any {
		return netip.Addr{}, fmt.Errorf("this cluster's load balancer has no %s addresses, only %s (networking.loadBalancerSubnets)", f.name, list(subnets))
	}
	return netip.Addr{}, fmt.Errorf("all %s addresses of this cluster's load balancer are taken (networking.loadBalancerSubnets: %s): delete a service of type LoadBalancer that is no longer needed", f.name, list(subnets))
}

// usable reports whether an address of a subnet can be a host's: the first one is the subnet's own,
// and the last one of IPv4 is for broadcasts. The smallest subnets have no others (RFC 3021).
func usable(p netip.Prefix, a netip.Addr) bool {
	if p.Addr().BitLen()-p.Bits() < 2 {
		return true
	}
	return a != p.Addr() && (a.Is6() || p.Contains(a.Next()))
}

func list[T fmt.Stringer](all []T) string {
	var out []string
	for _, one := range all {
		out = append(out, one.String())
	}
	return strings.Join(out, ", ")
}

// routes returns the node through which each address is reached, by the address of the node; the
// zero Addr means that there is none. A route stays as it is as long as its node can take the
// traffic.
func routes(services map[string]Service, given map[string]*assignment, nodes map[string]kubeapi.Node, down map[string]bool,
	endpoints map[string]map[string]kubeapi.EndpointSlice, before map[netip.Addr]netip.Addr) map[netip.Addr]netip.Addr {
	out := map[netip.Addr]netip.Addr{}
	balanced := balancedNodes(nodes, down)
	for key, got := range given {
		names := balanced
		if services[key].local() {
			names = withEndpoints(balanced, endpoints[key])
		}
		for _, a := range got.addresses {
			var candidates []netip.Addr
			for _, name := range names {
				if ip := nodeAddress(nodes[name], a.Is6()); ip.IsValid() {
					candidates = append(candidates, ip)
				}
			}
			switch {
			case slices.Contains(candidates, before[a]):
				out[a] = before[a]
			case len(candidates) > 0:
				h := fnv.New32a()
				h.Write(a.AsSlice())
				out[a] = candidates[int(h.Sum32()%uint32(len(candidates)))]
			default:
				out[a] = netip.Addr{}
			}
		}
	}
	return out
}

// balancedNodes returns the names of nodes that can take traffic, sorted. A label excludes nodes,
// unless there are no others: kubeadm puts it on every control plane.
func balancedNodes(nodes map[string]kubeapi.Node, down map[string]bool) []string {
	var rest, excluded []string
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		n := nodes[name]
		ready, _ := kubeapi.Ready(n.Status.Conditions)
		_, no := n.Metadata.Labels[exclude]
		switch {
		case !ready || down[name]:
		case no:
			excluded = append(excluded, name)
		default:
			rest = append(rest, name)
		}
	}
	if len(rest) == 0 {
		return excluded
	}
	return rest
}

// withEndpoints returns those of the nodes that have endpoints of a service: ready ones, or else
// those that serve until they end (KEP-1669).
func withEndpoints(nodes []string, all map[string]kubeapi.EndpointSlice) []string {
	var ready, serving []string
	for _, name := range nodes {
		isReady, isServing := false, false
		for _, s := range all {
			for _, e := range s.Endpoints {
				isReady = isReady || e.NodeName == name && e.Ready()
				isServing = isServing || e.NodeName == name && e.Serving()
			}
		}
		if isReady {
			ready = append(ready, name)
		}
		if isServing {
			serving = append(serving, name)
		}
	}
	if len(ready) == 0 {
		return serving
	}
	return ready
}

func nodeAddress(n kubeapi.Node, is6 bool) netip.Addr {
	for _, a := range n.Status.Addresses {
		if ip, err := netip.ParseAddr(a.Address); err == nil && a.Type == "InternalIP" && ip.Is6() == is6 {
			return ip
		}
	}
	return netip.Addr{}
}
