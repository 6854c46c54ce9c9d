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
	set  func(*Cluster, string) error
	get  func(Cluster) string
}

// variables are all that a user may set with `docker run --env`.
var variables = []variable{{
	name: "NODES",
	set: func(c *Cluster, s string) (err error) {
		c.Nodes, err = number(s, 1, MaxNodes)
		return err
	},
	get: func(c Cluster) string { return strconv.Itoa(c.Nodes) },
}, {
	name: "API_PORT",
	set: func(c *Cluster, s string) (err error) {
		c.APIPort, err = number(s, 1, 65535)
		return err
	},
	get: func(c Cluster) string { return strconv.Itoa(c.APIPort) },
}, {
	name: "API_SANS",
	set: func(c *Cluster, s string) (err error) {
		c.APISANs, err = names(s)
		return err
	},
	get: func(c Cluster) string { return strings.Join(c.APISANs, ",") },
}, {
	name: "NODE_SUBNET",
	set: func(c *Cluster, s string) (err error) {
		c.NodeSubnet, err = prefix(s, 24)
		return err
	},
	get: func(c Cluster) string { return c.NodeSubnet.String() },
}, {
	name: "POD_SUBNET",
	set: func(c *Cluster, s string) (err error) {
		c.PodSubnet, err = prefix(s, 16)
		return err
	},
	get: func(c Cluster) string { return c.PodSubnet.String() },
}, {
	name: "SERVICE_SUBNET",
	set: func(c *Cluster, s string) (err error) {
		c.ServiceSubnet, err = prefix(s, 24)
		return err
	},
	get: func(c Cluster) string { return c.ServiceSubnet.String() },
}, {
	name: "KUBE_PROXY_MODE",
	set: func(c *Cluster, s string) (err error) {
		c.ProxyMode, err = oneOf(s, "iptables", "nftables")
		return err
	},
	get: func(c Cluster) string { return c.ProxyMode },
}, {
	name: "POD_NETWORK",
	set: func(c *Cluster, s string) (err error) {
		c.PodNetwork, err = oneOf(s, "bridge", "none")
		return err
	},
	get: func(c Cluster) string { return c.PodNetwork },
}, {
	name: "ETCD_SYNC",
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
	name: "TIMEOUT",
	set: func(c *Cluster, s string) (err error) {
		c.Timeout, err = duration(s, time.Second, 24*time.Hour)
		return err
	},
	get: func(c Cluster) string { return c.Timeout.String() },
}, {
	name: "ON_FAILURE",
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
	name: "HEALTH",
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
	for _, v := range variables {
		value := strings.TrimSpace(getenv(v.name))
		if value == "" {
			continue
		}
		if err := v.set(&c, value); err != nil {
			errs = append(errs, fmt.Errorf("environment variable %s=%q: %w", v.name, value, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return Cluster{}, err
	}
	return c, c.checkOverlaps()
}

// Env writes the plan as environment variables, one per line, for a systemd unit.
func (c Cluster) Env() string {
	var b strings.Builder
	for _, v := range variables {
		fmt.Fprintf(&b, "%s=%s\n", v.name, v.get(c))
	}
	return b.String()
}

func (c Cluster) checkOverlaps() error {
	subnets := []struct {
		name string
		p    netip.Prefix
	}{{"NODE_SUBNET", c.NodeSubnet}, {"POD_SUBNET", c.PodSubnet}, {"SERVICE_SUBNET", c.ServiceSubnet}}
	for i, a := range subnets {
		for _, b := range subnets[i+1:] {
			if a.p.Overlaps(b.p) {
				return fmt.Errorf("environment variables %s=%s and %s=%s overlap: give each its own addresses", a.name, a.p, b.name, b.p)
			}
		}
	}
	return nil
}

func number(s string, low, high int) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < low || n > high {
		return 0, fmt.Errorf("want a whole number from %d to %d", low, high)
	}
	return n, nil
}

func prefix(s string, maxBits int) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil || !p.Addr().Is4() || p != p.Masked() || p.Bits() < 8 || p.Bits() > maxBits {
		return netip.Prefix{}, fmt.Errorf("want an IPv4 subnet of /8 to /%d, such as 10.20.0.0/%d", maxBits, maxBits)
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
		return 0, fmt.Errorf("want a duration such as 90s or 5m")
	}
	return d, nil
}

// hostName is what kubeadm accepts in certSANs: a DNS name, perhaps with a wildcard as its first label.
var hostName = regexp.MustCompile(`^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)

func names(s string) ([]string, error) {
	var out []string
	for _, n := range strings.Split(s, ",") {
		n = strings.TrimSpace(n)
		_, err := netip.ParseAddr(n)
		if err != nil && (len(n) > 253 || !hostName.MatchString(n)) {
			return nil, fmt.Errorf("%q is neither a DNS name nor an IP address; want a list with commas between", n)
		}
		out = append(out, n)
	}
	return out, nil
}
