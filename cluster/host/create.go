package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/dind-cluster/dind-cluster/internal/docker"
	"github.com/dind-cluster/dind-cluster/internal/kubeconfig"
)

// Image is what a cluster's container is made of.
type Image interface {
	// Send brings the image into the local Docker, unless it is there already, and returns
	// what to call it there.
	Send(ctx context.Context) (ref string, err error)
}

// Present is an image that the local Docker has.
type Present string

// Send implements Image: there is nothing to do.
func (p Present) Send(context.Context) (string, error) { return string(p), nil }

// Options say what cluster to make.
type Options struct {
	Name  string
	Nodes int
	// APIPort is the port of 127.0.0.1 where the API server shall be; 0 means a free one.
	APIPort int
	// Wait is how long the cluster may take to get ready.
	Wait time.Duration
	// Retain keeps a cluster that did not come up, for a look at it.
	Retain bool
	// Env are settings of the cluster itself, each as NAME=VALUE.
	Env []string
	// Kubeconfig gets the cluster's entries; nil means none does.
	Kubeconfig *kubeconfig.File
	// RunArgs are further arguments for `docker create`.
	RunArgs []string
}

// Cluster is a cluster that has come up.
type Cluster struct {
	Name string
	// ID is the container's.
	ID string
	// APIPort is the port of 127.0.0.1 where the API server is.
	APIPort int
	// Kubeconfig is what kubectl on the host needs.
	Kubeconfig *kubeconfig.Config
}

// explanationTime is what the cluster gets, after the waiting time, to say by itself
// what did not work: it knows best, and collects its nodes' logs.
const explanationTime = 30 * time.Second

// Create makes a cluster and returns when all of it works. A cluster that does not come
// up in time, or not at all, is removed, as it is when ctx ends before.
func (l *Launcher) Create(ctx context.Context, image Image, o Options) (_ *Cluster, err error) {
	// All that can be found out in a moment comes first: nobody shall wait for minutes
	// to read that a file cannot be written.
	if err := o.validate(); err != nil {
		return nil, err
	}
	info, err := l.checkEngine(ctx)
	if err != nil {
		return nil, err
	}
	if err := l.checkNameFree(ctx, o.Name); err != nil {
		return nil, err
	}
	remote, err := l.Docker.Remote(ctx)
	if err != nil {
		return nil, err
	}
	if o.APIPort != 0 && remote == nil {
		if err := l.checkPortFree(ctx, o.APIPort); err != nil {
			return nil, err
		}
	}
	if o.Kubeconfig != nil {
		if err := o.Kubeconfig.Check(ctx); err != nil {
			return nil, err
		}
	}
	if remote == nil {
		if err := checkDisk(info, o.Nodes, syscall.Statfs); err != nil {
			return nil, err
		}
	}

	ref, err := image.Send(ctx)
	if err != nil {
		return nil, err
	}
	id, err := l.start(ctx, ref, info, &o)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = l.giveUp(ctx, id, &o, err)
		}
	}()
	if err := l.follow(ctx, id, &o); err != nil {
		return nil, err
	}
	cluster := &Cluster{Name: o.Name, ID: id, APIPort: o.APIPort}
	c, err := l.Docker.Inspect(ctx, id)
	if err != nil {
		return nil, err
	}
	if len(c.NetworkSettings.Ports[apiPort]) == 0 {
		// Only RunArgs can cause this: a network without ports, wanted for tests.
		return cluster, nil
	}
	if cluster.Kubeconfig, err = l.kubeconfig(ctx, o.Name, c); err != nil {
		return nil, err
	}
	if o.Kubeconfig != nil {
		if err := o.Kubeconfig.Add(ctx, *cluster.Kubeconfig); err != nil {
			return nil, err
		}
	}
	return cluster, nil
}

// start creates and starts the container. When it fails, nothing is left.
func (l *Launcher) start(ctx context.Context, ref string, info *docker.Info, o *Options) (id string, err error) {
	automatic := o.APIPort == 0
	// Somebody else may take the free port before Docker does: unlikely, and even less so
	// several times over.
	for attempt := 1; ; attempt++ {
		if automatic {
			if o.APIPort, err = freePort(); err != nil {
				return "", err
			}
		}
		id, err = l.startOnce(ctx, ref, info, o)
		if err == nil {
			return id, nil
		}
		var taken *portTakenError
		if !automatic || attempt == 5 || !errors.As(err, &taken) {
			return "", err
		}
	}
}

func (l *Launcher) startOnce(ctx context.Context, ref string, info *docker.Info, o *Options) (id string, err error) {
	step := l.Progress.Step("Starting container %s", o.Name)
	// `docker create` must not be cut off between making the container and saying so.
	id, err = l.Docker.Detached().Create(context.WithoutCancel(ctx), createArgs(ref, info, o)...)
	if err == nil {
		err = l.Docker.Start(ctx, id)
	}
	if err == nil {
		step.Done("%s, API server at port %d", ref, o.APIPort)
		return id, nil
	}
	step.Fail("")
	err = l.explainStart(ctx, ref, o, err)
	if id != "" {
		// Not even with Retain: there is nothing in it to look at.
		err = errors.Join(err, l.remove(ctx, id, o.Name))
	}
	return "", err
}

func createArgs(ref string, info *docker.Info, o *Options) []string {
	onFailure := "exit"
	if o.Retain {
		onFailure = "keep"
	}
	args := []string{
		"--name", o.Name,
		"--hostname", o.Name,
		"--label", label + "=" + o.Name,
		"--privileged",
		// systemd is process 1, even if the engine's own configuration wants an init process in each container.
		"--init=false",
		// With cgroup v2 and systemd a container may have 15 % of the machine's tasks if nothing is said, and Docker says
		// nothing for -1, either. This one is many machines.
		"--pids-limit", "1000000",
		// Only this machine: the network around it has no business with a test cluster.
		"--publish", "127.0.0.1:" + strconv.Itoa(o.APIPort) + ":" + apiPort,
		"--env", "NODES=" + strconv.Itoa(o.Nodes),
		"--env", "API_PORT=" + strconv.Itoa(o.APIPort),
		"--env", "TIMEOUT=" + o.Wait.String(),
		"--env", "ON_FAILURE=" + onFailure,
	}
	for _, option := range info.SecurityOptions {
		if strings.HasPrefix(option, "name=userns") {
			// An engine that maps users does not run privileged containers, except so.
			args = append(args, "--userns", "host")
		}
	}
	for _, e := range o.Env {
		args = append(args, "--env", e)
	}
	args = append(args, o.RunArgs...)
	return append(args, ref)
}

// follow shows what the cluster prints until it is ready, and returns an error if it
// ends or does not get ready in time.
func (l *Launcher) follow(ctx context.Context, id string, o *Options) error {
	ctx, cancel := context.WithTimeoutCause(ctx, o.Wait+explanationTime,
		fmt.Errorf("cluster %q did not get ready within %s", o.Name, o.Wait))
	defer cancel()

	logsCtx, stopLogs := context.WithCancel(ctx)
	defer stopLogs()
	logged := make(chan struct{})
	go func() {
		defer close(logged)
		// An error here is no reason to give up: the events below decide.
		l.Docker.Logs(logsCtx, id, true, l.log())
	}()

	err := l.waitReady(ctx, id, o)
	if err != nil {
		// What a dead container said last is the explanation; it is on its way.
		select {
		case <-logged:
		case <-time.After(2 * time.Second):
		case <-ctx.Done():
		}
	}
	stopLogs()
	<-logged
	return err
}

func (l *Launcher) log() io.Writer {
	if l.Log == nil {
		return io.Discard
	}
	return l.Log
}

// WaitReady waits until the container of a cluster is healthy, after a `docker start`
// for example, and returns an error if it ends before.
func (l *Launcher) WaitReady(ctx context.Context, name string) error {
	return l.waitReady(ctx, name, &Options{Name: name})
}

func (l *Launcher) waitReady(ctx context.Context, id string, o *Options) error {
	c, err := l.Docker.Inspect(ctx, id)
	if err != nil {
		return err
	}
	ready, err := judge(o.Name, c.State)
	if ready || err != nil {
		return err
	}
	// From the start on: what happened since the look above must not be missed.
	err = l.Docker.Events(ctx, c.State.StartedAt, func(e docker.Event) bool {
		switch status, isHealth := e.HealthStatus(); {
		case isHealth && status == "healthy":
			ready = true
		case e.Action == "die", e.Action == "destroy":
		default:
			return true
		}
		return false
	}, "container="+id, "type=container")
	if ready {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	c, err = l.Docker.Inspect(ctx, id)
	if errors.Is(err, docker.ErrNotFound) {
		return fmt.Errorf("cluster %q was removed while it was starting", o.Name)
	} else if err != nil {
		return err
	}
	_, err = judge(o.Name, c.State)
	if err == nil {
		err = fmt.Errorf("cluster %q was restarted while it was starting", o.Name)
	}
	return err
}

// judge tells from a container's state whether the cluster is ready, or never will be.
func judge(name string, s docker.State) (ready bool, err error) {
	switch {
	case s.Running:
		return s.HealthStatus() == "healthy", nil
	case s.OOMKilled:
		return false, fmt.Errorf("cluster %q ran out of memory while it was starting: give Docker's machine more, or ask for fewer nodes with --nodes", name)
	case s.ExitCode > 128:
		return false, fmt.Errorf("cluster %q was killed while it was starting (%s)", name, syscall.Signal(s.ExitCode-128))
	case s.Error != "":
		return false, fmt.Errorf("cluster %q did not start: %s", name, s.Error)
	}
	return false, fmt.Errorf("cluster %q did not come up (exit status %d); the lines above say why", name, s.ExitCode)
}

// giveUp removes a cluster that did not come up, unless it shall stay.
func (l *Launcher) giveUp(ctx context.Context, id string, o *Options, reason error) error {
	if o.Retain {
		return fmt.Errorf("%w\nIts container stays for a look at it: `docker logs %[2]s`, `docker exec -it %[2]s bash`; `docker rm -f -v %[2]s` removes it", reason, o.Name)
	}
	err := errors.Join(reason, l.remove(ctx, id, o.Name))
	if ctx.Err() == nil {
		err = fmt.Errorf("%w\nWith --retain a container that did not get ready stays, with the logs of all nodes in it", err)
	}
	return err
}

// remove removes a container even though ctx has ended.
func (l *Launcher) remove(ctx context.Context, id, name string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
	defer cancel()
	step := l.Progress.Step("Removing container %s", name)
	if err := l.Docker.Detached().Remove(ctx, id); err != nil {
		step.Fail("")
		return fmt.Errorf("%w\nRemove it by hand: `docker rm -f -v %s`", err, name)
	}
	step.Done("")
	return nil
}
