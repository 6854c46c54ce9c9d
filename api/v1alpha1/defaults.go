package v1alpha1

import (
	"net/netip"
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
		Etcd:      Etcd{Sync: true},
		OpenFiles: 1024,
		Start:     Start{Timeout: Duration(5 * time.Minute), OnFailure: OnFailureExit},
		Health:    HealthNodes,
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

// Expand returns the nodes one by one, each with a name, the control plane first.
func (c Cluster) Expand() []Node {
	var out []Node
	worker := 0
	taken := map[string]bool{}
	for _, n := range c.Nodes {
		taken[n.Name] = true
	}
	for _, role := range []string{RoleControlPlane, RoleWorker} {
		for _, n := range c.Nodes {
			count := 1
			if n.Count != nil {
				count = *n.Count
			}
			for range count {
				if n.Role != role {
					continue
				}
				one := n
				one.Count = nil
				for one.Name == "" {
					name := RoleControlPlane
					if role == RoleWorker {
						worker++
						name = workerName(worker)
					}
					if !taken[name] || role == RoleControlPlane {
						one.Name = name
					}
				}
				out = append(out, one)
			}
		}
	}
	return out
}
