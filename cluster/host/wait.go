package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"github.com/dind-cluster/dind-cluster/internal/docker"
)

// explanationTime is how long the cluster may take, after the waiting time, to report by itself
// what did not work: it collects its nodes' logs.
const explanationTime = 30 * time.Second

// waitForStart shows what the cluster prints until it is ready, and returns an error if it
// ends or does not get ready in time.
func (l *Launcher) waitForStart(ctx context.Context, p createPlan, c container) error {
	ctx, cancel := context.WithTimeoutCause(ctx, p.wait+explanationTime,
		fmt.Errorf("cluster %q did not get ready within %s", p.name, p.wait))
	defer cancel()

	logsCtx, stopLogs := context.WithCancel(ctx)
	defer stopLogs()
	logged := make(chan struct{})
	go func() {
		defer close(logged)
		// An error here is no reason to give up: the events below decide.
		l.Docker.Logs(logsCtx, c.id, true, l.log())
	}()

	err := l.waitReady(ctx, c.id, p.name)
	if err != nil {
		// The last lines of a dead container are the explanation, and may not have arrived.
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
	return l.waitReady(ctx, name, name)
}

func (l *Launcher) waitReady(ctx context.Context, id, name string) error {
	c, err := l.Docker.Inspect(ctx, id)
	if err != nil {
		return err
	}
	ready, err := judge(name, c.State)
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
		return fmt.Errorf("cluster %q was removed while it was starting", name)
	} else if err != nil {
		return err
	}
	_, err = judge(name, c.State)
	if err == nil {
		err = fmt.Errorf("cluster %q was restarted while it was starting", name)
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
