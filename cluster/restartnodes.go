package cluster

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/dind-cluster/dind-cluster/cluster/nodes"
	"github.com/dind-cluster/dind-cluster/cluster/topology"
	"golang.org/x/sync/errgroup"
)

// stopGrace is how long a node may take to stop by itself.
const stopGrace = 10 * time.Second

// stopNodes stops nodes' containers. The next start of the cluster starts them again.
func (c *cluster) stopNodes(ctx context.Context, r request) error {
	all, err := c.find(r.Nodes)
	if err != nil {
		return err
	}
	return c.stopAll(ctx, r, all)
}

// startAgain starts nodes that were stopped, and waits until they are ready.
func (c *cluster) startAgain(ctx context.Context, r request) error {
	all, err := c.find(r.Nodes)
	if err != nil {
		return err
	}
	containers, err := nodes.All(ctx, c.docker)
	if err != nil {
		return err
	}
	for _, container := range containers {
		if container.State == "running" {
			all = without(all, container.Names)
		}
	}
	if len(all) == 0 {
		r.log.Printf("they run already")
		return nil
	}
	return c.startAll(ctx, r, all)
}

// restart stops nodes and starts them again.
func (c *cluster) restart(ctx context.Context, r request) error {
	all, err := c.find(r.Nodes)
	if err != nil {
		return err
	}
	if err := c.stopAll(ctx, r, all); err != nil {
		return err
	}
	return c.startAll(ctx, r, all)
}

func (c *cluster) stopAll(ctx context.Context, r request, all []topology.Node) error {
	return c.each(r, "stopping", all, func(n topology.Node) error { return c.docker.Stop(ctx, n.Name, stopGrace) })
}

func (c *cluster) startAll(ctx context.Context, r request, all []topology.Node) error {
	since := time.Now()
	if err := c.each(r, "starting", all, func(n topology.Node) error { return c.docker.Start(ctx, n.Name) }); err != nil {
		return err
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	c.whenDead(ctx, all, fail)
	step := r.log.Step("waiting until they are ready")
	if err := c.waitUntilReady(ctx, all, since); err != nil {
		step.Fail("")
		return err
	}
	step.Done("")
	return nil
}

func (c *cluster) each(r request, doing string, all []topology.Node, do func(topology.Node) error) error {
	step := r.log.Step("%s %s", doing, strings.Join(topology.Names(all), ", "))
	var group errgroup.Group
	group.SetLimit(parallel)
	for _, n := range all {
		group.Go(func() error {
			if err := do(n); err != nil {
				return fmt.Errorf("%s node %s: %w", doing, n.Name, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		step.Fail("")
		return err
	}
	step.Done("")
	return nil
}
