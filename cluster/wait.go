package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/cluster/component"
	"github.com/dind-cluster/dind-cluster/cluster/probe"
	"github.com/dind-cluster/dind-cluster/cluster/topology"
	"github.com/dind-cluster/dind-cluster/internal/kubeapi"
	"golang.org/x/sync/errgroup"
)

// waitForControlPlane waits until the API server is ready.
func (c *cluster) waitForControlPlane(ctx context.Context) (string, error) {
	return "", c.api.WaitFor(ctx, "/readyz")
}

// waitForNodes waits until all nodes have registered, and completes them.
func (c *cluster) waitForNodes(ctx context.Context) (string, error) {
	want := c.expected()
	var missing []string
	var incomplete error
	err := kubeapi.Follow(ctx, c.api, "/api/v1/nodes", func(found map[string]kubeapi.Node) bool {
		missing = nil
		for _, n := range want {
			if _, ok := found[n.Name]; !ok {
				missing = append(missing, n.Name)
			}
		}
		incomplete = c.complete(ctx, found)
		return len(missing) == 0 && incomplete == nil
	})
	if err != nil {
		return "", fmt.Errorf("still missing: %s: %w", strings.Join(missing, ", "), errors.Join(err, incomplete))
	}
	return fmt.Sprintf("%d node(s)", len(want)), nil
}

// waitForDNS waits until the cluster's DNS service answers in this container and on every node. On
// each that takes its kube-proxy, the pod network and CoreDNS.
func (c *cluster) waitForDNS(ctx context.Context) (string, error) {
	if c.topology.Networks.PodNetwork == v1alpha1.PodNetworkNone {
		return "not without a pod network", nil
	}
	if c.topology.ProxyMode == v1alpha1.KubeProxyNone {
		return c.waitForDNSPods(ctx)
	}
	if c.resumed {
		err := c.api.Get(ctx, "/api/v1/namespaces/kube-system/services/kube-dns", nil)
		if kubeapi.NotFound(err) {
			return "there is no service kube-dns", nil
		}
		if err != nil {
			return "", err
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	group.Go(func() error { return probe.DNS(ctx, c.topology.Networks) })
	for _, n := range c.expected() {
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
	return fmt.Sprintf("%s is %s on all nodes", probe.Name, c.topology.Networks.KubernetesService()), nil
}

// waitForDNSPods waits until a new cluster's DNS has pods, for which waitForReady waits then. Without
// kube-proxy its service leads nowhere.
func (c *cluster) waitForDNSPods(ctx context.Context) (string, error) {
	const detail = "without kube-proxy its service does not answer"
	if c.resumed {
		return detail, nil
	}
	return detail, kubeapi.Follow(ctx, c.api, "/api/v1/namespaces/kube-system/pods", func(all map[string]kubeapi.Pod) bool {
		for _, p := range all {
			if p.Metadata.Labels["k8s-app"] == "kube-dns" {
				return true
			}
		}
		return false
	})
}

// waitForReady waits until all nodes are ready, and so are the pods of the cluster itself.
func (c *cluster) waitForReady(ctx context.Context) (string, error) {
	if c.topology.Networks.PodNetwork == v1alpha1.PodNetworkNone {
		return "as far as it can be without a pod network", nil
	}
	want, since := c.expected(), c.since()
	var waiting []string
	err := kubeapi.Follow(ctx, c.api, "/api/v1/nodes", func(found map[string]kubeapi.Node) bool {
		waiting = unreadyNodes(found, want, since)
		return len(waiting) == 0
	})
	if err != nil {
		return "", fmt.Errorf("nodes that are not ready: %s: %w", strings.Join(waiting, "; "), err)
	}
	var others []string
	pods := 0
	err = kubeapi.Follow(ctx, c.api, "/api/v1/namespaces/kube-system/pods", func(all map[string]kubeapi.Pod) bool {
		pods = len(all)
		waiting, others = unreadyPods(all, want, since, c.resumed)
		return len(waiting) == 0
	})
	if err != nil {
		return "", fmt.Errorf("pods that are not ready: %s: %w", strings.Join(waiting, "; "), err)
	}
	for _, o := range others {
		c.log.Printf("    not ready, but not waited for: %s", o)
	}
	return fmt.Sprintf("%d nodes, %d system pods", len(want), pods), nil
}

// since returns a function that reports whether a time noted by a component of the cluster lies in
// this start. In a new cluster every time does.
func (c *cluster) since() func(time.Time) bool {
	if !c.resumed {
		return func(time.Time) bool { return true }
	}
	return after(c.started, time.Now, c.age)
}

// after returns a function that reports whether a noted time lies between a start and now. The
// clock may have been set meanwhile: the time is right by the clock as it was at the start or as it
// is now. The time passed since the start, which another clock measures, leads from one to the
// other. Kubernetes keeps whole seconds (metav1.Time).
func after(start time.Time, now func() time.Time, passed func() time.Duration) func(time.Time) bool {
	return func(t time.Time) bool {
		gone := passed()
		for _, begin := range []time.Time{start.Round(0), now().Round(0).Add(-gone)} {
			if !t.Before(begin.Truncate(time.Second)) && !t.After(begin.Add(gone+time.Second)) {
				return true
			}
		}
		return false
	}
}

// unreadyNodes returns which nodes are not ready, or have not reported since the start, and why.
func unreadyNodes(found map[string]kubeapi.Node, want []topology.Node, since func(time.Time) bool) []string {
	var out []string
	for _, n := range want {
		have, ok := found[n.Name]
		if !ok {
			out = append(out, n.Name+": it is not registered")
			continue
		}
		if ok, why := kubeapi.Ready(have.Status.Conditions); !ok {
			out = append(out, n.Name+": "+why)
			continue
		}
		for _, condition := range have.Status.Conditions {
			if condition.Type == "Ready" && !since(condition.LastHeartbeatTime) {
				out = append(out, n.Name+": it has not reported since the start")
			}
		}
	}
	return out
}

// unreadyPods returns which pods of kube-system are not ready, and why: those that a cluster needs,
// and others. A new cluster needs all. Later anything may be in there: of a cluster that comes
// back, only static pods, kube-proxy and CoreDNS count, on nodes that do.
func unreadyPods(all map[string]kubeapi.Pod, want []topology.Node, since func(time.Time) bool, resumed bool) (needed, others []string) {
	on := func(node string) bool {
		return slices.ContainsFunc(want, func(n topology.Node) bool { return n.Name == node })
	}
	for name, p := range all {
		ok, why := podReady(p, since)
		counts := p.Static() || component.IsAddOn(p.Metadata.Labels["k8s-app"])
		gone := p.Finished() || p.Metadata.DeletionTimestamp != nil
		switch {
		case ok || resumed && p.Status.Phase == "Succeeded":
		case !resumed || counts && !gone && (on(p.Spec.NodeName) || p.Spec.NodeName == ""):
			needed = append(needed, name+": "+why)
		default:
			others = append(others, name+": "+why)
		}
	}
	if !resumed {
		// The kubelet makes the mirror pods of static pods when it can, which may be after
		// everything else.
		for _, n := range want {
			if n.Role != topology.ControlPlane {
				continue
			}
			for _, c := range component.Which(component.StaticPod) {
				name := "kube-system/" + c.Name + "-" + n.Name
				if _, ok := all[name]; !ok {
					needed = append(needed, name+": it does not appear yet")
				}
			}
		}
	}
	slices.Sort(needed)
	slices.Sort(others)
	return needed, others
}

// podReady reports whether a pod is ready, in containers that were started since the start; if not,
// why.
func podReady(p kubeapi.Pod, since func(time.Time) bool) (bool, string) {
	if p.Finished() {
		return false, cmp.Or(p.Status.Reason, p.Status.Phase)
	}
	for _, s := range p.Status.ContainerStatuses {
		switch {
		case s.State.Waiting != nil:
			return false, s.State.Waiting.Reason
		case s.State.Running == nil:
			return false, "container " + s.Name + " is not running"
		case !since(s.State.Running.StartedAt):
			return false, "it has not started again"
		}
	}
	return kubeapi.Ready(p.Status.Conditions)
}
