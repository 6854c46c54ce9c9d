package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/dind-cluster/dind-cluster/tools/internal/docker"
	"github.com/dind-cluster/dind-cluster/tools/runner/node"
	"github.com/dind-cluster/dind-cluster/tools/runner/nodes"
	"github.com/dind-cluster/dind-cluster/tools/runner/paths"
	"github.com/dind-cluster/dind-cluster/tools/runner/plan"
	"github.com/dind-cluster/dind-cluster/tools/runner/timeline"
	"golang.org/x/sync/errgroup"
)

// parallel bounds how many containers are started at a time.
const parallel = 8

// startNodes starts one container per node, the control plane first: everything waits for it.
func (c *cluster) startNodes(ctx context.Context) (string, error) {
	image, err := nodeImage()
	if err != nil {
		return "", err
	}
	stores, err := storeMounts(paths.NodeStore, paths.DockerContainerd)
	if err != nil {
		return "", err
	}
	if err := c.removeLeftovers(ctx); err != nil {
		return "", err
	}
	if err := c.connect(); err != nil {
		return "", err
	}
	all := c.plan.All()
	c.watch(ctx)
	if err := c.startNode(ctx, all[0], image, stores); err != nil {
		return "", err
	}
	workers := all[1:]
	if cores := runtime.NumCPU(); len(workers) > 0 && cores < coresPerNode*len(all) {
		go func() {
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

// removeLeftovers removes the nodes of an earlier start that was interrupted. A node's directory is there before the node.
func (c *cluster) removeLeftovers(ctx context.Context) error {
	if _, err := os.Stat(nodeDir("")); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	old, err := nodes.All(ctx, c.docker)
	if err != nil {
		return err
	}
	for _, o := range old {
		if err := c.docker.Remove(ctx, o.ID); err != nil {
			return err
		}
	}
	return nil
}

func (c *cluster) startNode(ctx context.Context, n plan.Node, image string, stores []string) error {
	kubelet, err := c.secrets.CA.NewClient("system:node:"+n.Name, []string{"system:nodes"}, c.started)
	if err != nil {
		return err
	}
	config := node.Config{
		Cluster:        c.plan,
		Node:           n,
		MTU:            c.mtu(),
		Token:          c.secrets.Token,
		CertificateKey: c.secrets.CertificateKey,
		CA:             c.secrets.CA,
		Kubelet:        *kubelet,
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
	c.watch(ctx)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	all := c.plan.All()
	for _, n := range all {
		group.Go(func() error {
			err := c.docker.Start(ctx, n.Name)
			if err != nil {
				return fmt.Errorf("starting node %s again: %w", n.Name, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d node(s)", len(all)), nil
}

// watch ends the start when a node's container dies.
func (c *cluster) watch(ctx context.Context) {
	since := time.Now()
	go func() {
		err := c.docker.Events(ctx, since, func(e docker.Event) bool {
			a := e.Actor.Attributes
			c.fail(fmt.Errorf("node %s stopped while the cluster was starting (exit status %s)", a["name"], a["exitCode"]))
			return false
		}, "type=container", "event=die", "label="+nodes.Label)
		if err != nil && ctx.Err() == nil && !errors.Is(err, context.Canceled) {
			c.fail(err)
		}
	}()
}
