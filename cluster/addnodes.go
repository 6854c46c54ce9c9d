package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dind-cluster/dind-cluster/api/config"
	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/cluster/component"
	"github.com/dind-cluster/dind-cluster/cluster/control"
	"github.com/dind-cluster/dind-cluster/cluster/node"
	"github.com/dind-cluster/dind-cluster/cluster/nodes"
	"github.com/dind-cluster/dind-cluster/cluster/paths"
	"github.com/dind-cluster/dind-cluster/cluster/settings"
	"github.com/dind-cluster/dind-cluster/cluster/topology"
	"github.com/dind-cluster/dind-cluster/internal/docker"
	"github.com/dind-cluster/dind-cluster/internal/kubeapi"
	"github.com/dind-cluster/dind-cluster/internal/progress"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// addNodes adds nodes to the cluster, all that were asked for or none.
func (c *cluster) addNodes(ctx context.Context, r request) error {
	asked, err := wanted(r.Request)
	if err != nil {
		return err
	}
	return c.add(ctx, r, asked)
}

// wanted returns the nodes that a request describes, each by itself. They may be without names.
func wanted(r control.Request) ([]v1alpha1.Node, error) {
	n := v1alpha1.Node{Role: v1alpha1.RoleWorker}
	if r.File != nil {
		var err error
		if n, err = config.ReadNode(r.File.Name, r.File.Data); err != nil {
			return nil, control.Usage("%v", err)
		}
	}
	count := 1
	if n.Count != nil {
		count, n.Count = *n.Count, nil
	}
	var errs []error
	if r.Role != "" {
		n.Role = r.Role
	}
	if r.Count != 0 {
		count = r.Count
	}
	switch {
	case len(r.Nodes) > 0 && r.Count != 0 && r.Count != len(r.Nodes):
		errs = append(errs, fmt.Errorf("%d nodes and %d names: leave one of them away", r.Count, len(r.Nodes)))
	case len(r.Nodes) > 0:
		count = len(r.Nodes)
	case n.Name != "" && count != 1:
		errs = append(errs, fmt.Errorf("%d nodes cannot have the one name %q", count, n.Name))
	}
	if err := v1alpha1.Between(count, 1, v1alpha1.MaxNodes); err != nil {
		errs = append(errs, fmt.Errorf("%d nodes: %w", count, err))
	}
	n.Labels = maps.Clone(n.Labels)
	for _, text := range r.Labels {
		key, value, ok := strings.Cut(text, "=")
		if !ok || key == "" {
			errs = append(errs, fmt.Errorf("label %q: want KEY=VALUE", text))
			continue
		}
		if n.Labels == nil {
			n.Labels = map[string]string{}
		}
		n.Labels[key] = value
	}
	for _, text := range r.Taints {
		// As kubectl taint has it: the value may be left away.
		key, effect, ok := cutLast(text, ":")
		key, value, _ := strings.Cut(key, "=")
		if !ok || key == "" || effect == "" {
			errs = append(errs, fmt.Errorf("taint %q: want KEY=VALUE:EFFECT or KEY:EFFECT", text))
			continue
		}
		n.Taints = append(slices.Clone(n.Taints), v1alpha1.Taint{Key: key, Value: value, Effect: effect})
	}
	if err := errors.Join(errs...); err != nil {
		return nil, control.Usage("%v", err)
	}
	all := slices.Repeat([]v1alpha1.Node{n}, count)
	for i, name := range r.Nodes {
		all[i].Name = name
	}
	return all, nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// add adds the given nodes. If one of them does not come up, or the caller goes away, all of them are
// removed again.
func (c *cluster) add(ctx context.Context, r request, asked []v1alpha1.Node) (err error) {
	if err := c.answers(ctx); err != nil {
		return err
	}
	var registered struct{ Items []kubeapi.Node }
	if err := c.api.Get(ctx, "/api/v1/nodes", &registered); err != nil {
		return fmt.Errorf("reading the nodes: %w", err)
	}
	var taken []string
	for _, n := range registered.Items {
		taken = append(taken, n.Metadata.Name)
	}
	c.mu.Lock()
	s := *c.state
	c.mu.Unlock()
	next, added, err := grow(&s, asked, taken)
	if err != nil {
		return err
	}
	if err := c.checkRoom(added); err != nil {
		return err
	}
	for _, n := range added {
		for _, p := range n.Ports {
			r.log.Printf("port %d of %s: this machine has it if the cluster's container was started with --publish %d:%d/%s", p.Node, n.Name, p.Host, p.Host, p.Protocol)
		}
	}
	if err := c.edit(func(s *state) { s.Settings, s.Topology = next.Settings, next.Topology }); err != nil {
		return err
	}
	defer func() {
		if err == nil {
			return
		}
		// The caller may be gone, but nothing stays half done.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
		defer cancel()
		r.log.Printf("removing what was added")
		for _, n := range added {
			err = errors.Join(err, c.retire(ctx, r.log, n))
		}
	}()
	return c.bringIn(ctx, r.log, added)
}

// undoTimeout bounds the removal of nodes that did not come up.
const undoTimeout = 2 * time.Minute

// grow returns the state with further nodes, and these nodes, in the free slots of the lowest numbers.
// Taken are names that nodes cannot have.
func grow(s *state, asked []v1alpha1.Node, taken []string) (next state, added []topology.Node, err error) {
	next = *s
	before := s.Settings.Expand()
	names := map[string]bool{}
	for _, n := range before {
		names[n.Name] = true
	}
	for _, name := range append(topology.Names(s.Leaving), taken...) {
		names[name] = true
	}
	want := slices.Clone(asked)
	var errs []error
	for i, n := range want {
		before := len(errs)
		switch {
		case n.Name == "":
		case names[n.Name] && !s.Topology.Has(n.Name):
			errs = append(errs, fmt.Errorf("there is a Node object %q already: remove it first, with `kubectl delete node %s`, or choose another name", n.Name, n.Name))
		case names[n.Name]:
			errs = append(errs, fmt.Errorf("there is a node %q already", n.Name))
		case slices.ContainsFunc(want[:i], func(o v1alpha1.Node) bool { return o.Name == n.Name }):
			errs = append(errs, fmt.Errorf("the name %q is given twice", n.Name))
		}
		if len(errs) > before {
			want[i].Name = "" // so that all else can be checked
		}
		if n.Role == v1alpha1.RoleControlPlane && !s.Topology.Balanced() {
			errs = append(errs, errNotBalanced)
		}
	}
	for _, n := range want {
		names[n.Name] = true
	}
	for i, n := range want {
		if n.Name == "" {
			want[i].Name = v1alpha1.FreeName(n.Role, func(name string) bool { return names[name] })
			names[want[i].Name] = true
		}
	}
	next.Settings.Nodes = slices.Concat(before, want)
	if err := config.Mistakes(next.Settings.Validate(), len(before)); err != nil {
		errs = append(errs, err)
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	errs = slices.CompactFunc(errs, func(a, b error) bool { return a.Error() == b.Error() })
	if err := errors.Join(errs...); err != nil {
		return state{}, nil, control.Usage("%v", err)
	}
	next.Settings.Nodes = next.Settings.Expand()
	resolved := topology.Resolve(next.Settings)
	free := freeSlots(append(slices.Clone(s.Topology.Nodes), s.Leaving...))
	next.Topology.Nodes = slices.Clone(s.Topology.Nodes)
	for i, n := range want {
		node, _ := resolved.Node(n.Name)
		node.Slot = free[i]
		node.IPs, node.PodCIDRs = s.Topology.Networks.Slot(node.Slot)
		added = append(added, node)
		// The first is always a control plane, whichever is removed.
		at := len(next.Topology.Nodes)
		if node.Role == topology.ControlPlane {
			at = len(next.Topology.ControlPlanes())
		}
		next.Topology.Nodes = slices.Insert(next.Topology.Nodes, at, node)
	}
	return next, added, nil
}

var errNotBalanced = errors.New("a control plane cannot be added to this cluster: its certificates and kubeconfigs name the address of its only control plane. " +
	"One that is made with networking.apiServerLoadBalancer: true, or with several control planes, has a load balancer before them, and takes others")

// freeSlots returns the slots that no node has, the lowest first.
func freeSlots(all []topology.Node) []int {
	taken := map[int]bool{}
	for _, n := range all {
		taken[n.Slot] = true
	}
	var free []int
	for slot := range v1alpha1.MaxNodes {
		if !taken[slot] {
			free = append(free, slot)
		}
	}
	return free
}

// checkRoom refuses nodes for which this machine has no room, as preflight does for a whole cluster.
func (c *cluster) checkRoom(added []topology.Node) error {
	if err := checkMounts(added); err != nil {
		return err
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(paths.DockerRoot, &fs); err != nil {
		return fmt.Errorf("reading the free space of %s: %w", paths.DockerRoot, err)
	}
	memory, err := availableMemory("/")
	if err != nil {
		return err
	}
	var need int64
	for _, n := range added {
		if n.Role == topology.ControlPlane {
			need += minMemoryPerControlPlane
		} else {
			need += minMemoryPerWorker
		}
	}
	free, disk := int64(fs.Bavail)*fs.Bsize, settings.Disk(len(added)+1)-settings.Disk(1)
	switch {
	case memory < need:
		return fmt.Errorf("the Docker host has %s of memory free for this container, and %d more node(s) need %s before anything runs in them", progress.Size(memory), len(added), progress.Size(need))
	case free < disk:
		return fmt.Errorf("the volume /var/lib/docker has %s free, and %d more node(s) need %s: make room on the Docker host, for example with `docker system prune`", progress.Size(free), len(added), progress.Size(disk))
	case fs.Files > 0 && fs.Ffree < uint64(len(added)*minInodesPerNode):
		return fmt.Errorf("the volume /var/lib/docker can take %d more files (inodes), and %d more node(s) need %d", fs.Ffree, len(added), len(added)*minInodesPerNode)
	}
	return nil
}

// bringIn starts nodes that the state has, and waits until pods can run on them.
func (c *cluster) bringIn(ctx context.Context, log *progress.Printer, added []topology.Node) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var done sync.WaitGroup
	for _, n := range added {
		done.Add(1)
		once := sync.OnceFunc(done.Done)
		defer once()
		defer c.hear(n.Name, func(r node.Report) {
			switch {
			case r.Done:
				once()
			case r.Error != "":
				log.Printf("%s", r.Log)
				fail(fmt.Errorf("node %s: %s", r.Node, r.Error))
			case r.Step != "":
				log.Printf("    %s: %s (%s)", r.Node, r.Step, progress.Duration(r.Took))
			}
		})()
	}
	c.whenDead(ctx, added, fail)
	do := func(name string, f func() error) error {
		step := log.Step("%s", name)
		err := f()
		if err == nil {
			step.Done("")
			return nil
		}
		step.Fail("")
		if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
			err = cause
		}
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := do("starting "+strings.Join(topology.Names(added), ", "), func() error {
		if err := runBatch(ctx, podRoutes(c.topology.Networks, added)); err != nil {
			return err
		}
		if err := c.reloadBalancer(ctx); err != nil {
			return err
		}
		return c.startNodes(ctx, added, nil)
	}); err != nil {
		return err
	}
	if err := do("joining the cluster", func() error {
		joined := make(chan struct{})
		go func() {
			done.Wait()
			close(joined)
		}()
		select {
		case <-joined:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := c.waitForStaticPods(ctx, added); err != nil {
			return err
		}
		return c.waitUntilReady(ctx, added, time.Time{})
	}); err != nil {
		return err
	}
	return c.joined(topology.Names(added), nil)
}

// waitForStaticPods waits until the control planes among some nodes have all their pods, and these are
// ready.
func (c *cluster) waitForStaticPods(ctx context.Context, all []topology.Node) error {
	var want []string
	for _, n := range all {
		if n.Role == topology.ControlPlane {
			for _, component := range component.Which(component.StaticPod) {
				want = append(want, "kube-system/"+component.Name+"-"+n.Name)
			}
		}
	}
	if len(want) == 0 {
		return nil
	}
	var waiting []string
	err := kubeapi.Follow(ctx, c.api, "/api/v1/namespaces/kube-system/pods", func(found map[string]kubeapi.Pod) bool {
		waiting = nil
		for _, name := range want {
			if ok, why := kubeapi.Ready(found[name].Status.Conditions); !ok {
				waiting = append(waiting, name+": "+why)
			}
		}
		return len(waiting) == 0
	})
	if err != nil {
		return fmt.Errorf("pods that are not ready: %s: %w", strings.Join(waiting, "; "), err)
	}
	return nil
}

// whenDead calls fail when the container of one of the nodes ends, until ctx does.
func (c *cluster) whenDead(ctx context.Context, all []topology.Node, fail func(error)) {
	since := time.Now()
	go func() {
		_ = c.docker.Events(ctx, since, func(e docker.Event) bool {
			a := e.Actor.Attributes
			if slices.Contains(topology.Names(all), a["name"]) {
				fail(fmt.Errorf("the container of node %s has ended (exit status %s)", a["name"], a["exitCode"]))
			}
			return true
		}, "type=container", "event=die", "label="+nodes.Label)
	}()
}

// waitUntilReady waits until nodes are ready and services can be reached from them. What they
// reported before a time does not count.
func (c *cluster) waitUntilReady(ctx context.Context, all []topology.Node, since time.Time) error {
	noNetwork := c.topology.Networks.PodNetwork == v1alpha1.PodNetworkNone
	var waiting []string
	err := kubeapi.Follow(ctx, c.api, "/api/v1/nodes", func(found map[string]kubeapi.Node) bool {
		waiting = nil
		if noNetwork {
			for _, n := range all {
				if _, ok := found[n.Name]; !ok {
					waiting = append(waiting, n.Name+": it is not registered")
				}
			}
			return len(waiting) == 0
		}
		waiting = unreadyNodes(found, all, func(t time.Time) bool { return !t.Before(since.Truncate(time.Second)) })
		for _, n := range all {
			if have, ok := found[n.Name]; ok && have.Spec.PodCIDR == "" {
				waiting = append(waiting, n.Name+": it has no addresses for pods yet")
			}
		}
		return len(waiting) == 0
	})
	if err != nil {
		return fmt.Errorf("not ready: %s: %w", strings.Join(waiting, "; "), err)
	}
	if noNetwork {
		return nil
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for _, n := range all {
		group.Go(func() error {
			if _, err := c.docker.Exec(ctx, n.Name, "/usr/bin/runner", "probe"); err != nil {
				return fmt.Errorf("the cluster's DNS does not answer on node %s: %w", n.Name, err)
			}
			return nil
		})
	}
	return group.Wait()
}
