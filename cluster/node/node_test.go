package node

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/cluster/topology"
	"github.com/dind-cluster/dind-cluster/internal/kubeconfig"
	"github.com/dind-cluster/dind-cluster/internal/pki"
)

func testConfig(slot int) Config {
	wanted := topology.Resolve(v1alpha1.Default())
	return Config{Topology: wanted, Node: wanted.Nodes[slot], Timeout: time.Minute, MTU: 1500, CA: pki.Pair{Cert: []byte("cert"), Key: []byte("key")}}
}

func TestConfigRoundTrip(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "node")
	want := testConfig(1)
	if err := want.Write(dir); err != nil {
		t.Fatal(err)
	}
	got, err := ReadConfig(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	info, err := os.Stat(filepath.Join(dir, configFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file with the cluster's secrets has mode %v (%v)", info.Mode(), err)
	}
	if _, err := ReadConfig(t.TempDir()); err == nil || !strings.Contains(err.Error(), "not by hand") {
		t.Errorf("got %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, configFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadConfig(dir); err == nil {
		t.Error("no error for broken JSON")
	}
}

func FuzzConfig(f *testing.F) {
	data, _ := json.Marshal(testConfig(0))
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, configFile), data, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := ReadConfig(dir)
		if err != nil {
			return
		}
		if err := c.Write(dir); err != nil {
			t.Fatal(err)
		}
		if again, err := ReadConfig(dir); err != nil || !reflect.DeepEqual(again, c) {
			t.Errorf("written: %+v, read: %+v, %v", c, again, err)
		}
	})
}

func TestRoutes(t *testing.T) {
	got := string(routes(testConfig(1)))
	lines := strings.Split(strings.TrimSpace(got), "\n")
	if len(lines) != v1alpha1.MaxNodes-1 {
		t.Errorf("%d routes, want one to every other node there can be", len(lines))
	}
	for _, want := range []string{"route replace 10.244.0.0/24 via 10.250.0.2\n", "route replace 10.244.99.0/24 via 10.250.0.101\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q", want)
		}
	}
	if strings.Contains(got, "10.244.1.0/24") {
		t.Error("a route to the node's own pods")
	}
}

func TestRules(t *testing.T) {
	c := testConfig(0)
	got := rules(c, false)
	for _, want := range []string{"-A POSTROUTING -s 10.244.0.0/16 ! -d 10.244.0.0/16 -j MASQUERADE\nCOMMIT\n", "-A FORWARD -d 10.96.0.0/16 -j REJECT\n"} {
		if !bytes.Contains(got, []byte(want)) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	for _, chain := range []string{"PREROUTING", "OUTPUT"} {
		if want := "-A " + chain + " -d 10.96.0.1 -p tcp --dport 443 -j DNAT --to-destination 10.250.0.2:6443\n"; !bytes.Contains(got, []byte(want)) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	c.Topology.Networks.PodNetwork = v1alpha1.PodNetworkNone
	if got := rules(c, false); bytes.Contains(got, []byte("MASQUERADE")) {
		t.Errorf("masquerading without our pod network:\n%s", got)
	}
}

// The packet filter has the same for each IP family of the cluster, but for the service kubernetes,
// which has one address.
func TestRulesOfFamilies(t *testing.T) {
	s := v1alpha1.Default()
	s.Networking.SetIPFamily(v1alpha1.Dual)
	dual := topology.Resolve(s)
	s.Networking.SetIPFamily(v1alpha1.IPv6)
	six := topology.Resolve(s)
	const to6 = "-d fd00:10:96::1 -p tcp --dport 443 -j DNAT --to-destination [fd00:10:250::2]:6443\n"
	for _, test := range []struct {
		name     string
		topology topology.Topology
		ipv6     bool
		has, not []string
	}{
		{"dual, IPv4", dual, false, []string{"-A FORWARD -d 10.96.0.0/16 -j REJECT\n", "DNAT --to-destination 10.250.0.2:6443\n", "-s 10.244.0.0/16 ! -d 10.244.0.0/16 -j MASQ"}, []string{"fd00"}},
		{"dual, IPv6", dual, true, []string{"-A OUTPUT -d fd00:10:96::/112 -p tcp -j REJECT --reject-with tcp-reset\n", "-s fd00:10:244::/56 ! -d fd00:10:244::/56 -j MASQ"}, []string{"DNAT", "10.250"}},
		{"IPv6", six, true, []string{"-A PREROUTING " + to6, "-A OUTPUT " + to6, "-A FORWARD -d fd00:10:96::/112 -j REJECT\n"}, nil},
	} {
		got := string(rules(Config{Topology: test.topology, Node: test.topology.Nodes[0]}, test.ipv6))
		for _, want := range test.has {
			if !strings.Contains(got, want) {
				t.Errorf("%s: no %q in\n%s", test.name, want, got)
			}
		}
		for _, not := range test.not {
			if strings.Contains(got, not) {
				t.Errorf("%s: %q in\n%s", test.name, not, got)
			}
		}
	}
	if got := rules(Config{Topology: six, Node: six.Nodes[0]}, false); got != nil {
		t.Errorf("an IPv6 cluster has IPv4 rules:\n%s", got)
	}
	// Without kube-proxy, only what comes from other machines is refused.
	dual.ProxyMode = v1alpha1.KubeProxyNone
	got := string(rules(Config{Topology: dual, Node: dual.Nodes[0]}, false))
	if strings.Contains(got, "-A OUTPUT -d 10.96.0.0/16") || strings.Count(got, "REJECT") != 4 || !strings.Contains(got, "-A FORWARD -i eth0 -d 10.96.0.0/16 -j REJECT\n") {
		t.Errorf("without kube-proxy:\n%s", got)
	}
}

func TestResolvConf(t *testing.T) {
	s := v1alpha1.Default()
	s.Networking.SetIPFamily(v1alpha1.IPv6)
	n := topology.Resolve(s).Networks
	if got := string(resolvConf(n)); got != "nameserver fd00:10:250::1\n" {
		t.Errorf("got %q", got)
	}
	n.Search = []string{"a.example", "b.example"}
	if got := string(resolvConf(n)); got != "nameserver fd00:10:250::1\nsearch a.example b.example\n" {
		t.Errorf("got %q", got)
	}
}

func TestKernelSettings(t *testing.T) {
	if got := kernelSettings(false); len(got) != 3 {
		t.Errorf("without IPv6: %v", got)
	}
	if got := kernelSettings(true); got["net/ipv6/conf/all/forwarding"] != "1" || got["net/ipv6/conf/all/disable_ipv6"] != "0" || got["net/ipv4/ip_forward"] != "1" {
		t.Errorf("got %v", got)
	}
}

func TestKubeletIdentity(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	ca, err := pki.NewCA("kubernetes", now)
	if err != nil {
		t.Fatal(err)
	}
	c := testConfig(1)
	c.CA = pki.Pair{Cert: ca.Cert}
	kubelet, err := ca.NewClient("system:node:worker1", []string{"system:nodes"}, now)
	if err != nil {
		t.Fatal(err)
	}
	c.Kubelet = *kubelet
	dir := t.TempDir()
	path := filepath.Join(dir, "kubelet.conf")
	// A second time, as after a start that was interrupted, works too.
	for range 2 {
		if err := writeKubeletIdentity(c, filepath.Join(dir, "pki"), path, now); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	config, err := kubeconfig.Parse(data)
	current := filepath.Join(dir, "pki", "kubelet-client-current.pem")
	if err != nil || config.CertFile != current || config.KeyFile != current || len(config.Cert) > 0 || config.Server != "https://10.250.0.2:6443" {
		t.Errorf("got %+v, %v", config, err)
	}
	// What the kubelet reads: one file with both, a link to the one with the date.
	pair, err := tls.LoadX509KeyPair(current, current)
	if err != nil {
		t.Fatal(err)
	}
	if subject := pair.Leaf.Subject; subject.CommonName != "system:node:worker1" || subject.Organization[0] != "system:nodes" {
		t.Errorf("got %v", subject)
	}
	info, err := os.Stat(current)
	if target, _ := os.Readlink(current); err != nil || info.Mode().Perm() != 0o600 || filepath.Base(target) != "kubelet-client-2026-01-02-03-04-05.pem" {
		t.Errorf("got %s, %v, %v", target, info.Mode(), err)
	}
}

func TestKubeletServing(t *testing.T) {
	authority, err := pki.NewCA("kubernetes", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	c := testConfig(2)
	serving, err := authority.NewServer(c.Node.Name, []net.IP{c.Node.IPs[0].AsSlice()}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	c.Serving = *serving
	dir := filepath.Join(t.TempDir(), "pki")
	if err := writeKubeletServing(c, dir); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "kubelet.crt"), filepath.Join(dir, "kubelet.key"))
	if err != nil {
		t.Fatal(err)
	}
	// As metrics-server looks at it.
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority.Cert)
	for _, name := range []string{"worker2", "10.250.0.4"} {
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name}); err != nil {
			t.Error(err)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "kubelet.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v", info, err)
	}
}

func TestRunErrors(t *testing.T) {
	var log bytes.Buffer
	n := &node{out: &log}
	err := n.run(t.Context(), strings.NewReader("in"), "sh", "-c", "cat; for i in $(seq 20); do echo line $i; done; exit 4")
	if err == nil || !strings.Contains(err.Error(), "exit status 4:\nline 11\n") || !strings.HasSuffix(err.Error(), "line 20") {
		t.Errorf("got %v", err)
	}
	if !strings.HasPrefix(log.String(), "inline 1\n") {
		t.Errorf("log is %q", &log)
	}
}
