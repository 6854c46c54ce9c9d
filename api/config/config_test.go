package config

import (
	"bytes"
	"cmp"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
)

const head = "apiVersion: dind-cluster.github.io/v1alpha1\nkind: Cluster\n"

func TestDefault(t *testing.T) {
	got, err := Read("x.yaml", []byte(head))
	if err != nil || !reflect.DeepEqual(got, v1alpha1.Default()) {
		t.Errorf("got %+v, %v", got, err)
	}
}

// What Write shows is what Read takes.
func TestRoundTrip(t *testing.T) {
	text := head + `name: big
nodes:
- {role: control-plane, taints: [], labels: {example.org/a: "1"}}
- role: worker
  count: 3
  taints: [{key: x, effect: NoExecute}]
- {role: worker, name: extra, kubeadmConfigPatches: ["kind: JoinConfiguration"]}
networking: {podSubnet: 10.32.0.0/16, apiServerSANs: [a.b, fd00::1], kubeProxyMode: nftables}
featureGates: {A: true, B: false}
runtimeConfig: {api/all: true}
etcd: {sync: false}
start: {timeout: 90s, onFailure: keep}
`
	want, err := Read("x.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if n := want.Nodes[0]; n.Taints == nil || n.Labels["example.org/a"] != "1" || want.RuntimeConfig["api/all"] != "true" || want.Etcd.Sync {
		t.Errorf("got %+v", want)
	}
	data, err := Write(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Read("y.yaml", data)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v\nwant %+v\n%s", got, err, want, data)
	}
	var names []string
	for _, n := range want.Expand() {
		names = append(names, n.Name)
	}
	if text := strings.Join(names, " "); text != "control-plane worker1 worker2 worker3 extra" {
		t.Errorf("nodes are %s", text)
	}
}

// All mistakes of a file are found at once, in the order of its lines.
func TestMistakes(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"several", head + `nodes:
- roel: worker
- role: wrker
  count: many
- {role: control-plane, name: A_b}
networking:
  podSubnet: 10.1.2.3/16
  serviceSubnet: fd00::/108
  apiServerPort: 70000
featuregates: {}
start: {timeout: soon}
openFiles: 7
`, `x.yaml: line 4: nodes[0].roel: no such field: did you mean role?
x.yaml: line 4: nodes[0].role: "": want control-plane or worker
x.yaml: line 5: nodes[1].role: "wrker": want control-plane or worker
x.yaml: line 6: nodes[1].count: "many", want a whole number
x.yaml: line 7: nodes[2].name: "A_b": want 2 to 63 lower case letters, digits and hyphens
x.yaml: line 9: networking.podSubnet: 10.1.2.3/16: the subnet with this address is 10.1.0.0/16: want its first address
x.yaml: line 10: networking.serviceSubnet: fd00::/108: networking.ipFamily is ipv4: want an IPv4 subnet, such as 10.96.0.0/16 (environment variables IP_FAMILY and SERVICE_SUBNET)
x.yaml: line 11: networking.apiServerPort: 70000: want a whole number from 1 to 65535
x.yaml: line 12: featuregates: no such field: did you mean featureGates?
x.yaml: line 13: start.timeout: "soon": want a duration such as 90s or 5m
x.yaml: line 14: openFiles: 7: want a whole number from 256 to 1048576`},
		{"overlap", head + "networking: {nodeSubnet: 10.96.1.0/24}", `x.yaml: line 3: networking.serviceSubnet: 10.96.0.0/16 overlaps networking.nodeSubnet 10.96.1.0/24: give each its own addresses`},
		{"IPv6 with IPv6", head + "networking: {ipFamily: ipv6, podSubnet: 'fd00:10:250::/56'}", `x.yaml: line 3: networking.podSubnet: fd00:10:250::/56 overlaps networking.nodeSubnet fd00:10:250::/64`},
		{"the way out overlaps", head + "networking: {ipFamily: ipv6, nodeSubnet: 'fd00:1::/64,fd00:2::/64'}", `networking.nodeSubnet: fd00:1::/64,fd00:2::/64: want an IPv4 subnet of /8 to /24, an IPv6 subnet of /16 to /120, or both with a comma between`},
		{"two subnets of one family", head + "networking: {ipFamily: dual, podSubnet: '10.1.0.0/16,10.2.0.0/16'}", `networking.podSubnet: 10.1.0.0/16,10.2.0.0/16: want an IPv4 subnet of /8 to /16, an IPv6 subnet of /48 to /112, or both`},
		{"one subnet for both", head + "networking: {ipFamily: dual, podSubnet: 10.1.0.0/16}", `networking.podSubnet: 10.1.0.0/16: networking.ipFamily is dual: want an IPv4 and an IPv6 subnet, such as 10.244.0.0/16,fd00:10:244::/56`},
		{"two for one", head + "networking: {ipFamily: ipv6, serviceSubnet: 'fd00:1::/112,10.1.0.0/16'}", `networking.serviceSubnet: fd00:1::/112,10.1.0.0/16: networking.ipFamily is ipv6: want an IPv6 subnet, such as`},
		{"order", head + "networking: {ipFamily: dual, podSubnet: '10.1.0.0/16,fd00:1::/48', serviceSubnet: 'fd00:2::/112,10.2.0.0/16'}", `networking.podSubnet: 10.1.0.0/16,fd00:1::/48: the order of networking.nodeSubnet is another one, fd00:10:250::/64,10.250.0.0/24`},
		{"IPv6 services", head + "networking: {ipFamily: ipv6, serviceSubnet: 'fd00:1::/64'}", `networking.serviceSubnet: fd00:1::/64: want an IPv6 subnet of /108 to /120, such as fd00:10:32::/112`},
		{"IPv6 pods", head + "networking: {ipFamily: ipv6, podSubnet: 'fd00::/32'}", `networking.podSubnet: fd00::/32: want an IPv6 subnet of /48 to /112`},
		{"IPv6 nodes", head + "networking: {ipFamily: ipv6, nodeSubnet: 'fd00::/121'}", `networking.nodeSubnet: fd00::/121,10.250.0.0/24: want an IPv6 subnet of /16 to /120`},
		{"IPv4 as IPv6", head + "networking: {ipFamily: ipv6, serviceSubnet: '::ffff:10.0.0.0/112'}", `networking.serviceSubnet: ::ffff:10.0.0.0/112: has reserved addresses (::/8)`},
		{"IPv6 link-local", head + "networking: {ipFamily: ipv6, nodeSubnet: 'fe80::/64'}", `has link-local addresses (fe80::/10): want others, such as fd00:10:32::/64`},
		{"family", head + "networking: {ipFamily: ipv5, podSubnet: 'fd00:1::/48'}", `networking.ipFamily: "ipv5": want ipv4 or ipv6 or dual`},
		{"no subnet", head + "networking: {podSubnet: '10.1.0.0/16,x'}", `networking.podSubnet: "10.1.0.0/16,x": want a subnet, such as 10.32.0.0/16, or one of each IP family`},
		{"API address", head + "networking: {apiServerAddress: localhost}", `networking.apiServerAddress: "localhost": want an IP address`},
		{"detect mode", head + "networking: {detectLocalMode: Bridge}", `networking.detectLocalMode: "Bridge": want ClusterCIDR or NodeCIDR`},
		{"no bridge", head + "networking: {detectLocalMode: BridgeInterface}", `networking.detectLocalMode: "BridgeInterface": the pod network ptp has no bridge`},
		{"interface of ours", head + "networking: {detectLocalMode: InterfaceNamePrefix, detectLocalInterface: cali}", `networking.detectLocalInterface: "cali": the pod network ptp has interfaces of its own`},
		{"which interface", head + "networking: {podNetwork: none, detectLocalMode: InterfaceNamePrefix}", `networking.detectLocalInterface: "": want the name of your pod network's interface`},
		{"no need of an interface", head + "networking: {podNetwork: none, detectLocalMode: NodeCIDR, detectLocalInterface: cali}", `networking.detectLocalInterface: "cali": only the modes`},
		{"no proxy to detect", head + "networking: {kubeProxyMode: none, detectLocalMode: NodeCIDR}", `networking.detectLocalMode: "NodeCIDR": networking.kubeProxyMode is none`},
		{"MTU and search", head + "networking: {mtu: 576, dnsSearch: [a.b, 'a b']}", "networking.mtu: 576: want a whole number from 1280 to 65535\nx.yaml: line 3: networking.dnsSearch[1]: \"a b\": want a DNS name"},
		{"one name twice", head + "nodes:\n- {role: control-plane, name: ab}\n- {role: worker, name: ab}", `x.yaml: line 5: nodes[1].name: "ab" is the name of nodes[0], too`},
		{"no control plane", head + "nodes:\n- role: worker", `x.yaml: line 3: nodes: there is no control plane: want at least one`},
		{"too many", head + "nodes:\n- role: control-plane\n- {role: worker, count: 100}", `x.yaml: line 3: nodes: 101 nodes: want at most 100`},
		{"patch of what", head + "kubeadmConfigPatches: ['kind: Pod']", `line 3: kubeadmConfigPatches[0]: kind: "Pod": want InitConfiguration or`},
		{"patch of a worker", head + "nodes:\n- role: control-plane\n- role: worker\n  kubeadmConfigPatches: ['kind: ClusterConfiguration']", `line 6: nodes[1].kubeadmConfigPatches[0]: a worker has no ClusterConfiguration`},
		{"no patch", head + "kubeadmConfigPatchesJSON6902: [{kind: ClusterConfiguration, patch: 'a: b'}]", `line 3: kubeadmConfigPatchesJSON6902[0].patch: not a JSON patch (RFC 6902)`},
		{"twice", head + "kind: Cluster", `x.yaml: line 3: kind: stands here and in line 2`},
		{"no version", "kind: Cluster", `x.yaml: apiVersion: is missing: want dind-cluster.github.io/v1alpha1 or kind.x-k8s.io/v1alpha4`},
		{"other version", "apiVersion: apps/v1", `x.yaml: line 1: apiVersion: "apps/v1": want dind`},
		{"list", "[]", `x.yaml: line 1: the YAML document is a list, want fields with values`},
		{"empty", "", `x.yaml: the YAML document is empty`},
		{"two documents", head + "---\n" + head, `x.yaml: there is more than one YAML document`},
		{"no YAML", "a: [", `x.yaml: not YAML: line 1: did not find`},
		{"bomb", head + "x: &a [1,1,1,1,1,1,1,1,1,1]\ny: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nz: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n" +
			"u: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\nv: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\nkubeadmConfigPatches: [*e,*e]", `kubeadmConfigPatches[0]: a list, want a text`},
		{"no kind", "apiVersion: dind-cluster.github.io/v1alpha1", `x.yaml: kind: is missing: want Cluster`},
		{"other kind", "apiVersion: kind.x-k8s.io/v1alpha4\nkind: Pod", `x.yaml: line 2: kind: "Pod": want Cluster`},
		{"no kind, of kind", "apiVersion: kind.x-k8s.io/v1alpha4", `x.yaml: kind: is missing: want Cluster`},
		{"no control plane left", head + "nodes: [{role: control-plane, count: 0}, {role: worker}]", `line 3: nodes: there is no control plane`},
		{"no nodes", head + "nodes: []", `line 3: nodes: there is no control plane`},
		{"count", head + "nodes: [{role: control-plane, count: 9223372036854775807}, {role: worker, count: -1}]", `line 3: nodes[0].count: 9223372036854775807: want`},
		{"short name", head + "nodes: [{role: control-plane, name: a}]", `nodes[0].name: "a": want 2 to 63`},
		{"name of each node", head + "nodes: [{role: control-plane, name: localhost}]", `nodes[0].name: "localhost" is each node's`},
		{"many mistakes", head + "nodes: [" + strings.Repeat("~,", 40000) + "]", `x.yaml: and 39950 more`},
		{"labels", head + "nodes:\n- role: control-plane\n  labels:\n    example.org/a: b\n    a..b/c: d\n    example.org/b: a b\n", "line 7: nodes[0].labels[\"a..b/c\"]: \"a..b/c\": want the key of a label, as in example.org/name\n" +
			"x.yaml: line 8: nodes[0].labels[\"example.org/b\"]: \"a b\": want at most 63"},
		{"runtimeConfig", head + "runtimeConfig:\n  api/all: true\n  a.b/v1: maybe", `line 5: runtimeConfig["a.b/v1"]: "maybe": want true or false`},
		{"taint twice", head + "nodes: [{role: control-plane, taints: [{key: a, effect: NoSchedule}, {key: a, value: b, effect: NoSchedule}]}]", `nodes[0].taints[1]: there is another taint a:NoSchedule`},
		{"two documents in a patch", head + "kubeadmConfigPatches:\n- |\n  kind: KubeletConfiguration\n  ---\n  kind: InitConfiguration\n", `line 4: kubeadmConfigPatches[0]: more than one YAML document`},
		{"group of a patch", head + "kubeadmConfigPatches:\n- 'x: y'\n- '{kind: KubeletConfiguration, apiVersion: kubeadm.k8s.io/v1beta4}'\n", `line 5: kubeadmConfigPatches[1]: apiVersion: "kubeadm.k8s.io/v1beta4": want the group kubelet.config.k8s.io`},
		{"group of a JSON patch", head + "kubeadmConfigPatchesJSON6902: [{kind: InitConfiguration, group: kubeadm, patch: '[{op: remove, path: /a}]'}]", `kubeadmConfigPatchesJSON6902[0].group: "kubeadm": want the group kubeadm.k8s.io`},
		{"empty JSON patch", head + "kubeadmConfigPatchesJSON6902: [{kind: InitConfiguration}]", `kubeadmConfigPatchesJSON6902[0].patch: there are no operations`},
		{"operation", head + "kubeadmConfigPatchesJSON6902: [{kind: InitConfiguration, patch: '[{op: put, path: /a}]'}]", `.patch: operation 1: op: want add or copy`},
		{"operation without a value", head + "kubeadmConfigPatchesJSON6902: [{kind: InitConfiguration, patch: '[{op: add, path: /a}]'}]", `.patch: operation 1: add needs the field value`},
		{"operation without a path", head + "kubeadmConfigPatchesJSON6902: [{kind: InitConfiguration, patch: '[{op: add, value: ~, path: /a}, ~, {op: remove, path: a}]'}]", `.patch: operation 2: op: want`},
		{"merge of nothing", head + "networking: {<<: 3}", `networking: "3" cannot be merged`},
	} {
		_, err := Read("x.yaml", []byte(test.text))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got\n%v\nwant\n%s", test.name, err, test.want)
		}
	}
}

// Ports and mounts that contradict each other, or what a node needs.
func TestPortsAndMounts(t *testing.T) {
	for _, test := range []struct{ name, node, want, network string }{
		{"port twice", "extraPortMappings: [{containerPort: 80, hostPort: 80}, {containerPort: 81, hostPort: 80}]", "extraPortMappings[1].hostPort: 80/TCP is that of nodes[0].extraPortMappings[0], too", ""},
		{"one port of each protocol", "extraPortMappings: [{containerPort: 80, hostPort: 80}, {containerPort: 81, hostPort: 80, protocol: UDP}]", "", ""},
		{"port in the container", "extraPortMappings: [{containerPort: 80, hostPort: 6443}]", "hostPort: 6443 is the API server's", ""},
		{"UDP", "extraPortMappings: [{containerPort: 80, hostPort: 6443, protocol: UDP}]", "", ""},
		{"DNS", "extraPortMappings: [{containerPort: 80, hostPort: 53, protocol: UDP}]", "hostPort: 53 is the nodes' name server's", ""},
		{"port of the host", "extraPortMappings: [{containerPort: 80, hostPort: 7443}]", "hostPort: 7443/TCP is that of networking.apiServerPort, too", ""},
		{"port of all addresses", "extraPortMappings: [{containerPort: 80, hostPort: 7443, listenAddress: '::'}]", "is that of networking.apiServerPort, too", ""},
		{"port of another address", "extraPortMappings: [{containerPort: 80, hostPort: 7443, listenAddress: 192.168.1.1}]", "", ""},
		{"IPv6", "extraPortMappings: [{containerPort: 80, hostPort: 80, listenAddress: '::1'}]", "", ""},
		{"zone", "extraPortMappings: [{containerPort: 80, hostPort: 80, listenAddress: 'fe80::1%eth0'}]", `listenAddress: "fe80::1%eth0": want an IP address`, ""},
		{"several nodes", "count: 2\n  extraPortMappings: [{containerPort: 80, hostPort: 80}]", "2 nodes cannot have one port", ""},
		{"mount", "extraMounts: [{hostPath: /a, containerPath: /b}, {hostPath: /a, containerPath: /var/lib/kubelet/x}, {hostPath: /a, containerPath: /tmp/x}, {hostPath: /a, containerPath: /var/lib/etcd}]", "", ""},
		{"relative", "extraMounts: [{hostPath: ./a, containerPath: /b}]", `hostPath: "./a": want an absolute path`, ""},
		{"slash", "extraMounts: [{hostPath: /a/, containerPath: /b}]", `hostPath: "/a/": want it in its shortest form, /a`, ""},
		{"root", "extraMounts: [{hostPath: /, containerPath: /}]", `containerPath: "/": want a directory`, ""},
		{"colon", "extraMounts: [{hostPath: '/a:b', containerPath: /b}]", `hostPath: "/a:b": want a path without colons`, ""},
		{"twice", "extraMounts: [{hostPath: /a, containerPath: /b}, {hostPath: /c, containerPath: /b}]", `extraMounts[1].containerPath: "/b": something else is mounted there`, ""},
		{"nothing", "extraMounts: [~]", `extraMounts[0].hostPath: "": want an absolute path`, ""},
		{"the node's own", "extraMounts: [{hostPath: /a, containerPath: /etc/dind-cluster}]", "the node needs its own /etc/dind-cluster", ""},
		{"below", "extraMounts: [{hostPath: /a, containerPath: /usr/lib/dind-cluster/store}]", "the node needs its own /usr/lib/dind-cluster", ""},
		{"above", "extraMounts: [{hostPath: /a, containerPath: /run}]", "the node needs its own /run/dind-cluster", ""},
		{"link", "extraMounts: [{hostPath: /a, containerPath: /var/run/dind-cluster}]", "the node needs its own /run/dind-cluster", ""},
		{"plugins", "extraMounts: [{hostPath: /a, containerPath: /opt/cni/bin}]", "the node needs its own /opt/cni/bin", ""},
		{"plugins of another pod network", "extraMounts: [{hostPath: /a, containerPath: /opt/cni/bin}]", "", "none"},
		{"images", "extraMounts: [{hostPath: /a, containerPath: /var/lib/containerd}]", "the node needs its own /var/lib/containerd", ""},
	} {
		_, err := Read("x.yaml", []byte(head+"networking:\n  apiServerPort: 7443\n  podNetwork: "+cmp.Or(test.network, "ptp")+"\nnodes:\n- role: control-plane\n  "+test.node+"\n"))
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: got %v, want %q", test.name, err, test.want)
		}
	}
}

// Mounts have the same name in both formats.
func TestExtraMounts(t *testing.T) {
	c, err := Read("x.yaml", []byte(head+"nodes: [{role: control-plane, extraMounts: [{hostPath: /a, containerPath: /b}]}]"))
	if err != nil || len(c.Nodes[0].ExtraMounts) != 1 {
		t.Errorf("got %+v, %v", c, err)
	}
}

// Files of kind mean what they mean there.
func TestKind(t *testing.T) {
	const kindHead = "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\n"
	c, err := Read("kind.yaml", []byte(kindHead))
	if err != nil || len(c.Expand()) != 1 {
		t.Errorf("got %+v, %v, want a single node", c.Nodes, err)
	}
	c, err = Read("kind.yaml", []byte(kindHead+`name: ci
nodes:
- role: control-plane
  kubeadmConfigPatches:
  - |
    kind: InitConfiguration
    nodeRegistration:
      kubeletExtraArgs:
        node-labels: "ingress-ready=true"
- &w
  role: worker
  labels: {tier: frontend}
- <<: *w
  labels: {tier: backend}
networking: {disableDefaultCNI: true, podSubnet: 10.240.0.0/16, apiServerAddress: 127.0.0.1, kubeProxyMode: nftables}
featureGates: {SomeGate: true}
runtimeConfig: {"api/alpha": "false"}
`))
	if err != nil {
		t.Fatal(err)
	}
	nodes := c.Expand()
	if len(nodes) != 3 || nodes[1].Labels["tier"] != "frontend" || nodes[2].Labels["tier"] != "backend" || nodes[2].Role != "worker" ||
		len(nodes[0].KubeadmConfigPatches) != 1 || c.Name != "ci" || c.Networking.PodNetwork != "none" || c.Networking.PodSubnet.String() != "10.240.0.0/16" || !c.FeatureGates["SomeGate"] {
		t.Errorf("got %+v", c)
	}
	if _, err = Read("kind.yaml", []byte(kindHead+"nodes:\n- extraPortMapings: []\n")); err == nil || !strings.Contains(err.Error(), "line 4: nodes[0].extraPortMapings: no such field: did you mean extraPortMappings?") {
		t.Errorf("got %v", err)
	}
	_, err = Read("kind.yaml", []byte(kindHead+`nodes:
- role: control-plane
  extraMounts: [{hostPath: /a, containerPath: ../b}]
- role: control-plane
  image: example/node:v1.30.0
networking: {ipFamily: dual, podSubnet: 10.1.0.0/16}
containerdConfigPatches: [x]
`))
	for _, want := range []string{
		`nodes[0].extraMounts[0].containerPath: "../b": want an absolute path`, "line 7: nodes[1].image: all nodes", `line 8: networking.podSubnet: 10.1.0.0/16: networking.ipFamily is dual: want`,
		"line 9: containerdConfigPatches[0]: not TOML",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(head))
	f.Add([]byte(head + "nodes: [{role: control-plane, count: 1}]\nfeatureGates: {A: true}"))
	f.Add([]byte("apiVersion: kind.x-k8s.io/v1alpha4\nkind: Cluster\nnodes: [{role: worker}, {}]"))
	files, err := filepath.Glob("../kind/testdata/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Read("x", data)
		if err != nil {
			return
		}
		text, err := Write(c)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Read("y", text)
		if err != nil {
			t.Fatalf("%q is refused: %v", text, err)
		}
		if second, err := Write(again); err != nil || !bytes.Equal(second, text) {
			t.Errorf("%q comes back as %q, %v", text, second, err)
		}
	})
}
