package cluster

import (
	"errors"
	"slices"

	"github.com/dind-cluster/dind-cluster/cluster/topology"
	"github.com/dind-cluster/dind-cluster/internal/docker"
)

// changes lists what to do so that the containers are those of the topology.
type changes struct {
	// remove has containers that are no node, or one that was never complete.
	remove []docker.Summary
	// start has the nodes whose containers exist.
	start []topology.Node
	// create has the nodes that need new containers.
	create []topology.Node
}

// errNoControlPlane is the only error that ends a container which holds a cluster.
var errNoControlPlane = errors.New("the control plane's container is gone, and with it the cluster: its objects, and all that was in etcd, cannot be brought back. " +
	"Remove this container with its volume (`docker rm -f -v`) and start a new one; what the workers' containers have is in the volume until then")

// difference compares the nodes of a topology with the containers that exist. Only containers of
// nodes that have joined are worth keeping, and none without a control plane's.
func difference(want []topology.Node, have []docker.Summary, joined []string) (changes, error) {
	created := false
	for _, n := range want {
		created = created || n.Role == topology.ControlPlane && slices.Contains(joined, n.Name)
	}
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
	controlPlanes := 0
	for _, n := range want {
		if !there[n.Name] {
			c.create = append(c.create, n)
			continue
		}
		c.start = append(c.start, n)
		if n.Role == topology.ControlPlane {
			controlPlanes++
		}
	}
	if created && controlPlanes == 0 {
		return changes{}, errNoControlPlane
	}
	return c, nil
}
