package cluster

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/dind-cluster/dind-cluster/cluster/loadbalancer"
	"github.com/dind-cluster/dind-cluster/cluster/nodes"
	"github.com/dind-cluster/dind-cluster/cluster/topology"
	"github.com/dind-cluster/dind-cluster/internal/docker"
)

// serviceBalancer returns the load balancer of services, which does nothing without addresses.
func (c *cluster) serviceBalancer() *loadbalancer.Controller {
	return &loadbalancer.Controller{
		API:     c.api,
		Subnets: c.topology.Networks.LoadBalancers,
		Route: func(ctx context.Context, routes map[netip.Addr]netip.Addr, gone []netip.Addr) error {
			return runBatch(ctx, balancerRoutes(c.topology.Networks, routes, gone))
		},
		FollowNodes: c.followContainers,
		Printf:      c.log.Printf,
	}
}

// balancerRoutes returns the input of `ip -batch` that routes services' addresses to nodes. All
// others of the load balancer lead to the loopback interface, where the packet filter refuses them,
// rather than out of this container.
func balancerRoutes(n topology.Networks, routes map[netip.Addr]netip.Addr, gone []netip.Addr) string {
	var out strings.Builder
	for _, p := range n.LoadBalancers {
		fmt.Fprintf(&out, "route replace %s dev lo\n", p)
	}
	for a, node := range routes {
		if node.IsValid() {
			fmt.Fprintf(&out, "route replace %s via %s dev %s\n", a, node, bridgeName)
		} else {
			fmt.Fprintf(&out, "route replace %s dev lo\n", a)
		}
	}
	for _, a := range gone {
		fmt.Fprintf(&out, "route replace %[1]s dev lo\nroute del %[1]s dev lo\n", a)
	}
	return out.String()
}

// followContainers calls f with the names of the nodes whose containers do not run, at first and
// after every change, until ctx ends. The API server notices only after 50 seconds that it no longer
// hears of a node.
func (c *cluster) followContainers(ctx context.Context, f func(down map[string]bool)) {
	for ctx.Err() == nil {
		since, down := time.Now(), map[string]bool{}
		all, err := nodes.All(ctx, c.docker)
		if err == nil {
			for _, n := range all {
				down[n.Names] = n.State != "running"
			}
			f(down)
			err = c.docker.Events(ctx, since, func(e docker.Event) bool {
				down[e.Actor.Attributes["name"]] = e.Action != "start" && e.Action != "unpause"
				f(down)
				return true
			}, "type=container", "event=die", "event=start", "event=pause", "event=unpause", "label="+nodes.Label)
		}
		if err != nil && ctx.Err() == nil {
			c.log.Printf("following the nodes' containers: %v", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(again):
		}
	}
}
