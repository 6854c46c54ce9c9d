package v1alpha1

import (
	"strconv"
	"strings"
	"time"
)

// APIServerPort is the port that the API server listens on, both in its node and in the top-level container.
const APIServerPort = 6443

// Default returns the cluster of a file in which nothing is said.
func Default() Cluster {
	c := Begin()
	c.Networking.Complete()
	return c
}

// Begin returns Default without what Networking.Complete adds when it is known what a file says.
func Begin() Cluster {
	return Cluster{
		APIVersion: APIVersion,
		Kind:       Kind,
		Nodes:      Workers(2),
		Networking: Networking{IPFamily: IPv4, KubeProxyMode: "iptables", PodNetwork: PodNetworkPTP},
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

// FreeName returns the name that the next node of a role has which has none of its own, where some are taken.
func FreeName(role string, taken func(string) bool) string {
	for n := 1; ; n++ {
		if name := nodeName(role, n); !taken(name) {
			return name
		}
	}
}

// Number returns the number in the name of a node that has none of its own; 0 if it is another name.
func Number(role, name string) int {
	if name == nodeName(role, 1) {
		return 1
	}
	n, err := strconv.Atoi(strings.TrimPrefix(name, role))
	if err != nil || nodeName(role, n) != name {
		return 0
	}
	return n
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
