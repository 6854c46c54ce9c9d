package v1alpha1

import (
	"net/netip"
	"strconv"
	"time"
)

// APIServerPort is the port that the API server listens on, both in its node and in the top-level container.
const APIServerPort = 6443

// Default returns the cluster of a file in which nothing is said.
func Default() Cluster {
	return Cluster{
		APIVersion: APIVersion,
		Kind:       Kind,
		Nodes:      Workers(2),
		Networking: Networking{
			// Outside of the pools that Docker hands out by itself (172.17.0.0/12, 192.168.0.0/16), so that it does not
			// collide with the network which the top-level container is attached to.
			NodeSubnet:    netip.MustParsePrefix("10.250.0.0/24"),
			PodSubnet:     netip.MustParsePrefix("10.244.0.0/16"),
			ServiceSubnet: netip.MustParsePrefix("10.96.0.0/16"),
			KubeProxyMode: "iptables",
			PodNetwork:    PodNetworkPTP,
		},
		Kubernetes: Kubernetes{EncryptionAlgorithm: "ECDSA-P256"},
		Addons:     Addons{StorageClass: true},
		Etcd:       Etcd{Sync: true},
		OpenFiles:  1024,
		Start:      Start{Timeout: Duration(5 * time.Minute), OnFailure: OnFailureExit},
		Health:     HealthNodes,
	}
}

// Workers returns a control plane with a number of workers.
func Workers(n int) []Node {
	nodes := []Node{{Role: RoleControlPlane}}
	if n > 0 {
		nodes = append(nodes, Node{Role: RoleWorker, Count: &n})
	}
	return nodes
}

// Expand returns the nodes one by one, each with a name, the control planes first.
func (c Cluster) Expand() []Node {
	taken := map[string]bool{}
	for _, n := range c.Nodes {
		taken[n.Name] = true
	}
	var out []Node
	for _, role := range []string{RoleControlPlane, RoleWorker} {
		number := 0
		for _, n := range c.Nodes {
			count := 1
			if n.Count != nil {
				count = *n.Count
			}
			if n.Role != role {
				count = 0
			}
			for range count {
				one := n
				one.Count = nil
				for one.Name == "" {
					if number++; !taken[nodeName(role, number)] {
						one.Name = nodeName(role, number)
					}
				}
				out = append(out, one)
			}
		}
	}
	return out
}

// DockerPropagation returns Docker's word for the propagation of a mount, or "" for its default.
func (m Mount) DockerPropagation() string {
	return map[string]string{"HostToContainer": "rslave", "Bidirectional": "rshared"}[m.Propagation]
}

// nodeName returns the name of the n-th node of a role, from 1, that has none of its own:
// control-plane, control-plane2, …, worker1, worker2, …
func nodeName(role string, n int) string {
	if role == RoleControlPlane && n == 1 {
		return role
	}
	return role + strconv.Itoa(n)
}
