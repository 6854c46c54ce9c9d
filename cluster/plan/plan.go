// Package plan reads the settings of a cluster. Package topology has what follows from them.
package plan

import (
	"fmt"
	"net/netip"
	"time"
)

// MaxNodes bounds the size of a cluster. Each node is a container with its own kubelet and
// container runtime, and a pod subnet of /16 in pieces of /24 has room for 256.
const MaxNodes = 100

// MinTimeout and MaxTimeout bound the time that a cluster may take to start.
const (
	MinTimeout = time.Second
	MaxTimeout = 24 * time.Hour
)

// APIServerPort is the port that the API server listens on, both in its node and in the top-level
// container.
const APIServerPort = 6443

// PodNetworkPTP is the pod network of the reference CNI plugins, named after the one that makes
// pods' interfaces. PodNetworkNone leaves the pod network to the user.
const (
	PodNetworkPTP  = "ptp"
	PodNetworkNone = "none"
)

// HealthNodes and HealthAPI are the values of Cluster.Health: check all nodes and the API server,
// or the API server alone.
const (
	HealthNodes = "nodes"
	HealthAPI   = "api"
)

// Cluster has the settings of a cluster, which users choose with environment variables.
type Cluster struct {
	// Nodes is the number of nodes: one control plane, the rest workers.
	Nodes int `json:"nodes"`
	// NodeSubnet holds the nodes' own addresses, PodSubnet those of all pods, ServiceSubnet those
	// of services.
	NodeSubnet    netip.Prefix `json:"nodeSubnet"`
	PodSubnet     netip.Prefix `json:"podSubnet"`
	ServiceSubnet netip.Prefix `json:"serviceSubnet"`
	// APIPort is the port of the Docker host under which users reach the API server.
	APIPort int `json:"apiPort"`
	// APISANs are further names and addresses for the API server's certificate.
	APISANs []string `json:"apiSANs,omitempty"`
	// ProxyMode is kube-proxy's mode.
	ProxyMode string `json:"proxyMode"`
	// EtcdSync reports whether etcd syncs its writes to the disk (fsync). Without, a cluster is
	// faster, and lost if the machine goes down.
	EtcdSync bool `json:"etcdSync"`
	// PodNetwork is PodNetworkPTP or PodNetworkNone.
	PodNetwork string `json:"podNetwork"`
	// NoFile is the soft limit on open files (RLIMIT_NOFILE) of the processes of pods.
	NoFile int `json:"noFile"`
	// Timeout bounds the whole start of the cluster.
	Timeout time.Duration `json:"timeout"`
	// KeepOnFailure keeps the container of a cluster that did not come up, for a look inside.
	KeepOnFailure bool `json:"keepOnFailure"`
	// Health is what must work for the container to be healthy: HealthNodes or HealthAPI.
	Health string `json:"health"`
}

// Default returns the settings of a cluster for which the user asked for nothing in particular.
func Default() Cluster {
	return Cluster{
		Nodes: 3,
		// Outside of the pools that Docker hands out by itself (172.17.0.0/12, 192.168.0.0/16), so
		// that it does not collide with the network which the top-level container is attached to.
		NodeSubnet:    netip.MustParsePrefix("10.250.0.0/24"),
		PodSubnet:     netip.MustParsePrefix("10.244.0.0/16"),
		ServiceSubnet: netip.MustParsePrefix("10.96.0.0/16"),
		APIPort:       APIServerPort,
		ProxyMode:     "iptables",
		EtcdSync:      true,
		PodNetwork:    PodNetworkPTP,
		NoFile:        1024,
		Timeout:       5 * time.Minute,
		Health:        HealthNodes,
	}
}

// Shadows returns the subnet of the cluster that contains an address, if there is one. A host
// outside with that address cannot be reached from inside the container.
func (c Cluster) Shadows(a netip.Addr) (Subnet, bool) {
	for _, s := range c.Subnets() {
		if s.Prefix.Contains(a) {
			return s, true
		}
	}
	return Subnet{}, false
}

// Hides returns a message: what, outside the cluster, has an address of the subnet; the
// consequence; and what to do.
func (s Subnet) Hides(what, consequence string) string {
	return fmt.Sprintf("%s is in the cluster's own subnet %s: %s; choose another subnet with `docker run --env %s=…`",
		what, s.Prefix, consequence, s.Variable)
}
