package cluster

import (
	"errors"
	"slices"

	"github.com/dind-cluster/dind-cluster/cluster/topology"
	"github.com/dind-cluster/dind-cluster/internal/docker"
)

// changes are what has to be done so that the containers are those of the topology.
type changes struct {
	// remove are containers that are no node, or only half of one.
	remove []docker.Summary
	// start are the nodes that are there.
	start []topology.Node
	// create are those that are not.
	create []topology.Node
}

// errNoControlPlane is the one reason to end a container that holds a cluster.
var errNoControlPlane = errors.New("the control plane's container is gone, and with it the cluster: its objects, and all that was in etcd, cannot be brought back. " +
	"Remove this container with its volume (`docker rm -f -v`) and start a new one; what the workers' containers have is in the volume until then")

// difference compares the nodes that a topology has with the containers that there are, of which only those of nodes that have
// joined are worth keeping. Without the control plane's, none is.
func difference(want []topology.Node, have []docker.Summary, joined []string) (changes, error) {
	created := slices.Contains(joined, want[0].Name)
	there := map[string]bool{}
	var c changes
	for _, container := range have {
		wanted := slices.ContainsFunc(want, func(n topology.Node) bool { return n.Name == container.Names })
		if created && wanted && slices.Contains(joined, container.Names) {
			there[container.Names] = true
		} else {
			c.remove = append(c.remove, container)
		}
	}
	if created && !there[want[0].Name] {
		return changes{}, errNoControlPlane
	}
	for _, n := range want {
		if there[n.Name] {
			c.start = append(c.start, n)
		} else {
			c.create = append(c.create, n)
		}
	}
	return c, nil
}
