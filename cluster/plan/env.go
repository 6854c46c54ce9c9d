package plan

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// variable is one environment variable of the top-level container.
type variable struct {
	name string
	// values are those that set takes, as its errors have them after "want"; doc is a sentence for the
	// reference, in Markdown.
	values, doc string
	set         func(*Cluster, string) error
	get         func(Cluster) string
}

// Setting describes one environment variable of the top-level container, for docs/settings.md.
type Setting struct {
	Name    string
	Default string // as FromEnv takes it; may be empty
	Values  string
	Doc     string
}

// Settings returns all settings, in the order of the reference.
func Settings() []Setting {
	var all []Setting
	for _, v := range variables {
		all = append(all, Setting{
			Name: v.name, Default: v.get(Default()), Values: v.values, Doc: v.doc,
		})
	}
	return all
}

// variables are all that a user may set with `docker run --env`.
var variables = []variable{{
	name:   "NODES",
	values: fmt.Sprintf("a whole number from 1 to %d", MaxNodes),
	doc:    "one control plane, the rest workers; `1` is one node that runs everything",
	set: func(c *Cluster, s string) (err error) {
		c.Nodes, err = number(s, 1, MaxNodes)
		return err
	},
	get: func(c Cluster) string { return strconv.Itoa(c.Nodes) },
}, {
	name:   "API_PORT",
	values: "a whole number from 1 to 65535",
	doc:    "the Docker host's port of the API server, for the kubeconfig that `docker exec NAME kubeconfig` prints",
	set: func(c *Cluster, s string) (err error) {
		c.APIPort, err = number(s, 1, 65535)
		return err
	},
	get: func(c Cluster) string { return strconv.Itoa(c.APIPort) },
}, {
	name:   "API_SANS",
	values: "DNS names and IP addresses, with commas between",
	doc:    "further names and addresses for the API server's certificate",
	set: func(c *Cluster, s string) (err error) {
		c.APISANs, err = names(s)
		return err
	},
	get: func(c Cluster) string { return strings.Join(c.APISANs, ",") },
}, {
	name:   "NODE_SUBNET",
	values: "an IPv4 subnet of /8 to /24",
	doc:    "the nodes' addresses",
	set: func(c *Cluster, s string) (err error) {
		c.NodeSubnet, err = prefix(s, 8, 24)
		return err
	},
	get: func(c Cluster) string { return c.NodeSubnet.String() },
}, {
	name:   "POD_SUBNET",
	values: "an IPv4 subnet of /8 to /16",
	doc:    "the pods' addresses",
	set: func(c *Cluster, s string) (err error) {
		c.PodSubnet, err = prefix(s, 8, 16)
		return err
	},
	get: func(c Cluster) string { return c.PodSubnet.String() },
}, {
	name:   "SERVICE_SUBNET",
	values: "an IPv4 subnet of /12 to /24",
	doc:    "the services' addresses",
	set: func(c *Cluster, s string) (err error) {
		// kubeadm takes at most 2^20 addresses (MaximumBitsForServiceSubnet in cmd/kubeadm/app/constants).
		c.ServiceSubnet, err = prefix(s, 12, 24)
		return err
	},
	get: func(c Cluster) string { return c.ServiceSubnet.String() },
}, {
	name:   "KUBE_PROXY_MODE",
	values: "iptables or nftables",
	doc:    "kube-proxy's mode",
	set: func(c *Cluster, s string) (err error) {
		c.ProxyMode, err = oneOf(s, "iptables", "nftables")
		return err
	},
	get: func(c Cluster) string { return c.ProxyMode },
}, {
	name:   "POD_NETWORK",
	values: PodNetworkPTP + " or none",
	doc:    "`none` installs no pod network: bring your own CNI plugin",
	set: func(c *Cluster, s string) (err error) {
		c.PodNetwork, err = oneOf(s, PodNetworkPTP, "none")
		return err
	},
	get: func(c Cluster) string { return c.PodNetwork },
}, {
	name:   "ETCD_SYNC",
	values: "on or off",
	doc:    "`off`: etcd does not wait for the disk. A cluster starts sooner, most of all on a slow disk, and is lost if the machine goes down",
	set: func(c *Cluster, s string) error {
		v, err := oneOf(s, "on", "off")
		c.EtcdSync = v != "off"
		return err
	},
	get: func(c Cluster) string {
		if c.EtcdSync {
			return "on"
		}
		return "off"
	},
}, {
	name:   "NOFILE",
	values: "a whole number from 256 to 1048576",
	doc:    "how many files a process in a pod may have open; it may raise its own limit up to 524288. Both are what systemd gives containerd by default",
	set: func(c *Cluster, s string) (err error) {
		// The least is what POSIX programs count on, the most what the kernel has for fs.nr_open.
		c.NoFile, err = number(s, 256, 1<<20)
		return err
	},
	get: func(c Cluster) string { return strconv.Itoa(c.NoFile) },
}, {
	name:   "TIMEOUT",
	values: fmt.Sprintf("a duration from %s to %s", MinTimeout, MaxTimeout),
	doc:    "how long the cluster may take to start, such as `90s` or `5m`",
	set: func(c *Cluster, s string) (err error) {
		c.Timeout, err = duration(s, MinTimeout, MaxTimeout)
		return err
	},
	get: func(c Cluster) string { return c.Timeout.String() },
}, {
	name:   "ON_FAILURE",
	values: "exit or keep",
	doc:    "`keep` leaves a cluster that did not start, to be looked at",
	set: func(c *Cluster, s string) error {
		v, err := oneOf(s, "exit", "keep")
		c.KeepOnFailure = v == "keep"
		return err
	},
	get: func(c Cluster) string {
		if c.KeepOnFailure {
			return "keep"
		}
		return "exit"
	},
}, {
	name:   "HEALTH",
	values: HealthNodes + " or " + HealthAPI,
	doc:    "what counts for the container's health: the API server and all nodes, or the API server alone",
	set: func(c *Cluster, s string) (err error) {
		c.Health, err = oneOf(s, HealthNodes, HealthAPI)
		return err
	},
	get: func(c Cluster) string { return c.Health },
}}

// FromEnv reads a plan from environment variables. An unset or empty variable leaves the default. The error names
// every variable that is wrong, what it says and what it may say.
func FromEnv(getenv func(string) string) (Cluster, error) {
	c := Default()
	var errs []error
	wrong := map[string]bool{}
	for _, v := range variables {
		value := strings.TrimSpace(getenv(v.name))
		if value == "" {
			continue
		}
		if err := v.set(&c, value); err != nil {
			errs = append(errs, fmt.Errorf("environment variable %s=%q: %w", v.name, value, err))
			wrong[v.name] = true
		}
	}
	errs = append(errs, c.checkOverlaps(wrong)...)
	if err := errors.Join(errs...); err != nil {
		return Cluster{}, err
	}
	return c, nil
}

// Env writes the plan as environment variables, one per line, for a systemd unit.
func (c Cluster) Env() string {
	var b strings.Builder
	for _, v := range variables {
		fmt.Fprintf(&b, "%s=%s\n", v.name, v.get(c))
	}
	return b.String()
}

// Subnet is one of a cluster's subnets with the variable that sets it.
type Subnet struct {
	Variable string
	Prefix   netip.Prefix
}

// Subnets returns the cluster's subnets.
func (c Cluster) Subnets() []Subnet {
	return []Subnet{{"NODE_SUBNET", c.NodeSubnet}, {"POD_SUBNET", c.PodSubnet}, {"SERVICE_SUBNET", c.ServiceSubnet}}
}

// checkOverlaps compares the subnets, but for those that are wrong by themselves.
func (c Cluster) checkOverlaps(wrong map[string]bool) []error {
	var errs []error
	subnets := c.Subnets()
	for i, a := range subnets {
		for _, b := range subnets[i+1:] {
			if !wrong[a.Variable] && !wrong[b.Variable] && a.Prefix.Overlaps(b.Prefix) {
				errs = append(errs, fmt.Errorf("environment variables %s=%s and %s=%s overlap: give each its own addresses",
					a.Variable, a.Prefix, b.Variable, b.Prefix))
			}
		}
	}
	return errs
}

func number(s string, low, high int) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < low || n > high {
		return 0, fmt.Errorf("want a whole number from %d to %d", low, high)
	}
	return n, nil
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

func prefix(s string, minBits, maxBits int) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil || !p.Addr().Is4() || p.Bits() < minBits || p.Bits() > maxBits {
		return netip.Prefix{}, fmt.Errorf("want an IPv4 subnet of /%d to /%d, such as 10.32.0.0/%d", minBits, maxBits, maxBits)
	}
	if p != p.Masked() {
		return netip.Prefix{}, fmt.Errorf("the subnet with this address is %s: want its first address", p.Masked())
	}
	for _, r := range reserved {
		if p.Overlaps(r.prefix) {
			return netip.Prefix{}, fmt.Errorf("has %s addresses (%s): want others, such as 10.32.0.0/%d", r.what, r.prefix, maxBits)
		}
	}
	return p, nil
}

func oneOf(s string, allowed ...string) (string, error) {
	if !slices.Contains(allowed, s) {
		return "", fmt.Errorf("want %s", strings.Join(allowed, " or "))
	}
	return s, nil
}

func duration(s string, low, high time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d < low || d > high {
		return 0, fmt.Errorf("want a duration from %s to %s, such as 90s or 5m", low, high)
	}
	return d, nil
}

// hostName is what kubeadm accepts in certSANs: a DNS name, perhaps with a wildcard as its first label.
var hostName = regexp.MustCompile(`^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)

func names(s string) ([]string, error) {
	var out []string
	for _, n := range strings.Split(s, ",") {
		n = strings.TrimSpace(n)
		a, err := netip.ParseAddr(n)
		// A zone is any text, and no certificate has one.
		if (err != nil || a.Zone() != "") && (len(n) > 253 || !hostName.MatchString(n)) {
			return nil, fmt.Errorf("%q is neither a DNS name nor an IP address: "+
				"want DNS names and IP addresses, with commas between", n)
		}
		out = append(out, n)
	}
	return out, nil
}
