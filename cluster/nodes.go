package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/dind-cluster/dind-cluster/cluster/action"
	"github.com/dind-cluster/dind-cluster/cluster/node"
	"github.com/dind-cluster/dind-cluster/cluster/nodes"
	"github.com/dind-cluster/dind-cluster/cluster/paths"
	"github.com/dind-cluster/dind-cluster/cluster/topology"
	"github.com/dind-cluster/dind-cluster/internal/docker"
	"golang.org/x/sync/errgroup"
)

// parallel is how many containers are started at a time.
const parallel = 8

// look returns the actions that find out what exists. For a new cluster one checks that there can
// be one.
func (c *cluster) look() []action.Action {
	list := []action.Action{{Name: "looking for nodes", Run: c.compare}}
	if !c.resumed || c.restored {
		list = append(list, action.Action{Name: "checking the container", Run: c.preflight})
	}
	return list
}

// plan returns the actions that lead from what exists to the cluster of the topology, on a machine
// with the given number of cores.
func (c *cluster) plan(cores int) []action.Action {
	var list []action.Action
	add := func(a action.Action) string {
		list = append(list, a)
		return a.Name
	}
	network := add(action.Action{Name: "making the nodes' network", Run: c.makeNetwork})
	ready := []string{network} // to make or start nodes
	if !c.resumed {
		ready = append(ready, add(action.Action{Name: "making keys", Run: c.makeSecrets}))
	}
	if c.topology.Balanced() {
		ready = append(ready, add(action.Action{Name: "starting the load balancer", Needs: ready, Run: c.startBalancer}))
	}
	if !c.resumed {
		if len(c.changes.remove) > 0 {
			ready = append(ready, add(action.Action{Name: "removing what is left of an interrupted start", Run: c.removeLeftovers}))
		}
		ready = []string{add(action.Action{Name: "starting the first node", Needs: ready, Run: c.startInit})}
	} else {
		ready = []string{add(action.Action{Name: "starting the nodes again", Needs: ready, Run: c.restartNodes})}
	}
	answers := add(action.Action{Name: "waiting for the API server", Needs: ready, Run: c.waitForServer})
	if c.fresh {
		add(action.Action{Name: "giving objects the new keys", Needs: []string{answers}, Run: c.renewObjects})
	}
	control := add(action.Action{Name: "starting the control plane", Needs: []string{answers}, Run: c.waitForControlPlane})
	before := []string{control} // before nodes are waited for
	var joined []string
	switch {
	case c.resumed:
		before = append(before, add(action.Action{Name: "making missing nodes", Needs: []string{control}, Run: c.createMissing}))
	case len(c.changes.create) > 1:
		if cores < coresPerNode*len(c.changes.create) {
			ready = []string{answers}
		}
		// Meanwhile waitForNodes completes the nodes that have registered.
		joined = append(joined, add(action.Action{Name: "starting the other nodes", Needs: ready, Run: c.startOthers}))
	}
	joined = append(joined, add(action.Action{Name: "joining the nodes", Needs: before, Run: c.waitForNodes, Retry: true}))
	dns := add(action.Action{Name: "starting the cluster's DNS", Needs: joined, Run: c.waitForDNS, Retry: true})
	ready = []string{add(action.Action{Name: "waiting until everything is ready", Needs: []string{dns}, Run: c.waitForReady, Retry: true})}
	return append(list, c.planExtras(ready)...)
}

// coresPerNode is how many of the machine's cores a node keeps busy while it starts. Where there
// are fewer, the other nodes start only when the API server answers: it needs the cores until then
// and mostly waits for the disk afterwards, and the other nodes can do nothing earlier.
const coresPerNode = 2

// compare finds out which nodes exist.
func (c *cluster) compare(ctx context.Context) (string, error) {
	have, err := nodes.All(ctx, c.docker)
	if err != nil {
		return "", err
	}
	if c.state.Joined == nil && len(have) > 0 {
		return "", fmt.Errorf("the volume %s has nodes of a cluster (%s, …), but not the cluster's state (%s), without which it cannot be brought back: start it with the container or the image that made it, or start a container with a new volume",
			paths.DockerRoot, have[0].Names, stateFile(paths.State))
	}
	if c.changes, err = difference(c.topology.Nodes, have, c.state.Joined); err != nil {
		return "", err
	}
	if c.resumed {
		if err := c.writeKubeconfig(); err != nil {
			return "", err
		}
		return fmt.Sprintf("%d of %d", len(c.changes.start), len(c.topology.Nodes)), c.connect()
	}
	return "", nil
}

func (c *cluster) removeLeftovers(ctx context.Context) (string, error) {
	for _, o := range c.changes.remove {
		if err := c.docker.Remove(ctx, o.ID); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%d node(s)", len(c.changes.remove)), nil
}

// startInit starts the node that all others wait for.
func (c *cluster) startInit(ctx context.Context) (string, error) {
	c.watch(c.whole)
	n := c.changes.create[0]
	return n.Name, c.startNodes(ctx, []topology.Node{n}, nil)
}

// startOthers starts all other nodes.
func (c *cluster) startOthers(ctx context.Context) (string, error) {
	others := c.changes.create[1:]
	return strings.Join(topology.Names(others), ", "), c.startNodes(ctx, others, nil)
}

// waitForServer waits until the API server answers, with whatever status.
func (c *cluster) waitForServer(ctx context.Context) (string, error) {
	return "", c.api.WaitForServer(ctx)
}

// startNodes starts containers for new nodes. If failed is not nil, it gets the error of a node
// that does not start, and the others go on; otherwise the first error ends all.
func (c *cluster) startNodes(ctx context.Context, all []topology.Node, failed func(node string, err error)) error {
	image, err := nodeImage()
	if err != nil {
		return err
	}
	stores, err := storeMounts(paths.NodeStore, paths.DockerContainerd)
	if err != nil {
		return err
	}
	source := append(stores, image)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for _, n := range all {
		group.Go(func() error {
			err := c.startNode(ctx, n, source)
			if err != nil && failed != nil {
				failed(n.Name, err)
				return nil
			}
			return err
		})
	}
	return group.Wait()
}

func (c *cluster) startNode(ctx context.Context, n topology.Node, source []string) error {
	kubelet, err := c.state.Secrets.CA.NewClient("system:node:"+n.Name, []string{"system:nodes"}, time.Now())
	if err != nil {
		return err
	}
	serving, err := c.state.Secrets.CA.NewServer(n.Name, addresses(n), time.Now())
	if err != nil {
		return err
	}
	mtu, err := c.mtu()
	if err != nil {
		return err
	}
	config := node.Config{
		Topology: c.topology,
		Node:     n,
		Timeout:  time.Duration(c.settings.Start.Timeout),
		MTU:      mtu,
		CA:       c.state.Secrets.CA,
		Kubelet:  *kubelet,
		Serving:  *serving,
	}
	if n.Role == topology.ControlPlane {
		config.Shared = &c.state.Secrets.Shared
		config.Join = c.resumed || n.Name != c.topology.Init().Name
	} else {
		config.CA.Key = nil
	}
	if err := config.Write(nodeDir(n.Name)); err != nil {
		return err
	}
	cpus, err := ownCPUs()
	if err != nil {
		return err
	}
	if _, err := c.docker.Run(ctx, slices.Concat(runArgs(n), networkOptions(c.topology.Networks, n, modulesDir), limitArgs(c.topology.Nodes, n, cpus), addonArgs(c.settings, n), source)...); err != nil {
		return fmt.Errorf("starting node %s: %w", n.Name, err)
	}
	return nil
}

// addresses returns a node's addresses for its certificate.
func addresses(n topology.Node) []net.IP {
	var ips []net.IP
	for _, ip := range n.IPs {
		ips = append(ips, ip.AsSlice())
	}
	return ips
}

// runArgs returns the options of `docker run` for a node.
func runArgs(n topology.Node) []string {
	args := []string{
		"--name", n.Name,
		"--hostname", n.Name,
		"--label", nodes.Label + "=" + n.Name,
		"--label", nodes.RoleLabel + "=" + string(n.Role),
		"--privileged",
		// With cgroup v1 Docker's default is the host's namespace
		// (https://github.com/moby/moby/pull/38377).
		"--cgroupns", "private",
		"--network", networkName,
		// After a restart of the top-level container the runner starts the nodes, once it watches
		// them. Nor does a restart hide that a node died.
		"--restart", "no",
		"--volume", nodeDir(n.Name) + ":" + paths.NodeConfig + ":ro",
		"--volume", paths.StatusDir + ":" + paths.NodeStatusDir,
	}
	for _, ip := range n.IPs {
		option := "--ip"
		if ip.Is6() {
			option = "--ip6"
		}
		args = append(args, option, ip.String())
	}
	// Reachable by all that reaches the top-level container. The engine adds and removes it with
	// the container.
	for _, p := range n.Ports {
		if !n.Publishes(p) {
			continue
		}
		args = append(args, "--publish", fmt.Sprintf("%d:%d/%s", p.Host, p.Node, p.Protocol))
	}
	// The entrypoint's own tmpfs would hide what is mounted below.
	for _, t := range []struct{ path, link, options string }{{"/run", "/var/run", "exec,mode=755"}, {"/tmp", "/tmp", "exec,mode=1777"}} {
		itself, below := false, false
		for _, m := range n.Mounts {
			itself = itself || m.Target == t.path
			below = below || strings.HasPrefix(m.Target, t.path+"/") || strings.HasPrefix(m.Target, t.link+"/")
		}
		if below && !itself {
			args = append(args, "--tmpfs", t.path+":"+t.options)
		}
	}
	for _, m := range n.Mounts {
		options := m.Propagation
		if m.ReadOnly {
			options += ",ro"
		}
		args = append(args, "--volume", m.Source+":"+m.Target+":"+options)
	}
	return args
}

// modulesDir is where a machine has its kernel's modules.
const modulesDir = "/lib/modules"

// networkOptions returns the options of `docker run` for a node that follow from the cluster's
// networks.
//
// If this container has the modules of the host's kernel, the nodes have them, too: pod networks
// and kube-proxy look there for what they need.
func networkOptions(networks topology.Networks, n topology.Node, modules string) []string {
	var args []string
	for _, domain := range networks.Search {
		args = append(args, "--dns-search", domain)
	}
	if networks.Search != nil && len(networks.Search) == 0 {
		args = append(args, "--dns-search", ".") // none
	}
	own := slices.ContainsFunc(n.Mounts, func(m topology.Mount) bool { return m.Target == modulesDir })
	if entries, err := os.ReadDir(modules); err == nil && len(entries) > 0 && !own {
		args = append(args, "--volume", modules+":"+modulesDir+":ro")
	}
	return args
}

// restartNodes starts the containers that a stop of the top-level container has stopped.
func (c *cluster) restartNodes(ctx context.Context) (string, error) {
	c.watch(c.whole)
	var group errgroup.Group
	group.SetLimit(parallel)
	for _, n := range c.changes.start {
		group.Go(func() error {
			err := c.docker.Start(ctx, n.Name)
			if err == nil {
				return nil
			}
			err = fmt.Errorf("starting node %s again: %w", n.Name, err)
			if n.Role == topology.ControlPlane && !c.topology.Balanced() {
				return err
			}
			c.lose(n.Name, err)
			return nil
		})
	}
	c.startLeaving(ctx)
	if err := group.Wait(); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d node(s)", len(c.changes.start)), nil
}

// createMissing makes new containers for nodes whose containers are gone or were never complete.
// What only they had is lost; what the cluster has for them, pods for example, comes back.
func (c *cluster) createMissing(ctx context.Context) (string, error) {
	if err := c.finishRemovals(ctx); err != nil {
		return "", err
	}
	have, err := nodes.All(ctx, c.docker)
	if err != nil {
		return "", err
	}
	c.mu.Lock()
	joined := slices.Clone(c.state.Joined)
	c.mu.Unlock()
	changes, err := difference(c.topology.Nodes, have, joined)
	if err != nil || len(changes.create)+len(changes.remove) == 0 {
		return "none", err
	}
	// Before anything else: if this start is interrupted, the next one must not take what is there
	// for a node.
	names := topology.Names(changes.create)
	if err := c.joined(nil, names); err != nil {
		return "", err
	}
	deleted := slices.Clone(names)
	for _, o := range changes.remove {
		if err := c.docker.Remove(ctx, o.ID); err != nil {
			return "", err
		}
		deleted = append(deleted, o.Names)
	}
	for _, name := range deleted {
		// kubeadm refuses to join a node whose Node object is there and Ready
		// (runKubeletStartJoinPhase in
		// https://github.com/kubernetes/kubernetes/blob/v1.37.2/cmd/kubeadm/app/cmd/phases/join/kubelet.go).
		if err := c.api.Delete(ctx, "/api/v1/nodes/"+name); err != nil {
			return "", fmt.Errorf("deleting node %s, whose container is gone: %w", name, err)
		}
	}
	for _, n := range changes.create {
		c.log.Printf("    %s is missing: making it anew", n.Name)
		if n.Role == topology.ControlPlane {
			if err := c.removeMember(ctx, n); err != nil {
				return "", err
			}
		}
	}
	return strings.Join(names, ", "), c.startNodes(ctx, changes.create, c.lose)
}

// watch calls lose for each node whose container dies, until ctx ends.
func (c *cluster) watch(ctx context.Context) {
	since := time.Now()
	go func() {
		err := c.docker.Events(ctx, since, func(e docker.Event) bool {
			a := e.Actor.Attributes
			if !c.current().Has(a["name"]) {
				return true // it is being removed
			}
			c.lose(a["name"], fmt.Errorf("node %s stopped while the cluster was starting (exit status %s)", a["name"], a["exitCode"]))
			return true
		}, "type=container", "event=die", "label="+nodes.Label)
		if err != nil && ctx.Err() == nil && !errors.Is(err, context.Canceled) {
			c.fail(err)
		}
	}()
}
