// Package host makes, lists and removes clusters: each is one container of the image
// dind-cluster, which contains everything else.
package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sort"
	"strings"
	"time"

	"github.com/dind-cluster/dind-cluster/internal/docker"
	"github.com/dind-cluster/dind-cluster/internal/kubeconfig"
	"github.com/dind-cluster/dind-cluster/internal/progress"
)

const (
	// DefaultName is the name of a cluster, and of its container, unless the user gives
	// another.
	DefaultName = "dind-cluster"

	// label marks the containers that Create made; its value is the cluster's name.
	label = "dind-cluster.name"

	// roleLabel is a label of the image, which each container made of it has from there, whatever it was started by: a
	// tag, a digest or an ID.
	roleLabel, clusterRole = "dind-cluster.role", "cluster"

	// apiPort is where the API server is inside the container.
	apiPort = "6443/tcp"
)

// Launcher does things with clusters on one Docker engine.
type Launcher struct {
	Docker *docker.Client
	// Progress gets one line per step.
	Progress *progress.Printer
	// Log gets what the cluster itself prints while it comes up.
	Log io.Writer
}

// New returns a Launcher for the engine that the docker command on PATH leads to. What it
// does is told to log.
func New(log io.Writer) (*Launcher, error) {
	client, err := docker.Find()
	if err != nil {
		return nil, err
	}
	return &Launcher{Docker: client, Progress: progress.New(log), Log: log}, nil
}

// ContextName is the name of a cluster's entries in a kubeconfig.
func ContextName(name string) string {
	if name == DefaultName {
		return name
	}
	return "dind-cluster-" + name
}

// Summary is a cluster in a list.
type Summary struct {
	Name   string
	State  string // created, running, exited, …
	Status string // for people: "Up 5 minutes (healthy)"
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
// name, and another error if the container is somebody else's.
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

// lookUp returns the container of exactly this name; docker.ErrNotFound if there is none. Docker would also take the name for
// the beginning of an ID.
func (l *Launcher) lookUp(ctx context.Context, name string) (*docker.Container, error) {
	c, err := l.Docker.Inspect(ctx, name)
	if err == nil && c.Name != "/"+name {
		return nil, fmt.Errorf("there is no container named %s: %w", name, docker.ErrNotFound)
	}
	return c, err
}

// isCluster recognizes the containers that Create made, and those that a person made
// from the image with `docker run`.
func isCluster(c *docker.Container) bool {
	_, created := c.Config.Labels[label]
	return created || c.Config.Labels[roleLabel] == clusterRole
}

// Delete removes a cluster and its kubeconfig entries, and says whether there was one.
func (l *Launcher) Delete(ctx context.Context, name string, files ...*kubeconfig.File) (found bool, err error) {
	c, err := l.find(ctx, name)
	switch {
	case errors.Is(err, docker.ErrNotFound):
	case err != nil:
		return false, err
	default:
		found = true
		step := l.Progress.Step("Removing cluster %s", name)
		if err := l.Docker.Remove(ctx, c.ID); err != nil {
			step.Fail("")
			return true, err
		}
		step.Done("")
		// An image that was replaced while the cluster ran has lost its name, and now its last user.
		if _, created := c.Config.Labels[label]; created && namesImage(c.Config.Image) {
			if _, err := l.Docker.RemoveNamelessImage(ctx, c.Image); err != nil {
				return true, err
			}
		}
	}
	for _, f := range files {
		if _, err := f.Remove(ctx, ContextName(name)); err != nil {
			return found, err
		}
	}
	return found, nil
}

// namesImage reports whether a container was asked for by a tag of its image, not by an ID.
func namesImage(ref string) bool {
	return strings.Contains(ref, ":") && !strings.HasPrefix(ref, "sha256:")
}

// Load sends an archive of images (docker save's or an OCI layout's) to all nodes of a cluster.
func (l *Launcher) Load(ctx context.Context, name string, archive io.Reader) error {
	c, err := l.running(ctx, name)
	if err != nil {
		return err
	}
	return l.Docker.ExecStreams(ctx, c.ID, docker.Streams{In: archive, Out: l.Log, Err: l.Log}, "loader", "load", "-")
}

// LoadImages sends images of the local Docker to all nodes of a cluster.
func (l *Launcher) LoadImages(ctx context.Context, name string, images ...string) error {
	for _, image := range images {
		// Otherwise the first error to arrive would be the loader's: an empty archive.
		if _, err := l.Docker.InspectImage(ctx, image); errors.Is(err, docker.ErrNotFound) {
			return fmt.Errorf("the local Docker has no image %q: build or `docker pull` it first", image)
		} else if err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r, w := io.Pipe()
	saved := make(chan error, 1)
	go func() {
		err := l.Docker.Stream(ctx, docker.Streams{Out: w}, "save the images", append([]string{"save"}, images...)...)
		w.CloseWithError(err)
		saved <- err
	}()
	err := l.Load(ctx, name, r)
	if err != nil {
		cancel(err)
	}
	r.CloseWithError(err)
	if saveErr := <-saved; saveErr != nil && !errors.Is(saveErr, err) {
		return saveErr
	}
	return err
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

// Logs copies what a cluster has printed so far.
func (l *Launcher) Logs(ctx context.Context, name string, follow bool, out io.Writer) error {
	c, err := l.find(ctx, name)
	if errors.Is(err, docker.ErrNotFound) {
		return fmt.Errorf("there is no cluster %q", name)
	} else if err != nil {
		return err
	}
	return l.Docker.Logs(ctx, c.ID, follow, out)
}

// NodeLogs writes the logs of all nodes, a tar archive.
func (l *Launcher) NodeLogs(ctx context.Context, name string, out io.Writer) error {
	c, err := l.running(ctx, name)
	if err != nil {
		return err
	}
	return l.Docker.ExecStreams(ctx, c.ID, docker.Streams{Out: out, Err: l.Log}, "runner", "logs")
}

// Kubeconfig returns the kubeconfig of a running cluster, with entries called
// ContextName(name) and an API address that works from the Docker host. If that is another
// machine, the progress says what to do.
func (l *Launcher) Kubeconfig(ctx context.Context, name string) (*kubeconfig.Config, error) {
	c, err := l.running(ctx, name)
	if err != nil {
		return nil, err
	}
	return l.kubeconfig(ctx, name, c)
}

func (l *Launcher) kubeconfig(ctx context.Context, name string, c *docker.Container) (*kubeconfig.Config, error) {
	bindings := c.NetworkSettings.Ports[apiPort]
	if len(bindings) == 0 {
		return nil, fmt.Errorf("cluster %q publishes no API port to the host (docker run --publish 127.0.0.1:6443:6443)", name)
	}
	address := hostAddress(bindings[0])
	data, err := l.Docker.Exec(ctx, c.ID, "kubeconfig")
	if err != nil {
		return nil, err
	}
	config, err := kubeconfig.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("cannot use what cluster %q prints: %w", name, err)
	}
	config.Name, config.Server = ContextName(name), "https://"+address
	return &config, l.tellReach(ctx, name, address, config.CA)
}

// cleanUpTimeout bounds the removal of a cluster that did not come up. Ending a few
// dozen nested containers takes seconds, on a busy disk more.
const cleanUpTimeout = 2 * time.Minute
