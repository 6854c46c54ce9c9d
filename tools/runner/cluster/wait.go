package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dind-cluster/dind-cluster/tools/runner/kubeapi"
	"github.com/dind-cluster/dind-cluster/tools/runner/probe"
	"golang.org/x/sync/errgroup"
)

// waitForControlPlane waits until the API server answers.
func (c *cluster) waitForControlPlane(ctx context.Context) (string, error) {
	if err := c.connect(); err != nil {
		return "", err
	}
	return "", c.api.WaitFor(ctx, "/readyz")
}

// waitForNodes waits until all nodes have registered, and gives each the pods' addresses that the plan has for it.
func (c *cluster) waitForNodes(ctx context.Context) (string, error) {
	var missing []string
	var patchErr error
	err := kubeapi.Follow(ctx, c.api, "/api/v1/nodes", func(nodes map[string]kubeapi.Node) bool {
		missing, patchErr = nil, nil
		for _, n := range c.plan.All() {
			found, ok := nodes[n.Name]
			if !ok {
				missing = append(missing, n.Name)
				continue
			}
			if found.Spec.PodCIDR == "" {
				cidr := n.PodCIDR.String()
				patch := map[string]any{"spec": map[string]any{"podCIDR": cidr, "podCIDRs": []string{cidr}}}
				if err := c.api.MergePatch(ctx, "/api/v1/nodes/"+n.Name, patch); err != nil {
					patchErr = fmt.Errorf("giving node %s its pods' addresses: %w", n.Name, err)
				}
			}
		}
		return len(missing) == 0 && patchErr == nil
	})
	if err != nil {
		return "", fmt.Errorf("still missing: %s: %w", strings.Join(missing, ", "), errors.Join(err, patchErr))
	}
	return fmt.Sprintf("%d node(s)", c.plan.Nodes), nil
}

// waitForDNS waits until the cluster's DNS service answers in this container and on every node. On each that takes its
// kube-proxy, the pod network and CoreDNS.
func (c *cluster) waitForDNS(ctx context.Context) (string, error) {
	if c.plan.PodNetwork == "none" {
		return "not without a pod network", nil
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	group.Go(func() error { return probe.DNS(ctx, c.plan) })
	for _, n := range c.plan.All() {
		group.Go(func() error {
			_, err := c.docker.Exec(ctx, n.Name, "/usr/bin/runner", "probe")
			if err != nil {
				return fmt.Errorf("on node %s: %w", n.Name, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s is %s on all nodes", probe.Name, c.plan.KubernetesService()), nil
}

// waitForReady waits until all nodes and all pods of the cluster itself are ready.
func (c *cluster) waitForReady(ctx context.Context) (string, error) {
	if c.plan.PodNetwork == "none" {
		return "as far as it can be without a pod network", nil
	}
	var waiting []string
	err := kubeapi.Follow(ctx, c.api, "/api/v1/nodes", func(nodes map[string]kubeapi.Node) bool {
		waiting = nil
		for _, n := range c.plan.All() {
			found, ok := nodes[n.Name]
			if !ok {
				waiting = append(waiting, n.Name+": missing")
			} else if ok, why := nodeReady(found, c.started); !ok {
				waiting = append(waiting, n.Name+": "+why)
			}
		}
		return len(waiting) == 0
	})
	if err != nil {
		return "", fmt.Errorf("nodes that are not ready: %s: %w", strings.Join(waiting, "; "), err)
	}
	pods := 0
	err = kubeapi.Follow(ctx, c.api, "/api/v1/namespaces/kube-system/pods", func(all map[string]kubeapi.Pod) bool {
		waiting, pods = nil, len(all)
		for name, p := range all {
			if ok, why := podReady(p, c.started); !ok {
				waiting = append(waiting, name+": "+why)
			}
		}
		slices.Sort(waiting)
		return len(waiting) == 0
	})
	if err != nil {
		return "", fmt.Errorf("pods that are not ready: %s: %w", strings.Join(waiting, "; "), err)
	}
	return fmt.Sprintf("%d nodes, %d system pods", c.plan.Nodes, pods), nil
}

// nodeReady says whether a node is ready and said so after a point in time. After a restart, the API server still has
// what it heard before.
func nodeReady(n kubeapi.Node, since time.Time) (bool, string) {
	if ok, why := kubeapi.Ready(n.Status.Conditions); !ok {
		return false, why
	}
	for _, condition := range n.Status.Conditions {
		if condition.Type == "Ready" && condition.LastHeartbeatTime.Before(since.Truncate(time.Second)) {
			return false, "has not reported yet"
		}
	}
	return true, ""
}

// podReady says whether a pod is ready, in containers that were started after a point in time.
func podReady(p kubeapi.Pod, since time.Time) (bool, string) {
	for _, s := range p.Status.ContainerStatuses {
		switch {
		case s.State.Waiting != nil:
			return false, s.State.Waiting.Reason
		case s.State.Running == nil:
			return false, "container " + s.Name + " is not running"
		case s.State.Running.StartedAt.Before(since.Truncate(time.Second)):
			return false, "has not started again"
		}
	}
	return kubeapi.Ready(p.Status.Conditions)
}
