// Package host makes, lists and removes clusters: each is one container of the image
// dind-cluster, which contains everything else.
package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sort"

	"github.com/dind-cluster/dind-cluster/internal/docker"
	"github.com/dind-cluster/dind-cluster/internal/progress"
)

const (
	// DefaultName is the name of a cluster, and of its container, unless the user gives
	// another.
	DefaultName = "dind-cluster"

	// label marks the containers that Create made; its value is the cluster's name.
	label = "dind-cluster.name"

	// roleLabel is a label of the image, which each container made of it inherits, no matter
	// whether it was started by a tag, a digest or an ID.
	roleLabel, clusterRole = "dind-cluster.role", "cluster"

	// apiPort is where the API server is inside the container.
	apiPort = "6443/tcp"
)

// Launcher makes and manages clusters on one Docker engine.
type Launcher struct {
	Docker *docker.Client
	// Progress gets one line per step.
	Progress *progress.Printer
	// Log gets what the cluster itself prints while it comes up.
	Log io.Writer
}

// New returns a Launcher for the engine that the docker command on PATH leads to. It reports
// what it does to log.
func New(log io.Writer) (*Launcher, error) {
	client, err := docker.Find()
	if err != nil {
		return nil, err
	}
	return &Launcher{Docker: client, Progress: progress.New(log), Log: log}, nil
}

// Summary is a cluster in a list.
type Summary struct {
	Name   string
	State  string // created, running, exited, …
	Status string // for display: "Up 5 minutes (healthy)"
	Image  string
}

// List returns all clusters, in the order of their names.
func (l *Launcher) List(ctx context.Context) ([]Summary, error) {
	var clusters []Summary
	seen := map[string]bool{}
	// Of several filters for labels, all have to match.
	for _, filter := range []string{label, roleLabel + "=" + clusterRole} {
		list, err := l.Docker.List(ctx, "label="+filter)
		if err != nil {
			return nil, err
		}
		for _, c := range list {
			if !seen[c.ID] {
				seen[c.ID] = true
				clusters = append(clusters, Summary{Name: c.Names, State: c.State, Status: c.Status, Image: c.Image})
			}
		}
	}
	sort.Slice(clusters, func(i, j int) bool { return clusters[i].Name < clusters[j].Name })
	return clusters, nil
}

// find returns the container of a cluster; docker.ErrNotFound if there is none of that
// name, and another error if the container is not a cluster.
func (l *Launcher) find(ctx context.Context, name string) (*docker.Container, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	c, err := l.lookUp(ctx, name)
	if err != nil {
		return nil, err
	}
	if !isCluster(c) {
		return nil, fmt.Errorf("container %q (image %s) is not a dind-cluster: nothing done to it", name, c.Config.Image)
	}
	return c, nil
}

// lookUp returns the container of exactly this name; docker.ErrNotFound if there is none. Docker
// would also take the name for the beginning of an ID.
func (l *Launcher) lookUp(ctx context.Context, name string) (*docker.Container, error) {
	c, err := l.Docker.Inspect(ctx, name)
	if err == nil && c.Name != "/"+name {
		return nil, fmt.Errorf("there is no container named %s: %w", name, docker.ErrNotFound)
	}
	return c, err
}

// isCluster reports whether a container was made by Create, or from the image with
// `docker run`.
func isCluster(c *docker.Container) bool {
	_, created := c.Config.Labels[label]
	return created || c.Config.Labels[roleLabel] == clusterRole
}

// running returns the container of a cluster that is up.
func (l *Launcher) running(ctx context.Context, name string) (*docker.Container, error) {
	c, err := l.find(ctx, name)
	if errors.Is(err, docker.ErrNotFound) {
		return nil, fmt.Errorf("there is no cluster %q; `docker ps --all` shows what there is", name)
	}
	if err == nil && !c.State.Running {
		err = fmt.Errorf("cluster %q is not running: `docker start %s` first", name, name)
	}
	return c, err
}
