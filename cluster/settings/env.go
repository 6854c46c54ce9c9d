package settings

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
)

// variable is one environment variable of the top-level container: the short form of one field of the configuration.
type variable struct {
	name, field string
	// values are those that set takes, as its errors have them after "want"; doc is a sentence for the reference, in Markdown.
	values, doc string
	set         func(*v1alpha1.Cluster, string) error
	get         func(v1alpha1.Cluster) string
}

// variables are all that a user may set with `docker run --env`.
var variables = []variable{{
	name:   "NODES",
	field:  "nodes",
	values: fmt.Sprintf("a whole number from 1 to %d", v1alpha1.MaxNodes),
	doc:    "one control plane, the rest workers; `1` is one node that runs everything",
	set: func(c *v1alpha1.Cluster, s string) (err error) {
		n, err := number(s, 1, v1alpha1.MaxNodes)
		c.Nodes = v1alpha1.Workers(n - 1)
		return err
	},
	get: func(c v1alpha1.Cluster) string { return strconv.Itoa(len(c.Expand())) },
}, {
	name:   "API_PORT",
	field:  "networking.apiServerPort",
	values: "a whole number from 1 to 65535",
	doc:    "the Docker host's port of the API server, for the kubeconfig that `docker exec NAME kubeconfig` prints",
	set: func(c *v1alpha1.Cluster, s string) (err error) {
		c.Networking.APIServerPort, err = number(s, 1, 65535)
		return err
	},
	get: func(c v1alpha1.Cluster) string {
		return strconv.Itoa(cmp.Or(c.Networking.APIServerPort, v1alpha1.APIServerPort))
	},
}, {
	name:   "API_SANS",
	field:  "networking.apiServerSANs",
	values: "DNS names and IP addresses, with commas between",
	doc:    "further names and addresses for the API server's certificate",
	set: func(c *v1alpha1.Cluster, s string) (err error) {
		c.Networking.APIServerSANs, err = names(s)
		return err
	},
	get: func(c v1alpha1.Cluster) string { return strings.Join(c.Networking.APIServerSANs, ",") },
}, {
	name:   "IP_FAMILY",
	field:  "networking.ipFamily",
	values: "ipv4 or ipv6 or dual",
	doc:    "what addresses nodes, pods and services have; `dual` is both. The default subnets follow",
	set: func(c *v1alpha1.Cluster, s string) (err error) {
		c.Networking.SetIPFamily(s)
		return v1alpha1.OneOf(s, v1alpha1.IPv4, v1alpha1.IPv6, v1alpha1.Dual)
	},
	get: func(c v1alpha1.Cluster) string { return c.Networking.IPFamily },
}, {
	name:   "NODE_SUBNET",
	field:  "networking.nodeSubnet",
	values: v1alpha1.NodeSizes.String(),
	doc:    "the nodes' addresses",
	set: func(c *v1alpha1.Cluster, s string) (err error) {
		c.Networking.NodeSubnet, err = subnets(s, v1alpha1.NodeSizes)
		return err
	},
	get: func(c v1alpha1.Cluster) string { return c.Networking.NodeSubnet.String() },
}, {
	name:   "POD_SUBNET",
	field:  "networking.podSubnet",
	values: v1alpha1.PodSizes.String(),
	doc:    "the pods' addresses",
	set: func(c *v1alpha1.Cluster, s string) (err error) {
		c.Networking.PodSubnet, err = subnets(s, v1alpha1.PodSizes)
		return err
	},
	get: func(c v1alpha1.Cluster) string { return c.Networking.PodSubnet.String() },
}, {
	name:   "SERVICE_SUBNET",
	field:  "networking.serviceSubnet",
	values: v1alpha1.ServiceSizes.String(),
	doc:    "the services' addresses",
	set: func(c *v1alpha1.Cluster, s string) (err error) {
		c.Networking.ServiceSubnet, err = subnets(s, v1alpha1.ServiceSizes)
		return err
	},
	get: func(c v1alpha1.Cluster) string { return c.Networking.ServiceSubnet.String() },
}, {
	name:   "LOAD_BALANCER_SUBNETS",
	field:  "networking.loadBalancerSubnets",
	values: "subnets with commas between, or none",
	doc:    "the addresses of services of type LoadBalancer; `none` leaves such services to another load balancer, MetalLB for example",
	set: func(c *v1alpha1.Cluster, s string) (err error) {
		c.Networking.LoadBalancerSubnets, err = loadBalancerSubnets(s)
		return err
	},
	get: func(c v1alpha1.Cluster) string {
		var all []string
		for _, p := range c.Networking.LoadBalancerSubnets {
			all = append(all, p.String())
		}
		return cmp.Or(strings.Join(all, ","), "none")
	},
}, {
	name:   "KUBE_PROXY_MODE",
	field:  "networking.kubeProxyMode",
	values: strings.Join(v1alpha1.KubeProxyModes, " or "),
	doc:    "kube-proxy's mode; `ipvs` if the Docker host's kernel has it; `none` is no kube-proxy, for a pod network of yours that does its work",
	set: func(c *v1alpha1.Cluster, s string) (err error) {
		c.Networking.KubeProxyMode = s
		return v1alpha1.OneOf(s, v1alpha1.KubeProxyModes...)
	},
	get: func(c v1alpha1.Cluster) string { return c.Networking.KubeProxyMode },
}, {
	name:   "POD_NETWORK",
	field:  "networking.podNetwork",
	values: v1alpha1.PodNetworkPTP + " or none",
	doc:    "`none` installs no pod network: bring your own CNI plugin",
	set: func(c *v1alpha1.Cluster, s string) (err error) {
		c.Networking.PodNetwork = s
		return v1alpha1.OneOf(s, v1alpha1.PodNetworkPTP, v1alpha1.PodNetworkNone)
	},
	get: func(c v1alpha1.Cluster) string { return c.Networking.PodNetwork },
}, {
	name:   "ETCD_SYNC",
	field:  "etcd.sync",
	values: "on or off",
	doc:    "`off`: etcd does not wait for the disk. A cluster starts sooner, most of all on a slow disk, and is lost if the machine goes down",
	set: func(c *v1alpha1.Cluster, s string) (err error) {
		c.Etcd.Sync = s != "off"
		return v1alpha1.OneOf(s, "on", "off")
	},
	get: func(c v1alpha1.Cluster) string { return map[bool]string{true: "on", false: "off"}[c.Etcd.Sync] },
}, {
	name:   "NOFILE",
	field:  "openFiles",
	values: "a whole number from 256 to 1048576",
	doc:    "how many files a process in a pod may have open; it may raise its own limit up to 524288. Both are what systemd gives containerd by default",
	set: func(c *v1alpha1.Cluster, s string) (err error) {
		c.OpenFiles, err = number(s, 256, 1<<20)
		return err
	},
	get: func(c v1alpha1.Cluster) string { return strconv.Itoa(c.OpenFiles) },
}, {
	name:   "TIMEOUT",
	field:  "start.timeout",
	values: fmt.Sprintf("a duration from %s to %s", v1alpha1.MinTimeout, v1alpha1.MaxTimeout),
	doc:    "how long the cluster may take to start, such as `90s` or `5m`",
	set: func(c *v1alpha1.Cluster, s string) (err error) {
		d, err := time.ParseDuration(s)
		c.Start.Timeout = v1alpha1.Duration(d)
		if err != nil {
			d = 0 // which is not allowed either
		}
		return v1alpha1.CheckTimeout(d)
	},
	get: func(c v1alpha1.Cluster) string { return time.Duration(c.Start.Timeout).String() },
}, {
	name:   "ON_FAILURE",
	field:  "start.onFailure",
	values: "exit or keep",
	doc:    "`keep` leaves a cluster that did not start, to be looked at",
	set: func(c *v1alpha1.Cluster, s string) (err error) {
		c.Start.OnFailure = s
		return v1alpha1.OneOf(s, v1alpha1.OnFailureExit, v1alpha1.OnFailureKeep)
	},
	get: func(c v1alpha1.Cluster) string { return c.Start.OnFailure },
}, {
	name:   "FRESH_KEYS",
	field:  "start.freshKeys",
	values: "on or off",
	doc:    "`on`: a cluster that a [snapshot](snapshots.md) brings back gets keys of its own, in place of those of the cluster that was saved",
	set: func(c *v1alpha1.Cluster, s string) error {
		c.Start.FreshKeys = s == "on"
		return v1alpha1.OneOf(s, "on", "off")
	},
	get: func(c v1alpha1.Cluster) string { return map[bool]string{true: "on", false: "off"}[c.Start.FreshKeys] },
}, {
	name:   "HEALTH",
	field:  "health",
	values: v1alpha1.HealthNodes + " or " + v1alpha1.HealthAPI,
	doc:    "what counts for the container's health: the API server and all nodes, or the API server alone",
	set: func(c *v1alpha1.Cluster, s string) (err error) {
		c.Health = s
		return v1alpha1.OneOf(s, v1alpha1.HealthNodes, v1alpha1.HealthAPI)
	},
	get: func(c v1alpha1.Cluster) string { return c.Health },
}}

// Variable describes one environment variable, for docs/settings.md.
type Variable struct {
	Name string
	// Field is the field of the configuration that it is the short form of.
	Field   string
	Default string // as FromEnv takes it; may be empty
	Values  string
	Doc     string
}

// All returns all variables, in the order of the reference.
func All() []Variable {
	var all []Variable
	for _, v := range variables {
		all = append(all, Variable{Name: v.name, Field: v.field, Default: v.get(v1alpha1.Default()), Values: v.values, Doc: v.doc})
	}
	return all
}

// FromEnv sets those fields of a configuration for which there are environment variables. An unset or empty variable leaves
// the field. The error names every variable that is wrong, what it says and what it may say.
func FromEnv(c v1alpha1.Cluster, getenv func(string) string) (v1alpha1.Cluster, error) {
	var errs []error
	for _, v := range variables {
		value := strings.TrimSpace(getenv(v.name))
		if value == "" {
			continue
		}
		next := c
		if err := v.set(&next, value); err != nil {
			errs = append(errs, fmt.Errorf("environment variable %s=%q: %w", v.name, value, err))
			continue
		}
		c = next
	}
	c.Networking.Complete()
	// Each by itself is as it may be; together they may not.
	if err := c.Validate(); err != nil {
		errs = append(errs, err)
	}
	return c, errors.Join(errs...)
}

func number(s string, low, high int) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil {
		n = low - 1 // which is not allowed either
	}
	return n, v1alpha1.Between(n, low, high)
}

func subnets(s string, sizes v1alpha1.Sizes) (v1alpha1.Subnets, error) {
	all, _ := v1alpha1.ParseSubnets(s) // none, if it is wrong, is not allowed either
	return all, sizes.Check(all)
}

func loadBalancerSubnets(s string) ([]netip.Prefix, error) {
	out := []netip.Prefix{}
	if s == "none" {
		return out, nil
	}
	for text := range strings.SplitSeq(s, ",") {
		p, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil {
			return nil, errors.New("want subnets with commas between, or none")
		}
		if err := v1alpha1.CheckLoadBalancerSubnet(p); err != nil {
			return nil, fmt.Errorf("%s: %w", p, err)
		}
		out = append(out, p)
	}
	return out, nil
}

func names(s string) ([]string, error) {
	var out []string
	for name := range strings.SplitSeq(s, ",") {
		name = strings.TrimSpace(name)
		if err := v1alpha1.CheckSAN(name); err != nil {
			return nil, fmt.Errorf("%q is %w: want DNS names and IP addresses, with commas between", name, err)
		}
		out = append(out, name)
	}
	return out, nil
}
