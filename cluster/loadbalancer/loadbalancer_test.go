package loadbalancer

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dind-cluster/dind-cluster/internal/kubeapi"
)

var subnets = []netip.Prefix{netip.MustParsePrefix("10.251.0.0/30"), netip.MustParsePrefix("fd00::/126")}

// service returns a service that was made in the given second, with what options change.
func service(name string, second int, options ...func(*Service)) Service {
	var s Service
	s.Metadata.Namespace, s.Metadata.Name, s.Metadata.UID = "default", name, "uid-"+name
	s.Metadata.CreationTimestamp = time.Unix(int64(second), 0)
	s.Spec.Type, s.Spec.IPFamilies, s.Spec.ExternalTrafficPolicy = "LoadBalancer", []string{"IPv4"}, "Cluster"
	for _, o := range options {
		o(&s)
	}
	return s
}

func has(addresses ...string) func(*Service) {
	return func(s *Service) {
		for _, a := range addresses {
			s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, Ingress{IP: a})
		}
	}
}

func asks(address string) func(*Service) {
	return func(s *Service) { s.Spec.LoadBalancerIP = address }
}

func families(f ...string) func(*Service) {
	return func(s *Service) { s.Spec.IPFamilies = f }
}

func class(c string) func(*Service) {
	return func(s *Service) { s.Spec.LoadBalancerClass = &c }
}

func going(s *Service) {
	now := time.Now()
	s.Metadata.DeletionTimestamp, s.Metadata.Finalizers = &now, []string{Finalizer}
}

func all(services ...Service) map[string]Service {
	out := map[string]Service{}
	for _, s := range services {
		out[s.key()] = s
	}
	return out
}

func TestAssign(t *testing.T) {
	for _, test := range []struct {
		name     string
		services map[string]Service
		// want has the addresses, or a part of the problem.
		want map[string]string
	}{
		{"in the order of their making", all(service("b", 1), service("a", 2)), map[string]string{"b": "10.251.0.1", "a": "10.251.0.2"}},
		{"what they have stays", all(service("a", 1), service("b", 2, has("10.251.0.1"))), map[string]string{"a": "10.251.0.2", "b": "10.251.0.1"}},
		{"two have the same", all(service("a", 1, has("10.251.0.2")), service("b", 2, has("10.251.0.2"))), map[string]string{"a": "10.251.0.2", "b": "10.251.0.1"}},
		{"all taken", all(service("a", 1), service("b", 2), service("c", 3)), map[string]string{"a": "10.251.0.1", "b": "10.251.0.2", "c": "all IPv4 addresses of this cluster's load balancer are taken"}},
		{"one that goes has its own still", all(service("a", 1, has("10.251.0.1"), going), service("b", 2)), map[string]string{"b": "10.251.0.2"}},
		{"one that asks", all(service("a", 1), service("b", 2, asks("10.251.0.2"))), map[string]string{"a": "10.251.0.1", "b": "10.251.0.2"}},
		{"one that asks for another than it has", all(service("a", 1, has("10.251.0.1"), asks("10.251.0.2"))), map[string]string{"a": "10.251.0.2"}},
		{"one that asks for what another has", all(service("a", 1, asks("10.251.0.2")), service("b", 2, has("10.251.0.2"))),
			map[string]string{"a": "10.251.0.2 is the address of service default/b", "b": "10.251.0.2"}},
		{"one that asks for another's", all(service("a", 1, asks("10.9.9.9"))), map[string]string{"a": "not among the addresses of this cluster's load balancer: 10.251.0.0/30, fd00::/126"}},
		{"one that asks for the wrong family", all(service("a", 1, asks("fd00::2"))), map[string]string{"a": "another IP family than the service, which has IPv4"}},
		{"one that asks for nonsense", all(service("a", 1, asks("x"))), map[string]string{"a": `"x" is no IP address`}},
		{"two families", all(service("a", 1, families("IPv6", "IPv4"), asks("10.251.0.2"))), map[string]string{"a": "fd00::1 10.251.0.2"}},
		{"one of two families is used up", all(service("a", 1), service("b", 2), service("c", 3, families("IPv4", "IPv6"))),
			map[string]string{"a": "10.251.0.1", "b": "10.251.0.2", "c": "all IPv4 addresses"}},
		{"classes", all(service("a", 1, class("example.org/other")), service("b", 2, class(Class))), map[string]string{"b": "10.251.0.1"}},
		{"another load balancer was quicker", all(service("a", 1, has("172.18.0.9"))), map[string]string{}},
		{"another type", all(service("a", 1, func(s *Service) { s.Spec.Type = "NodePort" })), map[string]string{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			given := assign(test.services, subnets)
			if len(given) != len(test.want) {
				t.Errorf("%d services, want %d", len(given), len(test.want))
			}
			for name, want := range test.want {
				got := given["default/"+name]
				text := strings.TrimSpace(strings.ReplaceAll(list(got.addresses), ",", "") + " " + got.problem)
				if text != want && (got.problem == "" || !strings.Contains(got.problem, want)) {
					t.Errorf("%s: got %q, want %q", name, text, want)
				}
			}
		})
	}
	// What is there of the other family is given, too.
	c := assign(all(service("a", 1), service("b", 2), service("c", 3, families("IPv4", "IPv6"))), subnets)["default/c"]
	if list(c.addresses) != "fd00::1" {
		t.Errorf("c has %s", list(c.addresses))
	}
}

func TestUsable(t *testing.T) {
	for prefix, want := range map[string]int{"10.0.0.0/24": 254, "10.0.0.0/30": 2, "10.0.0.0/31": 2, "10.0.0.7/32": 1, "fd00::/120": 255, "fd00::/128": 1} {
		p := netip.MustParsePrefix(prefix)
		n := 0
		for a := p.Addr(); p.Contains(a); a = a.Next() {
			if usable(p, a) {
				n++
			}
		}
		if n != want {
			t.Errorf("%s has %d usable addresses, want %d", p, n, want)
		}
	}
}

func node(name, ip string, ready bool, excluded bool) kubeapi.Node {
	var n kubeapi.Node
	n.Metadata.Name = name
	if excluded {
		n.Metadata.Labels = map[string]string{exclude: ""}
	}
	status := map[bool]string{true: "True", false: "Unknown"}[ready]
	n.Status.Conditions = []kubeapi.Condition{{Type: "Ready", Status: status}}
	n.Status.Addresses = append(n.Status.Addresses, struct {
		Type    string `json:"type"`
		Address string `json:"address"`
	}{"InternalIP", ip})
	return n
}

func slice(node string, ready, serving bool) map[string]kubeapi.EndpointSlice {
	var s kubeapi.EndpointSlice
	e := kubeapi.Endpoint{NodeName: node}
	e.Conditions.Ready, e.Conditions.Serving = &ready, &serving
	s.Endpoints = []kubeapi.Endpoint{e}
	return map[string]kubeapi.EndpointSlice{"default/s": s}
}

func TestRoutes(t *testing.T) {
	a := netip.MustParseAddr("10.251.0.1")
	cp, w1, w2 := node("cp", "10.250.0.2", true, true), node("w1", "10.250.0.3", true, false), node("w2", "10.250.0.4", true, false)
	gone := node("w1", "10.250.0.3", false, false)
	local := func(s *Service) { s.Spec.ExternalTrafficPolicy = "Local" }
	for _, test := range []struct {
		name      string
		service   Service
		nodes     []kubeapi.Node
		down      string
		endpoints map[string]kubeapi.EndpointSlice
		before    string
		want      []string // any of these
	}{
		{"any worker", service("s", 1), []kubeapi.Node{cp, w1, w2}, "", nil, "", []string{"10.250.0.3", "10.250.0.4"}},
		{"stays", service("s", 1), []kubeapi.Node{cp, w1, w2}, "", nil, "10.250.0.4", []string{"10.250.0.4"}},
		{"stays at the other", service("s", 1), []kubeapi.Node{cp, w1, w2}, "", nil, "10.250.0.3", []string{"10.250.0.3"}},
		{"node not ready", service("s", 1), []kubeapi.Node{cp, gone, w2}, "", nil, "10.250.0.3", []string{"10.250.0.4"}},
		{"node's container died", service("s", 1), []kubeapi.Node{cp, w1, w2}, "w1", nil, "10.250.0.3", []string{"10.250.0.4"}},
		{"only a control plane", service("s", 1), []kubeapi.Node{cp}, "", nil, "", []string{"10.250.0.2"}},
		{"no node", service("s", 1), []kubeapi.Node{gone}, "", nil, "", []string{""}},
		{"local", service("s", 1, local), []kubeapi.Node{cp, w1, w2}, "", slice("w2", true, true), "10.250.0.3", []string{"10.250.0.4"}},
		{"local, ending", service("s", 1, local), []kubeapi.Node{cp, w1, w2}, "", slice("w1", false, true), "", []string{"10.250.0.3"}},
		{"local, none", service("s", 1, local), []kubeapi.Node{cp, w1, w2}, "", slice("w1", false, false), "10.250.0.3", []string{""}},
	} {
		t.Run(test.name, func(t *testing.T) {
			nodes, services := map[string]kubeapi.Node{}, all(test.service)
			for _, n := range test.nodes {
				nodes[n.Metadata.Name] = n
			}
			before := map[netip.Addr]netip.Addr{}
			if test.before != "" {
				before[a] = netip.MustParseAddr(test.before)
			}
			got := routes(services, assign(services, subnets), nodes, map[string]bool{test.down: true}, map[string]map[string]kubeapi.EndpointSlice{"default/s": test.endpoints}, before)
			text := ""
			if got[a].IsValid() {
				text = got[a].String()
			}
			if len(got) != 1 || !slices.Contains(test.want, text) {
				t.Errorf("got %v, want %s to %q", got, a, test.want)
			}
		})
	}
}
