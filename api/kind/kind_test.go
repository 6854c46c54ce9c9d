package kind

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/internal/strictyaml"
)

func convert(t *testing.T, text string) (v1alpha1.Cluster, error) {
	t.Helper()
	doc, err := strictyaml.Parse([]byte("kind: Cluster\napiVersion: " + APIVersion + "\n" + text))
	if err != nil {
		t.Fatal(err)
	}
	c, _, err := Convert(doc)
	return c, err
}

func TestConvert(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       func(*v1alpha1.Cluster)
	}{
		{"nothing said", "", func(c *v1alpha1.Cluster) { c.Nodes = v1alpha1.Workers(0) }},
		{"nulls", "name: ~\nnodes: ~\nnetworking: ~\nfeatureGates: ~\ncontainerdConfigPatches: ~", func(c *v1alpha1.Cluster) { c.Nodes = v1alpha1.Workers(0) }},
		{"roles", "nodes: [{}, {role: worker}, ~]", func(c *v1alpha1.Cluster) {
			c.Nodes = []v1alpha1.Node{{Role: "control-plane"}, {Role: "worker"}, {Role: "control-plane"}}
		}},
		{"node", `nodes:
- labels: {a: b}
  extraMounts: [{hostPath: /a, containerPath: /b, readOnly: true, propagation: HostToContainer, selinuxRelabel: false}]
  extraPortMappings: [{containerPort: 80, hostPort: 8080, listenAddress: "::1", protocol: UDP}]
  kubeadmConfigPatches: [x]
  kubeadmConfigPatchesJSON6902: [{group: a, version: b, kind: c, patch: d}]`, func(c *v1alpha1.Cluster) {
			c.Nodes = []v1alpha1.Node{{
				Role: "control-plane", Labels: map[string]string{"a": "b"},
				ExtraMounts:                  []v1alpha1.Mount{{HostPath: "/a", ContainerPath: "/b", ReadOnly: true, Propagation: "HostToContainer"}},
				ExtraPortMappings:            []v1alpha1.Port{{ContainerPort: 80, HostPort: 8080, ListenAddress: "::1", Protocol: "UDP"}},
				KubeadmConfigPatches:         []string{"x"},
				KubeadmConfigPatchesJSON6902: []v1alpha1.JSON6902Patch{{Group: "a", Version: "b", Kind: "c", Patch: "d"}},
			}}
		}},
		{"networking", "networking: {ipFamily: ipv4, apiServerPort: 7443, apiServerAddress: 127.0.0.1, podSubnet: 10.1.0.0/16, serviceSubnet: 10.2.0.0/16, disableDefaultCNI: true, kubeProxyMode: nftables, dnsSearch: []}", func(c *v1alpha1.Cluster) {
			c.Nodes = v1alpha1.Workers(0)
			n := v1alpha1.Default().Networking
			n.APIServerPort, n.PodNetwork, n.KubeProxyMode = 7443, "none", "nftables"
			n.APIServerAddress, n.DNSSearch = "127.0.0.1", []string{}
			n.PodSubnet, n.ServiceSubnet = subnets("10.1.0.0/16"), subnets("10.2.0.0/16")
			c.Networking = n
		}},
		{"both IP families", "networking: {ipFamily: dual, podSubnet: 'fd00:1::/48,10.1.2.3/16', apiServerAddress: '::1', kubeProxyMode: none, dnsSearch: [a.b]}", func(c *v1alpha1.Cluster) {
			c.Nodes = v1alpha1.Workers(0)
			n := &c.Networking
			n.IPFamily, n.KubeProxyMode, n.APIServerAddress, n.DNSSearch = "dual", "none", "::1", []string{"a.b"}
			n.PodSubnet = subnets("fd00:1::/48", "10.1.0.0/16")
			n.NodeSubnet, n.ServiceSubnet = subnets("fd00:10:250::/64", "10.250.0.0/24"), subnets("fd00:10:96::/112", "10.96.0.0/16")
			n.LoadBalancerSubnets = subnets("10.251.0.0/24", "fd00:10:251::/112")
		}},
		{"a port that kind would choose", "networking: {apiServerPort: -1}", func(c *v1alpha1.Cluster) { c.Nodes = v1alpha1.Workers(0) }},
		{"cluster", "name: ci\nfeatureGates: {A: true}\nruntimeConfig: {api/all: 'true'}\nkubeadmConfigPatches: [x]\nkubeadmConfigPatchesJSON6902: [{kind: c}]\ncontainerdConfigPatches: [y]", func(c *v1alpha1.Cluster) {
			c.Name, c.Nodes = "ci", v1alpha1.Workers(0)
			c.FeatureGates, c.RuntimeConfig = map[string]bool{"A": true}, map[string]string{"api/all": "true"}
			c.KubeadmConfigPatches, c.ContainerdConfigPatches = []string{"x"}, []string{"y"}
			c.KubeadmConfigPatchesJSON6902 = []v1alpha1.JSON6902Patch{{Kind: "c"}}
		}},
	} {
		want := v1alpha1.Default()
		test.want(&want)
		if got, err := convert(t, test.text); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, %v\nwant %+v", test.name, got, err, want)
		}
	}
}

func subnets(all ...string) v1alpha1.Subnets {
	var out v1alpha1.Subnets
	for _, s := range all {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func TestRefused(t *testing.T) {
	for text, want := range map[string]string{
		"nodes: [{image: x}]":                                                  "nodes[0].image: all nodes",
		"nodes: [{extraPortMappings: [{containerPort: 1}]}]":                   "nodes[0].extraPortMappings[0].hostPort: want a port",
		"containerdConfigPatchesJSON6902: [x]":                                 "containerdConfigPatchesJSON6902: only",
		"networking: {podSubnet: '10.0.0.0/16;fd00::/56'}":                     `networking.podSubnet: "10.0.0.0/16;fd00::/56": want a subnet`,
		"networking: {nodeSubnet: 10.0.0.0/16}":                                "networking.nodeSubnet: no such field",
		"featureGates: {A: yes}":                                               `featureGates.A: "yes", want true or false`,
		"nodes: [{role: worker, count: 2}]":                                    "nodes[0].count: no such field",
		"nodes: [{imge: x, image: y}]\nnmae: x":                                "nodes[0].image: all nodes", // with what cannot be read
		"nodes: [{image: x, labels: [a]}]\nnetworking: {disableDefaultCNI: 1}": "nodes[0].image: all nodes",
	} {
		if _, err := convert(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}
