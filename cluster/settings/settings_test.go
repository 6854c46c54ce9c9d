package settings

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
)

func TestFromEnv(t *testing.T) {
	for _, test := range []struct {
		env     map[string]string
		want    func(v1alpha1.Cluster) bool
		wantErr string
	}{
		{env: nil, want: func(c v1alpha1.Cluster) bool {
			return len(c.Expand()) == 3 && c.Networking.APIServerPort == 0 && time.Duration(c.Start.Timeout) == 5*time.Minute
		}},
		{env: map[string]string{"NODES": "1"}, want: func(c v1alpha1.Cluster) bool { return len(c.Expand()) == 1 }},
		{env: map[string]string{"NODES": " 100 "}, want: func(c v1alpha1.Cluster) bool { return len(c.Expand()) == 100 }},
		{env: map[string]string{"NODES": "0"}, wantErr: `environment variable NODES="0": want a whole number from 1 to 100`},
		{env: map[string]string{"NODES": "200"}, wantErr: `NODES="200"`},
		{env: map[string]string{"NODES": "three"}, wantErr: `NODES="three"`},
		{env: map[string]string{"NODES": "-1"}, wantErr: `NODES="-1"`},
		{env: map[string]string{"API_PORT": "0"}, wantErr: `API_PORT="0": want a whole number from 1 to 65535`},
		{env: map[string]string{"NODES": "x", "API_PORT": "y"}, wantErr: `API_PORT="y"`},
		{env: map[string]string{"POD_SUBNET": "10.1.2.3/16"}, wantErr: `POD_SUBNET`},
		{env: map[string]string{"POD_SUBNET": "fd00::/48"}, wantErr: `POD_SUBNET`},
		{env: map[string]string{"POD_SUBNET": "10.20.0.0/24"}, wantErr: `POD_SUBNET`},
		{env: map[string]string{"IP_FAMILY": "dual"}, want: func(c v1alpha1.Cluster) bool {
			return len(c.Networking.Subnets()) == 8 && c.Networking.PodSubnet.String() == "10.244.0.0/16,fd00:10:244::/56"
		}},
		{env: map[string]string{"IP_FAMILY": "dual", "POD_SUBNET": "fd00:1::/48, 10.20.0.0/16"}, wantErr: `networking.podSubnet: fd00:1::/48,10.20.0.0/16: the order of networking.nodeSubnet is another one, 10.250.0.0/24,fd00:10:250::/64`},
		{env: map[string]string{"IP_FAMILY": "ipv6", "NODE_SUBNET": "fd00:1::/64"}, want: func(c v1alpha1.Cluster) bool {
			return c.Networking.NodeSubnet.String() == "fd00:1::/64,10.250.0.0/24"
		}},
		{env: map[string]string{"IP_FAMILY": "ipv6", "POD_SUBNET": "10.20.0.0/16"}, wantErr: `networking.podSubnet: 10.20.0.0/16: networking.ipFamily is ipv6: want an IPv6 subnet, such as fd00:10:244::/56 (environment variables IP_FAMILY and POD_SUBNET)`},
		{env: map[string]string{"IP_FAMILY": "IPv6"}, wantErr: `IP_FAMILY="IPv6": want ipv4 or ipv6 or dual`},
		{env: map[string]string{"POD_SUBNET": "10.96.0.0/16"}, wantErr: `networking.serviceSubnet: 10.96.0.0/16 overlaps networking.podSubnet 10.96.0.0/16: give each its own addresses (environment variables POD_SUBNET and SERVICE_SUBNET)`},
		{env: map[string]string{"KUBE_PROXY_MODE": "ipvs"}, want: func(c v1alpha1.Cluster) bool { return c.Networking.KubeProxyMode == "ipvs" }},
		{env: map[string]string{"KUBE_PROXY_MODE": "userspace"}, wantErr: `KUBE_PROXY_MODE="userspace": want iptables or nftables or ipvs or none`},
		{env: map[string]string{"POD_NETWORK": "ptp"}, want: func(c v1alpha1.Cluster) bool { return c.Networking.PodNetwork == v1alpha1.PodNetworkPTP }},
		{env: map[string]string{"POD_NETWORK": "bridge"}, wantErr: `POD_NETWORK="bridge": want ptp or none`},
		{env: map[string]string{"NOFILE": "65536"}, want: func(c v1alpha1.Cluster) bool { return c.OpenFiles == 65536 }},
		{env: map[string]string{"NOFILE": "2000000"}, wantErr: `NOFILE="2000000": want a whole number from 256 to 1048576`},
		{env: map[string]string{"TIMEOUT": "fast"}, wantErr: `TIMEOUT="fast"`},
		{env: map[string]string{"ETCD_SYNC": ""}, want: func(c v1alpha1.Cluster) bool { return c.Etcd.Sync }},
		{env: map[string]string{"ETCD_SYNC": "off"}, want: func(c v1alpha1.Cluster) bool { return !c.Etcd.Sync }},
		{env: map[string]string{"ETCD_SYNC": "no"}, wantErr: `ETCD_SYNC="no": want on or off`},
		{env: map[string]string{"HEALTH": "api"}, want: func(c v1alpha1.Cluster) bool { return c.Health == v1alpha1.HealthAPI }},
		{env: map[string]string{"HEALTH": "all"}, wantErr: `HEALTH="all": want nodes or api`},
		{env: map[string]string{"ON_FAILURE": "keep"}, want: func(c v1alpha1.Cluster) bool { return c.Start.OnFailure == v1alpha1.OnFailureKeep }},
		{env: map[string]string{"API_SANS": "ci.example.org, 10.0.0.7"}, want: func(c v1alpha1.Cluster) bool {
			return len(c.Networking.APIServerSANs) == 2 && c.Networking.APIServerSANs[1] == "10.0.0.7"
		}},
		{env: map[string]string{"SERVICE_SUBNET": "10.96.0.0/12"}, want: func(c v1alpha1.Cluster) bool { return c.Networking.ServiceSubnet[0].Bits() == 12 }},
		// kubeadm would refuse it, when the control plane starts.
		{env: map[string]string{"SERVICE_SUBNET": "10.64.0.0/11"}, wantErr: `SERVICE_SUBNET="10.64.0.0/11": want an IPv4 subnet of /12 to /24`},
		{env: map[string]string{"SERVICE_SUBNET": "10.96.0.0/25"}, wantErr: `SERVICE_SUBNET`},
		{env: map[string]string{"NODE_SUBNET": "10.1.2.3/24"}, wantErr: `the subnet with this address is 10.1.2.0/24`},
		{env: map[string]string{"NODE_SUBNET": "127.0.0.0/16"}, wantErr: `NODE_SUBNET="127.0.0.0/16": has loopback addresses (127.0.0.0/8)`},
		{env: map[string]string{"NODE_SUBNET": "224.0.0.0/8"}, wantErr: `multicast`},
		{env: map[string]string{"POD_SUBNET": "0.0.0.0/8"}, wantErr: `"this network"`},
		{env: map[string]string{"POD_SUBNET": "169.254.0.0/16"}, wantErr: `POD_SUBNET="169.254.0.0/16": has link-local addresses`},
		{env: map[string]string{"SERVICE_SUBNET": "169.254.7.0/24"}, wantErr: `link-local`},
		{env: map[string]string{"SERVICE_SUBNET": "240.1.0.0/16"}, wantErr: `reserved`},
		// All mistakes at once, and none that follows only from another.
		{env: map[string]string{"NODE_SUBNET": "10.96.1.0/24", "POD_SUBNET": "10.96.0.0/33", "TIMEOUT": "x"}, wantErr: "networking.serviceSubnet: 10.96.0.0/16 overlaps networking.nodeSubnet 10.96.1.0/24"},
		{env: map[string]string{"NODE_SUBNET": "10.96.1.0/24", "POD_SUBNET": "10.96.0.0/33", "TIMEOUT": "x"}, wantErr: `TIMEOUT="x"`},
		{env: map[string]string{"API_SANS": "fd00::1"}, want: func(c v1alpha1.Cluster) bool { return len(c.Networking.APIServerSANs) == 1 }},
		{env: map[string]string{"API_SANS": "fe80::1%eth0"}, wantErr: `"fe80::1%eth0" is neither a DNS name nor an IP address`},
		{env: map[string]string{"API_SANS": "fe80::1%a\nNODES=7"}, wantErr: `neither a DNS name nor an IP address`},
		{env: map[string]string{"API_SANS": "a.b\nNODES=7"}, wantErr: `neither a DNS name nor an IP address`},
		{env: map[string]string{"API_SANS": "a b"}, wantErr: `"a b" is neither a DNS name nor an IP address`},
	} {
		c, err := FromEnv(v1alpha1.Default(), func(k string) string { return test.env[k] })
		switch {
		case test.wantErr != "":
			if err == nil || !strings.Contains(err.Error(), test.wantErr) {
				t.Errorf("%v: got error %v, want one that says %q", test.env, err, test.wantErr)
			}
		case err != nil:
			t.Errorf("%v: %v", test.env, err)
		case !test.want(c):
			t.Errorf("%v: got %+v", test.env, c)
		}
	}
}

// The reference says what the parser takes.
func TestAll(t *testing.T) {
	for _, s := range All() {
		env := func(value string) func(string) string {
			return func(name string) string {
				if name == s.Name {
					return value
				}
				return ""
			}
		}
		if _, err := FromEnv(v1alpha1.Default(), env("?")); err == nil || !strings.Contains(err.Error(), ": want "+s.Values) {
			t.Errorf("%s: the reference has %q, and the error is %v", s.Name, s.Values, err)
		}
		want := v1alpha1.Default()
		if s.Name == "API_PORT" { // said, or not said
			want.Networking.APIServerPort = v1alpha1.APIServerPort
		}
		if c, err := FromEnv(v1alpha1.Default(), env(s.Default)); err != nil || !reflect.DeepEqual(c, want) {
			t.Errorf("%s=%s is not the default: %+v, %v", s.Name, s.Default, c, err)
		}
		if s.Doc == "" {
			t.Errorf("%s has no text", s.Name)
		}
	}
}

func TestReadUnknown(t *testing.T) {
	const settings = "there are NODES, API_PORT, API_SANS,"
	for name, want := range map[string]string{
		"NODE":               "did you mean NODES?",
		"nodes":              "did you mean NODES?",
		"NODSE":              "did you mean NODES?",
		"API_PROT":           "did you mean API_PORT?",
		"API_SAN":            "did you mean API_SANS?",
		"PODSUBNET":          "did you mean POD_SUBNET?",
		"POD-SUBNET":         "did you mean POD_SUBNET?",
		"PODS_SUBNET":        "did you mean POD_SUBNET?",
		"SERVICES_SUBNTE":    "did you mean SERVICE_SUBNET?",
		"ETCD_SYNCH":         "did you mean ETCD_SYNC?",
		"TIME_OUT":           "did you mean TIMEOUT?",
		"FEATURE_GATES":      settings,
		"CLUSTER_DNS_K8S":    settings,
		"RUNTIME_CONFIG":     settings,
		"POD_CIDR":           settings,
		"WORKERS":            settings,
		"CONTROL_PLANES":     settings,
		"K8S_VERSION":        settings,
		"KUBELET_EXTRA_ARGS": settings,
	} {
		_, err := Read(v1alpha1.Default(), "/nonexistent", []string{"PATH=/bin", name + "=1"})
		if err == nil || !strings.Contains(err.Error(), "environment variable "+name+" is not a setting of the cluster: "+want) {
			t.Errorf("%s: got %v, want %q", name, err, want)
		}
	}
	// What images, Docker, Kubernetes, CI systems and people have there for other reasons.
	for _, name := range []string{
		"PATH", "HOME", "HOSTNAME", "TERM", "container", "LANG", "TZ", "DEBUG", "PORT", "MODE", "MODES_OF_X", "APP_PORT", "NODE_ENV", "NODE_VERSION",
		"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "NO_PROXY", "no_proxy", "ALL_PROXY", "FTP_PROXY",
		"KUBECONFIG", "KUBERNETES_PORT", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT_HTTPS", "KUBE_NAMESPACE", "KUBE_INGRESS_BASE_DOMAIN",
		"POD_NAME", "POD_NAMESPACE", "NODE_NAME", "SERVICE_NAME", "API_URL", "API_TOKEN", "API_KEY", "API_VERSION", "CI", "CI_NODE_INDEX", "CI_NODE_TOTAL", "GITHUB_TOKEN",
		"DOCKER_HOST", "DOCKER_TLS_CERTDIR", "GIT_SUBMODULE_STRATEGY", "BUILD_ID", "VERSION", "SYNC", "CLUSTER_NAME", "",
	} {
		if _, err := Read(v1alpha1.Default(), "/nonexistent", []string{name + "=1"}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// All mistakes at once.
	_, err := Read(v1alpha1.Default(), "/nonexistent", []string{"NODES=x", "NODE=1", "FEATURE_GATES=A=true"})
	for _, want := range []string{`NODES="x"`, "NODE is not", "FEATURE_GATES is not"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
	if c, err := Read(v1alpha1.Default(), "/nonexistent", []string{"NODES=2", "PATH=/bin", "ETCD_SYNC=off"}); err != nil || len(c.Expand()) != 2 || c.Etcd.Sync {
		t.Errorf("got %+v, %v", c, err)
	}
}

// What a variable shows is what it takes.
func TestEnvRoundTrip(t *testing.T) {
	env := map[string]string{"NODES": "7", "API_PORT": "40000", "API_SANS": "a.b,1.2.3.4", "NODE_SUBNET": "10.9.0.0/24", "POD_SUBNET": "10.10.0.0/16", "SERVICE_SUBNET": "10.11.0.0/16", "IP_FAMILY": "ipv4", "LOAD_BALANCER_SUBNETS": "10.12.0.0/24,10.13.0.0/24", "KUBE_PROXY_MODE": "nftables", "TIMEOUT": "1m30s", "ON_FAILURE": "keep", "POD_NETWORK": "none", "ETCD_SYNC": "off", "NOFILE": "4096", "FRESH_KEYS": "on", "HEALTH": "api"}
	c, err := FromEnv(v1alpha1.Default(), func(k string) string { return env[k] })
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range variables {
		if got := v.get(c); got != env[v.name] {
			t.Errorf("%s: got %q, want %q", v.name, got, env[v.name])
		}
		if v.values == "" || v.doc == "" || v.field == "" {
			t.Errorf("%s lacks a text", v.name)
		}
	}
}

// The environment has the last word, and both say all that is wrong.
func TestFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.yaml")
	write := func(text string) {
		if err := os.WriteFile(file, []byte("apiVersion: dind-cluster.github.io/v1alpha1\nkind: Cluster\n"+text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("networking: {podSubnet: 10.32.0.0/16, kubeProxyMode: nftables}")
	c, err := Read(v1alpha1.Default(), file, []string{"POD_SUBNET=10.48.0.0/16"})
	if err != nil || c.Networking.PodSubnet.String() != "10.48.0.0/16" || c.Networking.KubeProxyMode != "nftables" || len(c.Expand()) != 3 {
		t.Errorf("got %+v, %v", c, err)
	}
	write("health: good")
	_, err = Read(v1alpha1.Default(), file, []string{"NODES=x", "NODE=3"})
	for _, want := range []string{file + `: line 3: health: "good": want nodes or api`, `NODES="x"`, "did you mean NODES?"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// A directory in place of the file is what Docker makes of a path that the host does not have.
func TestReadDirectory(t *testing.T) {
	dir := t.TempDir()
	if _, err := Read(v1alpha1.Default(), dir, nil); err == nil || !strings.Contains(err.Error(), dir+" is a directory, as Docker makes one") {
		t.Errorf("got %v", err)
	}
}

func FuzzFromEnv(f *testing.F) {
	f.Add("3", "10.0.0.0/16", "a.b")
	f.Add("3", "10.0.0.0/16", "fe80::1%a\nb")
	f.Fuzz(func(t *testing.T, nodes, subnet, sans string) {
		env := map[string]string{"NODES": nodes, "POD_SUBNET": subnet, "API_SANS": sans}
		c, err := FromEnv(v1alpha1.Default(), func(k string) string { return env[k] })
		if err != nil {
			return
		}
		// What a variable shows is what it takes.
		shown := map[string]string{}
		for _, v := range variables {
			shown[v.name] = v.get(c)
		}
		again, err := FromEnv(v1alpha1.Default(), func(k string) string { return shown[k] })
		if differences, _ := Differences(c, again); err != nil || !slices.Equal(differences, []string{"networking.apiServerPort: nothing (not 6443)"}) {
			t.Errorf("%v is shown as %v and read with %v, %v", env, shown, differences, err)
		}
	})
}

func TestDifferences(t *testing.T) {
	have, want := v1alpha1.Default(), v1alpha1.Default()
	if got, err := Differences(have, want); err != nil || len(got) != 0 {
		t.Errorf("got %q, %v", got, err)
	}
	want.Nodes = v1alpha1.Workers(4)
	want.FeatureGates = map[string]bool{"A": true}
	have.Nodes[0].Taints = []v1alpha1.Taint{}
	got, err := Differences(have, want)
	if text := strings.Join(got, "; "); err != nil || text != "featureGates.A: nothing (not true); nodes[0].taints: [] (not nothing); nodes[1].count: 2 (not 4)" {
		t.Errorf("got %q, %v", text, err)
	}
}
