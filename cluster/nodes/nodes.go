// Package nodes finds the containers that are a cluster's nodes, from within its top-level
// container.
package nodes

import (
	"context"
	"errors"
	"slices"

	"github.com/dind-cluster/dind-cluster/internal/docker"
)

// Label marks the containers that are nodes; its value is the node's name. RoleLabel has the node's
// role: topology.Role.
const (
	Label     = "dind-cluster.node"
	RoleLabel = Label + ".role"
)

// All returns the nodes' containers, whether they run or not.
func All(ctx context.Context, client *docker.Client) ([]docker.Summary, error) {
	return client.List(ctx, "label="+Label)
}

// Running returns the names of the nodes that run, sorted. It returns an error if there are none.
func Running(ctx context.Context, client *docker.Client) ([]string, error) {
	list, err := client.List(ctx, "label="+Label, "status=running")
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, errors.New("no node is running yet: wait until the cluster is up")
	}
	var names []string
	for _, c := range list {
		names = append(names, c.Names)
	}
	slices.Sort(names)
	return names, nil
}
