package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dind-cluster/dind-cluster/cluster/node"
	"github.com/dind-cluster/dind-cluster/cluster/nodes"
	"github.com/dind-cluster/dind-cluster/cluster/paths"
	"github.com/dind-cluster/dind-cluster/cluster/plan"
	"github.com/dind-cluster/dind-cluster/cluster/timeline"
	"github.com/dind-cluster/dind-cluster/internal/docker"
	"golang.org/x/sync/errgroup"
)

// parallel bounds how many containers are started at a time.
const parallel = 8

// prepare makes the nodes' network. Meanwhile it compares the nodes' containers with the plan, and saves the state, which must be
// there before the first of them.
func (c *cluster) prepare(ctx context.Context) (string, error) {
	group, both := errgroup.WithContext(ctx)
	group.Go(func() error {
		have, err := nodes.All(both, c.docker)
		if err != nil {
			return err
		}
		if c.state.Joined == nil && len(have) > 0 {
			return fmt.Errorf("the volume %s has nodes of a cluster (%s, …), but not the cluster's state (%s), without which it cannot be brought back: start it with the container or the image that made it, or start a container with a new volume",
				paths.DockerRoot, have[0].Names, stateFile(paths.State))
		}
		if c.changes, err = difference(c.plan.All(), have, c.state.Joined); err != nil {
			return err
		}
		if !c.resumed {
			if err := os.RemoveAll(nodeDir("")); err != nil {
				return err
			}
			c.state.Joined = []string{}
			if err := c.state.save(paths.State); err != nil {
				return err
			}
		}
		return c.writeKubeconfig()
	})
	var detail string
	group.Go(func() (err error) {
		detail, err = c.makeNetwork(both)
		return err
	})
	return detail, group.Wait()
}

// startNodes starts one container per node, the control plane first: everything waits for it.
func (c *cluster) startNodes(ctx context.Context) (string, error) {
	image, stores, err := nodeSource()
	if err != nil {
		return "", err
	}
	for _, o := range c.changes.remove {
		if err := c.docker.Remove(ctx, o.ID); err != nil {
			return "", err
		}
	}
	if err := c.connect(); err != nil {
		return "", err
	}
	all := c.changes.create
	c.watch(c.whole)
	if err := c.startNode(ctx, all[0], image, stores); err != nil {
		return "", err
	}
	workers := all[1:]
	if cores := runtime.NumCPU(); len(workers) > 0 && cores < coresPerNode*len(all) {
		go func() {
			ctx := c.whole
			err := c.api.WaitForServer(ctx)
			if err == nil {
				begin := time.Now()
				err = c.startWorkers(ctx, workers, image, stores)
				c.spans.Add(timeline.Span{Name: "starting the workers", Start: begin, End: time.Now(), Failed: err != nil})
			}
			if err != nil && ctx.Err() == nil {
				c.fail(err)
			}
		}()
		return fmt.Sprintf("1 control plane, %d worker(s) when the API server answers", len(workers)), nil
	}
	if err := c.startWorkers(ctx, workers, image, stores); err != nil {
		return "", err
	}
	return fmt.Sprintf("1 control plane, %d worker(s)", len(workers)), nil
}

// nodeSource returns the node image, and the options by which a container gets what is not in it.
func nodeSource() (image string, stores []string, err error) {
	if image, err = nodeImage(); err != nil {
		return "", nil, err
	}
	stores, err = storeMounts(paths.NodeStore, paths.DockerContainerd)
	return image, stores, err
}

// coresPerNode is how many of the machine's cores a node keeps busy while it starts. Where there are fewer, the workers wait
// until the API server answers: it needs the cores until then, and after that it mostly waits for the disk, while there is
// nothing yet that the workers miss.
const coresPerNode = 2

func (c *cluster) startWorkers(ctx context.Context, workers []plan.Node, image string, stores []string) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for _, n := range workers {
		group.Go(func() error { return c.startNode(ctx, n, image, stores) })
	}
	return group.Wait()
}

func (c *cluster) startNode(ctx context.Context, n plan.Node, image string, stores []string) error {
	kubelet, err := c.state.Secrets.CA.NewClient("system:node:"+n.Name, []string{"system:nodes"}, time.Now())
	if err != nil {
		return err
	}
	mtu, err := ownMTU()
	if err != nil {
		return err
	}
	config := node.Config{
		Cluster: c.plan,
		Node:    n,
		MTU:     mtu,
		CA:      c.state.Secrets.CA,
		Kubelet: *kubelet,
	}
	if n.Role != plan.ControlPlane {
		config.CA.Key = nil
	}
	if err := config.Write(nodeDir(n.Name)); err != nil {
		return err
	}
	if _, err := c.docker.Run(ctx, slices.Concat(runArgs(n), stores, []string{image})...); err != nil {
		return fmt.Errorf("starting node %s: %w", n.Name, err)
	}
	return nil
}

// runArgs are the options of `docker run` for a node.
func runArgs(n plan.Node) []string {
	args := []string{
		"--name", n.Name,
		"--hostname", n.Name,
		"--label", nodes.Label + "=" + n.Name,
		"--label", nodes.RoleLabel + "=" + string(n.Role),
		"--privileged",
		// With cgroup v1 Docker's default is the host's namespace.
		"--cgroupns", "private",
		"--network", networkName,
		"--ip", n.IP.String(),
		// The runner starts the nodes again after a restart of the top-level container, when there is somebody who
		// watches. A node that dies is not hidden by a restart either.
		"--restart", "no",
		"--volume", nodeDir(n.Name) + ":" + paths.NodeConfig + ":ro",
		"--volume", paths.StatusDir + ":" + paths.NodeStatusDir,
	}
	if n.Role == plan.ControlPlane {
		// In reach of whoever reaches the top-level container. Part of the container's own settings, it comes and goes
		// with the container.
		port := strconv.Itoa(plan.APIServerPort)
		args = append(args, "--publish", port+":"+port)
	}
	return args
}

// restartNodes starts the containers that a stop of the top-level container has stopped.
func (c *cluster) restartNodes(ctx context.Context) (string, error) {
	c.watch(c.whole)
	if err := c.connect(); err != nil {
		return "", err
	}
	var group errgroup.Group
	group.SetLimit(parallel)
	for _, n := range c.changes.start {
		group.Go(func() error {
			err := c.docker.Start(ctx, n.Name)
			if err == nil {
				return nil
			}
			err = fmt.Errorf("starting node %s again: %w", n.Name, err)
			if n.Role == plan.ControlPlane {
				return err
			}
			c.lose(n.Name, err)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d node(s)", len(c.changes.start)), nil
}

// createMissing makes nodes that the cluster had, and whose containers are gone or were never complete, anew. What only they had
// is lost; what the cluster has for them, pods for example, comes back.
func (c *cluster) createMissing(ctx context.Context) (string, error) {
	have, err := nodes.All(ctx, c.docker)
	if err != nil {
		return "", err
	}
	c.mu.Lock()
	joined := slices.Clone(c.state.Joined)
	c.mu.Unlock()
	changes, err := difference(c.plan.All(), have, joined)
	if err != nil || len(changes.create)+len(changes.remove) == 0 {
		return "none", err
	}
	image, stores, err := nodeSource()
	if err != nil {
		return "", err
	}
	// First of all: should this start be interrupted, the next one must not take what is there for a node.
	var names []string
	for _, n := range changes.create {
		names = append(names, n.Name)
	}
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
		// A node that is there, and ready as far as anybody knows, cannot join.
		if err := c.api.Delete(ctx, "/api/v1/nodes/"+name); err != nil {
			return "", fmt.Errorf("deleting node %s, whose container is gone: %w", name, err)
		}
	}
	for _, name := range names {
		c.log.Printf("    %s is missing: making it anew", name)
	}
	var group errgroup.Group
	group.SetLimit(parallel)
	for _, n := range changes.create {
		group.Go(func() error {
			if err := c.startNode(ctx, n, image, stores); err != nil {
				c.lose(n.Name, err)
			}
			return nil
		})
	}
	return strings.Join(names, ", "), group.Wait()
}

// watch sees nodes' containers die, as long as ctx lasts.
func (c *cluster) watch(ctx context.Context) {
	since := time.Now()
	go func() {
		err := c.docker.Events(ctx, since, func(e docker.Event) bool {
			a := e.Actor.Attributes
			c.lose(a["name"], fmt.Errorf("node %s stopped while the cluster was starting (exit status %s)", a["name"], a["exitCode"]))
			return true
		}, "type=container", "event=die", "label="+nodes.Label)
		if err != nil && ctx.Err() == nil && !errors.Is(err, context.Canceled) {
			c.fail(err)
		}
	}()
}
