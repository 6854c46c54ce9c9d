package plan

import (
	"bufio"
	"strings"
	"testing"
	"time"
)

func TestNodes(t *testing.T) {
	c := Default()
	c.Nodes = MaxNodes
	nodes := c.All()
	for _, test := range []struct {
		index          int
		name, ip, cidr string
		role           Role
	}{
		{0, "control-plane", "10.250.0.2", "10.244.0.0/24", ControlPlane},
		{1, "worker1", "10.250.0.3", "10.244.1.0/24", Worker},
		{99, "worker99", "10.250.0.101", "10.244.99.0/24", Worker},
	} {
		n := nodes[test.index]
		if n.Name != test.name || n.IP.String() != test.ip || n.PodCIDR.String() != test.cidr || n.Role != test.role {
			t.Errorf("node %d: got %+v, want %+v", test.index, n, test)
		}
	}
	if got := c.APIServer().String(); got != "10.250.0.2:6443" {
		t.Errorf("API server at %s", got)
	}
	if got := c.Gateway().String() + " " + c.KubernetesService().String() + " " + c.DNSService().String(); got != "10.250.0.1 10.96.0.1 10.96.0.10" {
		t.Errorf("got %s", got)
	}
}

func TestFromEnv(t *testing.T) {
	for _, test := range []struct {
		env     map[string]string
		want    func(Cluster) bool
		wantErr string
	}{
		{env: nil, want: func(c Cluster) bool { return c.Nodes == 3 && c.APIPort == 6443 && c.Timeout == 5*time.Minute }},
		{env: map[string]string{"NODES": "1"}, want: func(c Cluster) bool { return c.Nodes == 1 }},
		{env: map[string]string{"NODES": " 100 "}, want: func(c Cluster) bool { return c.Nodes == 100 }},
		{env: map[string]string{"NODES": "0"}, wantErr: `environment variable NODES="0": want a whole number from 1 to 100`},
		{env: map[string]string{"NODES": "200"}, wantErr: `NODES="200"`},
		{env: map[string]string{"NODES": "three"}, wantErr: `NODES="three"`},
		{env: map[string]string{"NODES": "-1"}, wantErr: `NODES="-1"`},
		{env: map[string]string{"API_PORT": "0"}, wantErr: `API_PORT="0": want a whole number from 1 to 65535`},
		{env: map[string]string{"NODES": "x", "API_PORT": "y"}, wantErr: `API_PORT="y"`},
		{env: map[string]string{"POD_SUBNET": "10.1.2.3/16"}, wantErr: `POD_SUBNET`},
		{env: map[string]string{"POD_SUBNET": "fd00::/48"}, wantErr: `POD_SUBNET`},
		{env: map[string]string{"POD_SUBNET": "10.20.0.0/24"}, wantErr: `POD_SUBNET`},
		{env: map[string]string{"POD_SUBNET": "10.96.0.0/16"}, wantErr: `POD_SUBNET=10.96.0.0/16 and SERVICE_SUBNET=10.96.0.0/16 overlap`},
		{env: map[string]string{"KUBE_PROXY_MODE": "ipvs"}, wantErr: `KUBE_PROXY_MODE="ipvs": want iptables or nftables`},
		{env: map[string]string{"TIMEOUT": "fast"}, wantErr: `TIMEOUT="fast"`},
		{env: map[string]string{"ETCD_SYNC": ""}, want: func(c Cluster) bool { return c.EtcdSync }},
		{env: map[string]string{"ETCD_SYNC": "off"}, want: func(c Cluster) bool { return !c.EtcdSync }},
		{env: map[string]string{"ETCD_SYNC": "no"}, wantErr: `ETCD_SYNC="no": want on or off`},
		{env: map[string]string{"HEALTH": "api"}, want: func(c Cluster) bool { return c.Health == HealthAPI }},
		{env: map[string]string{"HEALTH": "all"}, wantErr: `HEALTH="all": want nodes or api`},
		{env: map[string]string{"ON_FAILURE": "keep"}, want: func(c Cluster) bool { return c.KeepOnFailure }},
		{env: map[string]string{"API_SANS": "ci.example.org, 10.0.0.7"}, want: func(c Cluster) bool { return len(c.APISANs) == 2 && c.APISANs[1] == "10.0.0.7" }},
		{env: map[string]string{"API_SANS": "a b"}, wantErr: `"a b" is neither a DNS name nor an IP address`},
	} {
		c, err := FromEnv(func(k string) string { return test.env[k] })
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

// What the entrypoint writes for the unit is what the unit's process reads.
func TestEnvRoundTrip(t *testing.T) {
	env := map[string]string{"NODES": "7", "API_PORT": "40000", "API_SANS": "a.b,1.2.3.4", "NODE_SUBNET": "10.9.0.0/24", "TIMEOUT": "90s", "ON_FAILURE": "keep", "POD_NETWORK": "none", "ETCD_SYNC": "off", "HEALTH": "api"}
	c, err := FromEnv(func(k string) string { return env[k] })
	if err != nil {
		t.Fatal(err)
	}
	again := map[string]string{}
	for s := bufio.NewScanner(strings.NewReader(c.Env())); s.Scan(); {
		k, v, _ := strings.Cut(s.Text(), "=")
		again[k] = v
	}
	c2, err := FromEnv(func(k string) string { return again[k] })
	if err != nil {
		t.Fatal(err)
	}
	if c2.Env() != c.Env() {
		t.Errorf("got\n%s\nwant\n%s", c2.Env(), c.Env())
	}
}

func FuzzFromEnv(f *testing.F) {
	f.Add("3", "10.0.0.0/16", "a.b")
	f.Fuzz(func(t *testing.T, nodes, subnet, sans string) {
		env := map[string]string{"NODES": nodes, "POD_SUBNET": subnet, "API_SANS": sans}
		c, err := FromEnv(func(k string) string { return env[k] })
		if err == nil && (c.Nodes < 1 || c.Nodes > MaxNodes || strings.Count(c.Env(), "\n") != len(variables)) {
			t.Errorf("%v accepted as %+v", env, c)
		}
	})
}
