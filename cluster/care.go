package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/dind-cluster/dind-cluster/cluster/kubeadm"
	"github.com/dind-cluster/dind-cluster/cluster/plan"
	"github.com/dind-cluster/dind-cluster/internal/kubeapi"
)

// again is the pause before something that failed is tried again, when there is no event to wait for.
const again = 100 * time.Millisecond

// lookAfter keeps the cluster whole until ctx ends. One that is not ready becomes so as soon as what it lacks is there.
func (c *cluster) lookAfter(ctx context.Context, ready bool) error {
	if err := c.connect(); err != nil {
		return err
	}
	completed := make(chan struct{})
	go func() {
		defer close(completed)
		c.completeNodes(ctx)
	}()
	c.mu.Lock()
	c.lost = nil
	c.mu.Unlock()
	for !ready && ctx.Err() == nil {
		if ready = c.settle(ctx); !ready {
			select {
			case <-ctx.Done():
			case <-time.After(again):
			}
		}
	}
	<-completed
	return nil
}

// settle waits until the cluster is ready, without a deadline.
func (c *cluster) settle(ctx context.Context) bool {
	for _, a := range settle {
		if _, err := a.run(c, ctx); err != nil {
			return false
		}
	}
	return c.ready(ctx) == nil
}

// completeNodes gives nodes that register what only the runner has for them, until ctx ends. They register when they join,
// and when somebody has deleted them (kubectl delete node) and their kubelets start again.
func (c *cluster) completeNodes(ctx context.Context) {
	for ctx.Err() == nil {
		_ = kubeapi.Follow(ctx, c.api, "/api/v1/nodes", func(found map[string]kubeapi.Node) bool {
			// On an error with a new list.
			return c.complete(ctx, found) != nil
		})
		select {
		case <-ctx.Done():
		case <-time.After(again):
		}
	}
}

// complete changes those nodes that lack something.
func (c *cluster) complete(ctx context.Context, found map[string]kubeapi.Node) error {
	var errs []error
	for _, n := range c.plan.All() {
		have, ok := found[n.Name]
		if !ok || have.Spec.PodCIDR != "" {
			continue
		}
		if err := c.api.Patch(ctx, "/api/v1/nodes/"+n.Name, completion(c.plan, n)); err != nil && !kubeapi.NotFound(err) {
			errs = append(errs, fmt.Errorf("giving node %s its pods' addresses: %w", n.Name, err))
		}
	}
	return errors.Join(errs...)
}

// completion is what a node that has just registered lacks: a strategic merge patch.
func completion(p plan.Cluster, n plan.Node) map[string]any {
	cidr := n.PodCIDR.String()
	patch, spec := map[string]any{}, map[string]any{"podCIDR": cidr, "podCIDRs": []string{cidr}}
	if n.Role == plan.ControlPlane {
		patch = kubeadm.Mark(p)
		if mark, ok := patch["spec"].(map[string]any); ok {
			maps.Copy(spec, mark)
		}
	}
	patch["spec"] = spec
	return patch
}
