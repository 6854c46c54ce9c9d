package host

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dind-cluster/dind-cluster/cluster/paths"
	"github.com/dind-cluster/dind-cluster/internal/docker"
	"github.com/dind-cluster/dind-cluster/internal/kubeconfig"
)

// Cluster is a cluster that has come up.
type Cluster struct {
	Name string
	// ID is the container's.
	ID string
	// APIPort is the port of 127.0.0.1 where the API server is.
	APIPort int
	// Nodes is the number of its nodes.
	Nodes int
	// Kubeconfig is what kubectl on the host needs; nil if the API server's port is not
	// published.
	Kubeconfig *kubeconfig.Config
}

// Create makes a cluster and returns when all of it works. A cluster that does not come up in time,
// or not at all, is removed, as it is when ctx ends before.
func (l *Launcher) Create(ctx context.Context, r Request) (_ *Cluster, err error) {
	p, err := l.plan(ctx, r)
	if err != nil {
		return nil, err
	}
	ref, err := p.image.Send(ctx)
	if err != nil {
		return nil, err
	}
	c, err := l.start(ctx, p, ref)
	defer func() {
		if err != nil {
			err = l.undo(ctx, p, c, err)
		}
	}()
	if err != nil {
		return nil, err
	}
	if err := l.waitForStart(ctx, p, c); err != nil {
		return nil, err
	}
	if len(p.images) > 0 {
		if err := l.LoadImages(ctx, p.name, p.images...); err != nil {
			return nil, err
		}
	}
	return l.connect(ctx, p, c)
}

// container is the result of start, as far as it got.
type container struct {
	id      string // "" if there is none
	port    int    // of 127.0.0.1, where its API server is
	started bool
}

// start creates and starts the container.
func (l *Launcher) start(ctx context.Context, p createPlan, ref string) (container, error) {
	// Another program may take the free port before Docker does: unlikely, and even less so
	// several times over.
	for attempt := 1; ; attempt++ {
		c, err := l.startOnce(ctx, p, ref)
		if p.port != 0 || attempt == 5 || !errors.As(err, new(*portTakenError)) {
			return c, err
		}
		if err := l.undo(ctx, p, c, nil); err != nil {
			return container{}, err
		}
	}
}

func (l *Launcher) startOnce(ctx context.Context, p createPlan, ref string) (c container, err error) {
	if c.port = p.port; c.port == 0 {
		if c.port, err = freePort(); err != nil {
			return c, err
		}
	}
	step := l.Progress.Step("Starting container %s", p.name)
	// `docker create` must not be cut off between making the container and saying so.
	c.id, err = l.Docker.Detached().Create(context.WithoutCancel(ctx), p.createArgs(ref, c.port)...)
	if err == nil && p.config != nil {
		err = l.configure(ctx, c.id, *p.config)
	}
	if err == nil {
		err = l.Docker.Start(ctx, c.id)
	}
	if err != nil {
		step.Fail("")
		return c, l.explainStart(ctx, p, ref, c.port, err)
	}
	c.started = true
	step.Done("%s, API server at port %d", ref, c.port)
	return c, nil
}

// configure gives a container that has not started its configuration file.
func (l *Launcher) configure(ctx context.Context, id string, file ConfigFile) error {
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	header := &tar.Header{Name: strings.TrimPrefix(paths.Config, "/"), Mode: 0o600, Size: int64(len(file.Data)), ModTime: time.Now()}
	if err := w.WriteHeader(header); err != nil {
		return err
	}
	if _, err := w.Write(file.Data); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return l.Docker.Stream(ctx, docker.Streams{In: &archive}, "copy the configuration file to the container", "cp", "-", id+":/")
}

// connect makes kubectl work on the Docker host.
func (l *Launcher) connect(ctx context.Context, p createPlan, c container) (*Cluster, error) {
	cluster := &Cluster{Name: p.name, ID: c.id, APIPort: c.port, Nodes: p.nodes}
	there, err := l.Docker.Inspect(ctx, c.id)
	if err != nil {
		return nil, err
	}
	if len(there.NetworkSettings.Ports[apiPort]) == 0 {
		// Only RunArgs can cause this: a network without ports, wanted for tests.
		return cluster, nil
	}
	if cluster.Kubeconfig, err = l.kubeconfig(ctx, p.name, there); err != nil {
		return nil, err
	}
	if p.kubeconfig != nil {
		if err := p.kubeconfig.Add(ctx, *cluster.Kubeconfig); err != nil {
			return nil, err
		}
	}
	return cluster, nil
}

// undo removes the container of a cluster that did not come up, unless it is to stay, and returns
// the reason with what to do next.
func (l *Launcher) undo(ctx context.Context, p createPlan, c container, reason error) error {
	switch {
	case c.id == "":
		return reason
	case !c.started:
		// Not retained in any case: nothing has run in it.
		return errors.Join(reason, l.remove(ctx, p, c))
	case p.retain:
		return fmt.Errorf("%w\nIts container stays, to be looked at: `docker logs %[2]s`, `docker exec -it %[2]s bash`; `docker rm -f -v %[2]s` removes it", reason, p.name)
	}
	err := errors.Join(reason, l.remove(ctx, p, c))
	if ctx.Err() == nil {
		err = fmt.Errorf("%w\nWith --retain a container that did not get ready stays, with the logs of all nodes in it", err)
	}
	return err
}

// cleanUpTimeout bounds the removal of a cluster that did not come up. Ending a few
// dozen nested containers takes seconds, on a busy disk more.
const cleanUpTimeout = 2 * time.Minute

// remove removes the container even though ctx has ended.
func (l *Launcher) remove(ctx context.Context, p createPlan, c container) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
	defer cancel()
	step := l.Progress.Step("Removing container %s", p.name)
	if err := l.Docker.Detached().Remove(ctx, c.id); err != nil {
		step.Fail("")
		return fmt.Errorf("%w\nRemove it by hand: `docker rm -f -v %s`", err, p.name)
	}
	step.Done("")
	return nil
}
