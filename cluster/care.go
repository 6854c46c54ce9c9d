package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dind-cluster/dind-cluster/cluster/topology"
	"github.com/dind-cluster/dind-cluster/internal/kubeapi"
)

// again is the pause before something that failed is tried again, when there is no event to wait
// for.
const again = 100 * time.Millisecond

// lookAfter keeps the cluster whole until ctx ends, and does what it is asked to. A cluster that is
// not ready becomes ready as soon as what it lacks is there.
func (c *cluster) lookAfter(ctx context.Context, ready bool) error {
	if err := c.connect(); err != nil {
		return err
	}
	services := c.serviceBalancer()
	var care sync.WaitGroup
	care.Go(func() { c.completeNodes(ctx, services.SetNodes) })
	care.Go(func() { services.Run(ctx) })
	c.mu.Lock()
	c.lost = nil
	c.mu.Unlock()
	stop, err := c.takeRequests(ctx)
	if err != nil {
		return err
	}
	defer stop()
	for !ready && ctx.Err() == nil {
		if ready = c.turn.spare(ctx, c.settle); !ready {
			select {
			case <-ctx.Done():
			case <-time.After(again):
			}
		}
	}
	c.bringUpAddons(ctx)
	<-ctx.Done()
	care.Wait()
	return nil
}

// settle waits until the cluster is ready, without a deadline.
func (c *cluster) settle(ctx context.Context) bool {
	for _, wait := range []func(context.Context) (string, error){
		c.waitForControlPlane, c.createMissing, c.waitForNodes, c.waitForReady, c.waitForDNS,
	} {
		if _, err := wait(ctx); err != nil {
			return false
		}
	}
	return c.ready(ctx) == nil
}

// completeNodes gives nodes that register what only the runner has for them, until ctx ends. They
// register when they join, and when their kubelets start again after `kubectl delete node`. The
// nodes that there are go to seen, too.
func (c *cluster) completeNodes(ctx context.Context, seen func(map[string]kubeapi.Node)) {
	for ctx.Err() == nil {
		_ = kubeapi.Follow(ctx, c.api, "/api/v1/nodes", func(found map[string]kubeapi.Node) bool {
			c.reroute(ctx, found)
			seen(found)
			// On an error, start again with a new list.
			return c.complete(ctx, found) != nil
		})
		select {
		case <-ctx.Done():
		case <-time.After(again):
		}
	}
}

// complete patches the nodes that lack something.
func (c *cluster) complete(ctx context.Context, found map[string]kubeapi.Node) error {
	var errs []error
	for _, n := range c.current().Nodes {
		have, ok := found[n.Name]
		if !ok || have.Spec.PodCIDR != "" {
			continue
		}
		if err := c.api.Patch(ctx, "/api/v1/nodes/"+n.Name, completion(n)); err != nil && !kubeapi.NotFound(err) {
			errs = append(errs, fmt.Errorf("giving node %s its pods' addresses: %w", n.Name, err))
		}
	}
	return errors.Join(errs...)
}

// completion returns what a node that has just registered lacks, as a strategic merge patch: its
// pods' addresses, and of a control plane the labels and taints of kubeadm's phase
// mark-control-plane.
func completion(n topology.Node) map[string]any {
	spec := map[string]any{"podCIDR": n.PodCIDRs[0], "podCIDRs": n.PodCIDRs}
	if len(n.Taints) > 0 {
		spec["taints"] = n.Taints
	}
	patch := map[string]any{"spec": spec}
	if len(n.Labels) > 0 {
		patch["metadata"] = map[string]any{"labels": n.Labels}
	}
	return patch
}
