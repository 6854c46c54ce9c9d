package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/cluster/control"
	"github.com/dind-cluster/dind-cluster/cluster/topology"
	"github.com/dind-cluster/dind-cluster/internal/kubeapi"
	"github.com/dind-cluster/dind-cluster/internal/progress"
	"golang.org/x/sync/errgroup"
)

// removeNodes drains nodes and removes them.
func (c *cluster) removeNodes(ctx context.Context, r request) error {
	if err := c.finishRemovals(ctx); err != nil {
		return err
	}
	gone, err := c.find(r.Nodes)
	if err != nil {
		return err
	}
	return c.remove(ctx, r, gone)
}

// scale adds workers, or removes those of the highest numbers, until there are as many as asked for.
func (c *cluster) scale(ctx context.Context, r request) error {
	workers := workersByNumber(c.topology)
	most := v1alpha1.MaxNodes - len(c.topology.ControlPlanes())
	if err := v1alpha1.Between(r.Workers, 0, most); err != nil {
		return control.Usage("%d workers: %v", r.Workers, err)
	}
	switch more := r.Workers - len(workers); {
	case more > 0:
		return c.add(ctx, r, slices.Repeat([]v1alpha1.Node{{Role: v1alpha1.RoleWorker}}, more))
	case more < 0:
		return c.remove(ctx, r, workers[r.Workers:])
	}
	r.log.Printf("there are %d workers already", r.Workers)
	return nil
}

// workersByNumber returns the workers: those with names of their users' first, then by the numbers in
// their names.
func workersByNumber(t topology.Topology) []topology.Node {
	workers := slices.DeleteFunc(slices.Clone(t.Nodes), func(n topology.Node) bool { return n.Role != topology.Worker })
	slices.SortStableFunc(workers, func(a, b topology.Node) int {
		return v1alpha1.Number(a.Role, a.Name) - v1alpha1.Number(b.Role, b.Name)
	})
	return workers
}

func (c *cluster) remove(ctx context.Context, r request, gone []topology.Node) error {
	controlPlanes := len(c.topology.ControlPlanes())
	for _, n := range gone {
		if n.Role == topology.ControlPlane {
			controlPlanes--
		}
	}
	if controlPlanes == 0 {
		return control.Usage("%s: the last control plane has the cluster and cannot be removed; `delete` removes the cluster", strings.Join(topology.Names(gone), ", "))
	}
	if err := c.answers(ctx); err != nil {
		return err
	}
	if !r.Force {
		if err := c.drain(ctx, r, gone); err != nil {
			return err
		}
	}
	// From here on the removal is carried through, even if the caller goes away.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.limit)
	defer cancel()
	var group errgroup.Group
	group.SetLimit(parallel)
	var errs []error
	for _, n := range gone {
		if n.Role == topology.ControlPlane {
			// One after the other: etcd has a majority at each moment.
			errs = append(errs, c.retire(ctx, r.log, n))
		}
	}
	for _, n := range gone {
		if n.Role == topology.Worker {
			group.Go(func() error { return c.retire(ctx, r.log, n) })
		}
	}
	return errors.Join(append(errs, group.Wait())...)
}

// drain has nodes take no more pods, and the pods on them evicted: those that a DaemonSet makes on
// each node stay, and so do static ones, as with kubectl drain. If that cannot be done, the nodes take
// pods again.
func (c *cluster) drain(ctx context.Context, r request, all []topology.Node) (err error) {
	step := r.log.Step("draining %s", strings.Join(topology.Names(all), ", "))
	evicted := 0
	var cordoned []string
	defer func() {
		if err == nil {
			step.Done("%d pod(s) moved", evicted)
			return
		}
		step.Fail("")
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		for _, name := range cordoned {
			err = errors.Join(err, c.cordon(ctx, name, false))
		}
	}()
	var unmanaged []string
	for _, n := range all {
		pods, err := c.podsOn(ctx, n.Name)
		if err != nil {
			return err
		}
		for _, p := range pods {
			if evictable(p) && p.Metadata.Controller() == "" {
				unmanaged = append(unmanaged, fmt.Sprintf("%s/%s on %s", p.Metadata.Namespace, p.Metadata.Name, n.Name))
			}
		}
	}
	if len(unmanaged) > 0 {
		return control.Usage("pods that nothing would make anew: %s; delete them, or remove the node with --force", strings.Join(unmanaged, ", "))
	}
	for _, n := range all {
		var have kubeapi.Node
		switch err := c.api.Get(ctx, "/api/v1/nodes/"+n.Name, &have); {
		case kubeapi.NotFound(err):
		case err != nil:
			return fmt.Errorf("draining %s: %w", n.Name, err)
		case !have.Spec.Unschedulable:
			cordoned = append(cordoned, n.Name)
			if err := c.cordon(ctx, n.Name, true); err != nil {
				return err
			}
		}
	}
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	for _, n := range all {
		group.Go(func() error {
			count, err := c.evict(ctx, n.Name)
			mu.Lock()
			defer mu.Unlock()
			evicted += count
			return err
		})
	}
	return group.Wait()
}

func (c *cluster) cordon(ctx context.Context, name string, on bool) error {
	err := c.api.Patch(ctx, "/api/v1/nodes/"+name, map[string]any{"spec": map[string]any{"unschedulable": on}})
	if err != nil && !kubeapi.NotFound(err) {
		return fmt.Errorf("cordoning %s: %w", name, err)
	}
	return nil
}

func podsPath(node string) string {
	return "/api/v1/pods?fieldSelector=" + url.QueryEscape("spec.nodeName="+node)
}

func (c *cluster) podsOn(ctx context.Context, node string) ([]kubeapi.Pod, error) {
	var list struct{ Items []kubeapi.Pod }
	if err := c.api.Get(ctx, podsPath(node), &list); err != nil {
		return nil, fmt.Errorf("reading the pods of %s: %w", node, err)
	}
	return list.Items, nil
}

// evictable reports whether a pod has to leave a node that is drained.
func evictable(p kubeapi.Pod) bool {
	return !p.Static() && !p.Finished() && p.Metadata.Controller() != "DaemonSet"
}

// evict has all pods leave a node that have to, as their disruption budgets allow, and returns how
// many there were.
func (c *cluster) evict(ctx context.Context, node string) (int, error) {
	asked := map[string]bool{}
	why := map[string]string{}
	for {
		pods, err := c.podsOn(ctx, node)
		left := slices.DeleteFunc(pods, func(p kubeapi.Pod) bool { return !evictable(p) })
		if err == nil && len(left) == 0 {
			return len(asked), nil
		}
		now := map[string]string{}
		for _, p := range left {
			name := p.Metadata.Namespace + "/" + p.Metadata.Name
			asked[name] = true
			if p.Metadata.DeletionTimestamp != nil {
				now[name] = "it is still ending"
				continue
			}
			err := c.api.Post(ctx, fmt.Sprintf("/api/v1/namespaces/%s/pods/%s/eviction", p.Metadata.Namespace, p.Metadata.Name), map[string]any{
				"apiVersion": "policy/v1", "kind": "Eviction",
				"metadata": map[string]any{"namespace": p.Metadata.Namespace, "name": p.Metadata.Name},
			})
			switch {
			case err == nil:
				now[name] = "it is still ending"
			case !kubeapi.NotFound(err):
				// 429 while a disruption budget forbids it
				// (https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction).
				now[name] = err.Error()
			}
		}
		// What failed because the time is up says nothing.
		if err == nil && ctx.Err() == nil || len(why) == 0 {
			why = now
		}
		select {
		case <-ctx.Done():
			var reasons []string
			for name, reason := range why {
				reasons = append(reasons, name+": "+reason)
			}
			slices.Sort(reasons)
			return 0, fmt.Errorf("draining %s: %w; pods that did not leave: %s; give it longer with --timeout, or remove the node without draining with --force",
				node, context.Cause(ctx), strings.Join(reasons, "; "))
		case <-time.After(again):
		}
	}
}

// retire removes a node. If that is interrupted, the next start or the next removal goes on with it.
func (c *cluster) retire(ctx context.Context, log *progress.Printer, n topology.Node) error {
	step := log.Step("removing %s", n.Name)
	if err := c.edit(func(s *state) {
		s.Topology.Nodes = without(s.Topology.Nodes, n.Name)
		s.Settings.Nodes = slices.DeleteFunc(s.Settings.Expand(), func(o v1alpha1.Node) bool { return o.Name == n.Name })
		s.Joined = slices.DeleteFunc(slices.Clone(s.Joined), func(name string) bool { return name == n.Name })
		s.Leaving = append(without(s.Leaving, n.Name), n)
	}); err != nil {
		step.Fail("")
		return err
	}
	if err := c.finishRemoval(ctx, n); err != nil {
		step.Fail("")
		return fmt.Errorf("removing node %s: %w; the next start of the cluster goes on with it", n.Name, err)
	}
	step.Done("")
	return nil
}

func without(all []topology.Node, name string) []topology.Node {
	return slices.DeleteFunc(slices.Clone(all), func(n topology.Node) bool { return n.Name == name })
}

// finishRemovals goes on with removals that were interrupted.
func (c *cluster) finishRemovals(ctx context.Context) error {
	for _, n := range c.state.Leaving {
		if err := c.finishRemoval(ctx, n); err != nil {
			return fmt.Errorf("removing node %s: %w", n.Name, err)
		}
	}
	return nil
}

// startLeaving starts control planes again that are still members of etcd: without them there may be
// no majority that could remove them. One that does not start may be none any more.
func (c *cluster) startLeaving(ctx context.Context) {
	for _, n := range c.state.Leaving {
		if n.Role == topology.ControlPlane {
			if err := c.docker.Start(ctx, n.Name); err != nil {
				c.log.Printf("    %s, which is being removed, does not start: %v", n.Name, err)
			}
		}
	}
}

// stopStaticPods stops a control plane in the order in which others learn of it soonest: the API
// server takes itself off the endpoints of the service "kubernetes" while its etcd still runs.
const stopStaticPods = `systemctl stop kubelet
pods=$(crictl ps --quiet --label io.kubernetes.pod.namespace=kube-system --name '^kube-(apiserver|controller-manager|scheduler)$')
[ -z "$pods" ] || crictl stop --timeout 5 $pods`

// insist repeats requests while a control plane goes: connections to it end, and etcd may have to
// elect another leader. It returns other errors of the API server, and the last one when ctx ends.
func insist(ctx context.Context, requests func() error) error {
	for {
		err := requests()
		var status *kubeapi.StatusError
		if err == nil || ctx.Err() != nil || errors.As(err, &status) && status.Code < 500 {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(again):
		}
	}
}

// finishRemoval does what is left of the removal of a node that the topology no longer has.
func (c *cluster) finishRemoval(ctx context.Context, n topology.Node) error {
	if n.Role == topology.ControlPlane {
		if err := c.reloadBalancer(ctx); err != nil {
			return err
		}
		// It may be gone, or broken: what it does not do itself, the others see to.
		if out, err := c.docker.Exec(ctx, n.Name, "sh", "-c", stopStaticPods); err != nil {
			c.log.Printf("    %s does not stop by itself: %v %s", n.Name, err, out)
		}
		if err := c.removeMember(ctx, n); err != nil {
			return err
		}
	}
	if err := c.docker.Remove(ctx, n.Name); err != nil {
		return err
	}
	if err := insist(ctx, func() error { return c.api.Delete(ctx, "/api/v1/nodes/"+n.Name) }); err != nil {
		return err
	}
	// What was bound to it is gone with it. The garbage collector would wait 40 seconds for the node to
	// come back (quarantineTime in
	// https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/controller/podgc/gc_controller.go), and
	// another node of the name would run it again.
	if err := insist(ctx, func() error {
		pods, err := c.podsOn(ctx, n.Name)
		for _, p := range pods {
			path := fmt.Sprintf("/api/v1/namespaces/%s/pods/%s?gracePeriodSeconds=0", p.Metadata.Namespace, p.Metadata.Name)
			err = errors.Join(err, c.api.Delete(ctx, path))
		}
		return err
	}); err != nil {
		return err
	}
	for _, cidr := range n.PodCIDRs {
		if out, err := exec.CommandContext(ctx, "ip", "route", "flush", cidr.String()).CombinedOutput(); err != nil {
			return fmt.Errorf("removing the route to its pods: %w: %s", err, out)
		}
	}
	if err := os.RemoveAll(nodeDir(n.Name)); err != nil {
		return err
	}
	return c.edit(func(s *state) { s.Leaving = without(s.Leaving, n.Name) })
}
