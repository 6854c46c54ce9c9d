package kubeadm

import (
	"crypto/tls"
	"flag"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/cluster/topology"
)

var update = flag.Bool("update", false, "write the golden files")

func TestGoldens(t *testing.T) {
	input := func(nodes, index int, cgroupV1 bool) Input {
		c := v1alpha1.Default()
		c.Nodes = v1alpha1.Workers(nodes - 1)
		c.Networking.APIServerSANs = []string{"ci.example.org"}
		wanted := topology.Resolve(c)
		return Input{
			Topology:          wanted,
			Node:              wanted.Nodes[index],
			Timeout:           time.Duration(c.Start.Timeout),
			KubernetesVersion: "v1.99.0",
			CgroupV1:          cgroupV1,
			ResolvConf:        "/run/dind-cluster/resolv.conf",
			DiscoveryFile:     "/run/dind-cluster/discovery.conf",
			PatchesDir:        "/run/dind-cluster/patches",
		}
	}
	noSync := input(1, 0, false)
	noSync.Topology.EtcdSync = false
	several := func(index int) Input {
		in := input(1, 0, false)
		c := v1alpha1.Default()
		three := 3
		c.Nodes = []v1alpha1.Node{{Role: v1alpha1.RoleControlPlane, Count: &three}}
		in.Topology = topology.Resolve(c)
		in.Node = in.Topology.Nodes[index]
		return in
	}
	gates := input(3, 0, false)
	gates.Topology.FeatureGates = map[string]bool{"SomeAlpha": true, "OtherBeta": false}
	gates.Topology.RuntimeConfig = map[string]string{"api/all": "true", "batch/v2alpha1": "false"}
	gates.Topology.Patches.Merge = []string{
		"kind: ClusterConfiguration\napiServer: {certSANs: null}",
		"kind: KubeletConfiguration\nmaxPods: 50",
		"kind: ClusterConfiguration\napiVersion: kubeadm.k8s.io/v1beta5\nclusterName: of another version",
		"kind: ClusterConfiguration\napiVersion: kubeadm.k8s.io/v1beta3\nmetadata: {name: config}\nscheduler: {extraArgs: {v: 4, leader-elect: true}}",
	}
	gates.Node.Patches.Merge = []string{"kind: InitConfiguration\nnodeRegistration: {name: patched}", "kind: KubeletConfiguration\nmaxPods: 60"}
	gates.Node.Patches.JSON6902 = []v1alpha1.JSON6902Patch{
		{Group: "kubeproxy.config.k8s.io", Version: "v1alpha1", Kind: "KubeProxyConfiguration", Patch: `[{"op": "replace", "path": "/mode", "value": "nftables"}]`},
		{Kind: "KubeletConfiguration", Patch: "- {op: add, path: /logging, value: {format: json}}"},
	}
	four := 4
	components := input(2, 0, false)
	components.Topology.EtcdSync = false
	components.Topology.EtcdArgs = v1alpha1.ExtraArgs{{Name: "unsafe-no-fsync", Value: "false"}, {Name: "log-level", Value: "warn"}}
	components.Topology.Kubernetes = v1alpha1.Kubernetes{
		Logging:           v1alpha1.Logging{Verbosity: &four, Format: "json"},
		APIServer:         v1alpha1.Component{ExtraArgs: v1alpha1.ExtraArgs{{Name: "service-account-issuer", Value: "a"}, {Name: "service-account-issuer", Value: "b"}}},
		ControllerManager: v1alpha1.Component{ExtraArgs: v1alpha1.ExtraArgs{{Name: "kube-api-qps", Value: "20"}}, Logging: v1alpha1.Logging{Format: "text"}},
		Kubelet:           v1alpha1.Component{ExtraArgs: v1alpha1.ExtraArgs{{Name: "max-pods", Value: "60"}}},
		Admission: v1alpha1.Admission{
			EnablePlugins: []string{"AlwaysPullImages"}, DisablePlugins: []string{"Priority"},
			Configuration: "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\n",
		},
		Audit:           v1alpha1.Audit{Policy: "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None}]\n"},
		Tracing:         v1alpha1.Tracing{Endpoint: "10.250.0.1:4317"},
		EmulatedVersion: "1.36", EmulationForwardCompatible: true, EncryptionAlgorithm: "RSA-4096",
	}
	family := func(name, proxy, local string) Input {
		in := input(2, 0, false)
		c := v1alpha1.Default()
		c.Nodes = v1alpha1.Workers(1)
		c.Networking.SetIPFamily(name)
		c.Networking.PodSubnet[len(c.Networking.PodSubnet)-1] = netip.MustParsePrefix("fd00:10:244::/60")
		c.Networking.KubeProxyMode, c.Networking.DetectLocalMode = proxy, local
		in.Topology = topology.Resolve(c)
		in.Node = in.Topology.Nodes[0]
		return in
	}
	for _, test := range []struct {
		golden string
		write  func(Input) ([]byte, error)
		in     Input
	}{
		{"init.yaml", Init, input(3, 0, false)},
		{"init-single-cgroupv1.yaml", Init, input(1, 0, true)},
		{"init-no-sync.yaml", Init, noSync},
		{"init-gates-and-patches.yaml", Init, gates},
		{"init-components.yaml", Init, components},
		{"join.yaml", Join, input(3, 2, false)},
		{"init-three-control-planes.yaml", Init, several(0)},
		{"join-control-plane.yaml", Join, several(2)},
		{"init-ipv6.yaml", Init, family("ipv6", "nftables", "InterfaceNamePrefix")},
		{"init-dual-no-proxy.yaml", Init, family("dual", "none", "")},
		{"join-dual.yaml", Join, family("dual", "none", "")},
	} {
		t.Run(test.golden, func(t *testing.T) {
			got, err := test.write(test.in)
			if err != nil {
				t.Fatal(err)
			}
			checkGolden(t, test.golden, got)
		})
	}
	patches, err := Patches(gates)
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range patches {
		t.Run(name, func(t *testing.T) { checkGolden(t, filepath.Join("patches", name), got) })
	}
	if len(patches) != 9 {
		t.Errorf("%d patches", len(patches))
	}
	patches, err = Patches(components)
	if err != nil {
		t.Fatal(err)
	}
	checkGolden(t, "patches/components/kube-apiserver+strategic.yaml", patches["kube-apiserver+strategic.yaml"])
	files, err := Files(components.Topology.Kubernetes)
	if err != nil || len(files) != 3 {
		t.Errorf("the API server has the files %q, %v", files, err)
	}
	for name, got := range files {
		checkGolden(t, filepath.Join("files", name), got)
	}
	if files, err := Files(v1alpha1.Default().Kubernetes); err != nil || len(files) != 0 {
		t.Errorf("the API server has the files %q, %v by default", files, err)
	}
	if worker, err := Patches(input(3, 2, false)); err != nil || len(worker) != 0 {
		t.Errorf("a worker has the patches %q, %v", worker, err)
	}
}

func TestTimeouts(t *testing.T) {
	for whole, call := range map[time.Duration]string{
		30 * time.Second: "1m0s",
		5 * time.Minute:  "1m0s",
		4 * time.Hour:    "48m0s",
	} {
		got := timeouts(whole)
		if got["kubernetesAPICall"] != call || got["kubeletHealthCheck"] != whole.String() {
			t.Errorf("%v: got %v, want %s for a call", whole, got, call)
		}
	}
}

func TestStartupTries(t *testing.T) {
	for limit, want := range map[time.Duration]int{
		30 * time.Second:                     240,
		4 * time.Minute:                      240,
		5*time.Minute + 600*time.Millisecond: 301,
		4 * time.Hour:                        14400,
	} {
		if got := startupTries(limit); got != want {
			t.Errorf("%v: got %d, want %d", limit, got, want)
		}
	}
}

// Each part of `kubeadm init` leaves out what is not its own, and nothing is in two parts.
func TestSkip(t *testing.T) {
	const others = "preflight,wait-control-plane,upload-certs,mark-control-plane,kubelet-finalize,addon,show-join-command"
	for _, test := range []struct {
		phases []string
		want   string
	}{
		{FilesPhases, "kubelet-start,upload-config,bootstrap-token," + others},
		{KubeletPhases, "certs,kubeconfig,etcd,control-plane,upload-config,bootstrap-token," + others},
		{JoinPhases, "certs,kubeconfig,etcd,control-plane,kubelet-start," + others},
	} {
		if got := Skip(test.phases...); got != test.want {
			t.Errorf("%v: got %s, want %s", test.phases, got, test.want)
		}
	}
}

// The files are where the flags and the mounts of the patches say, and fit each other.
func TestWriteServing(t *testing.T) {
	root := t.TempDir()
	if err := WriteServing(root, time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, component := range []string{"kube-controller-manager", "kube-scheduler"} {
		args := servingArgs(component)
		pair, err := tls.LoadX509KeyPair(filepath.Join(root, args[0].Value), filepath.Join(root, args[1].Value))
		if err != nil {
			t.Fatal(err)
		}
		if err := pair.Leaf.VerifyHostname("127.0.0.1"); err != nil {
			t.Error(err)
		}
		if info, err := os.Stat(filepath.Join(root, args[1].Value)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the key of %s: %v, %v", component, info, err)
		}
	}
}

// kubeadm applies patches in the order of their names: a user's after ours, JSON patches after
// merge patches, and none that is for another version.
func TestKubeletPatchesOrder(t *testing.T) {
	wanted := topology.Resolve(v1alpha1.Default())
	in := Input{Topology: wanted, Node: wanted.Nodes[0]}
	in.KubernetesVersion = "v1.99.0"
	in.Node.Patches = topology.Patches{JSON6902: []v1alpha1.JSON6902Patch{
		{Kind: "KubeletConfiguration", Group: "kubelet.config.k8s.io", Patch: "json"},
		{Kind: "KubeletConfiguration", Group: "kubelet.config.k8s.io", Version: "v2", Patch: "other"},
	}}
	want := []string{""} // ours, below
	for i := range 12 {
		text := fmt.Sprintf("kind: KubeletConfiguration\nmaxPods: %d", i)
		in.Node.Patches.Merge = append(in.Node.Patches.Merge, text)
		want = append(want, text)
	}
	in.Node.Patches.Merge = append(in.Node.Patches.Merge, "kind: KubeletConfiguration\napiVersion: kubelet.config.k8s.io/v2")
	want = append(want, "json")
	files, err := Patches(in)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if strings.HasPrefix(name, "kubeletconfiguration") {
			got = append(got, string(files[name]))
		}
	}
	want[0] = string(files["kubeletconfiguration+merge.yaml"])
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func checkGolden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("got\n%s\nwant %s (run with -update if it should be so):\n%s", got, path, want)
	}
}

// A kubelet refuses what needs a feature gate that is off by default.
func TestEarlierReleases(t *testing.T) {
	for version, want := range map[string]bool{"v1.34.4": false, "v1.35.0": true, "v1.37.2": true, "v1.38.0-alpha.1": true} {
		one := topology.Resolve(v1alpha1.Default())
		files, err := Patches(Input{Topology: one, Node: one.Init(), KubernetesVersion: version})
		if err != nil {
			t.Fatal(err)
		}
		if _, have := files["kubeletconfiguration+merge.yaml"]; have != want {
			t.Errorf("%s: crashLoopBackOff is set: %v, want %v", version, have, want)
		}
	}
}
