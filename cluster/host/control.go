package host

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"strings"

	"github.com/dind-cluster/dind-cluster/cluster/control"
	"github.com/dind-cluster/dind-cluster/internal/docker"
)

// awake returns the container of a cluster that is up and not paused.
func (l *Launcher) awake(ctx context.Context, name string) (*docker.Container, error) {
	c, err := l.running(ctx, name)
	if err == nil && c.State.Status == "paused" {
		err = fmt.Errorf("cluster %q is paused: unpause it first", name)
	}
	return c, err
}

// Perform has a cluster carry out a request. When ctx ends, the request is taken back.
func (l *Launcher) Perform(ctx context.Context, name string, r control.Request, emit func(control.Event)) error {
	c, err := l.running(ctx, name)
	if err != nil {
		return err
	}
	if c.State.Status == "paused" {
		if r.Verb == control.Status && r.Output == "json" {
			emit(control.Event{Output: pausedStatus})
			return nil
		}
		_, err := l.awake(ctx, name)
		return err
	}
	request, err := json.Marshal(r)
	if err != nil {
		return err
	}
	// The end of what is sent takes the request back.
	in, hold := io.Pipe()
	defer in.Close()
	defer hold.Close()
	stop := context.AfterFunc(ctx, func() { hold.Close() })
	defer stop()
	out, events := io.Pipe()
	defer out.Close()
	go func() { _, _ = hold.Write(request) }()
	ended := make(chan error, 1)
	go func() {
		// The command gets the end of its input when ctx ends, and then what has been begun is undone.
		err := l.Docker.Detached().ExecStreams(context.WithoutCancel(ctx), c.ID, docker.Streams{In: in, Out: events}, "runner", "control")
		events.CloseWithError(err)
		ended <- err
	}()
	err = control.Receive(out, emit)
	hold.Close()
	out.Close()
	var failed *docker.Error
	if execErr := <-ended; errors.As(execErr, &failed) && !errors.As(err, new(*control.Error)) && err != nil {
		err = execErr
		if strings.Contains(failed.Stderr, `unknown command "control"`) {
			err = fmt.Errorf("cluster %q was made by a version of dind-cluster that takes no requests: make it anew, or use `docker exec %s`", name, name)
		}
	}
	if ctx.Err() != nil && err != nil {
		return fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return err
}

// pausedStatus is the part of cluster.Report that a paused cluster, in which nothing runs, has.
const pausedStatus = `{
  "ready": false,
  "message": "the cluster is paused",
  "paused": true
}
`

// Pause freezes all processes of a cluster, which loses nothing by that.
func (l *Launcher) Pause(ctx context.Context, name string, emit func(control.Event)) error {
	c, err := l.running(ctx, name)
	if err != nil {
		return err
	}
	if c.State.Status == "paused" {
		return fmt.Errorf("cluster %q is paused already", name)
	}
	if err := l.Perform(ctx, name, control.Request{Verb: control.Pause}, emit); err != nil {
		return err
	}
	return l.Docker.Do(ctx, "pause container "+name, "pause", c.ID)
}

// Unpause has a paused cluster go on, and returns when its nodes have reported and its controllers go
// on as well.
func (l *Launcher) Unpause(ctx context.Context, name string, emit func(control.Event)) error {
	c, err := l.running(ctx, name)
	if err != nil {
		return err
	}
	if c.State.Status != "paused" {
		return fmt.Errorf("cluster %q is not paused", name)
	}
	if err := l.Docker.Do(ctx, "unpause container "+name, "unpause", c.ID); err != nil {
		return err
	}
	return l.Perform(ctx, name, control.Request{Verb: control.Unpause}, emit)
}

// Exec runs a command in a node with the given streams, and returns its exit status. With terminal,
// they are one.
func (l *Launcher) Exec(ctx context.Context, name, node string, terminal bool, in, out, errs *os.File, command ...string) (int, error) {
	c, err := l.awake(ctx, name)
	if err != nil {
		return 0, err
	}
	args := []string{"exec", "--interactive"}
	if terminal {
		args = append(args, "--tty")
	}
	cmd := exec.CommandContext(ctx, l.Docker.Path, append(append(args, c.ID, "runner", "exec", node, "--"), command...)...)
	cmd.Env = l.Docker.Env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, errs
	err = cmd.Run()
	var ended *exec.ExitError
	if errors.As(err, &ended) && ended.ExitCode() > 0 {
		return ended.ExitCode(), nil
	}
	return 0, err
}

// NodeLog copies the journal of a node.
func (l *Launcher) NodeLog(ctx context.Context, name, node string, follow bool, out io.Writer) error {
	c, err := l.awake(ctx, name)
	if err != nil {
		return err
	}
	args := []string{"runner", "logs", node}
	if follow {
		args = append(args, "--follow")
	}
	return inner(l.Docker.ExecStreams(ctx, c.ID, docker.Streams{Out: out}, args...))
}

// inner returns the error that a program in the container printed, without what is said of how it was
// called.
func inner(err error) error {
	var failed *docker.Error
	if errors.As(err, &failed) {
		if text, ok := strings.CutPrefix(strings.TrimSpace(failed.Stderr), "error: "); ok {
			return &control.Error{Text: text, Usage: failed.ExitCode == 2}
		}
	}
	return err
}

// staging is the directory in the container for what is copied between a node and the Docker host.
const staging = "/var/tmp"

// Copy copies a file or a directory between the Docker host and a node, or between two nodes. A place
// is a path of the host, or NODE:PATH.
func (l *Launcher) Copy(ctx context.Context, name, source, destination string) (err error) {
	c, err := l.awake(ctx, name)
	if err != nil {
		return err
	}
	fromNode, inside := control.ParsePlace(source)
	toNode, _ := control.ParsePlace(destination)
	run := func(args ...string) error {
		return inner(l.Docker.ExecStreams(ctx, c.ID, docker.Streams{}, append([]string{"runner", "cp"}, args...)...))
	}
	switch {
	case fromNode != "" && toNode != "":
		return run(source, destination)
	case fromNode == "" && toNode == "":
		return control.Usage("want NODE:PATH as source or as destination")
	}
	out, err := l.Docker.Exec(ctx, c.ID, "mktemp", "-d", staging+"/cp-XXXXXX")
	if err != nil {
		return err
	}
	dir := string(bytes.TrimSpace(out))
	defer func() {
		_, removeErr := l.Docker.Exec(context.WithoutCancel(ctx), c.ID, "rm", "-rf", dir)
		err = errors.Join(err, removeErr)
	}()
	if toNode != "" {
		if err := l.Docker.Do(ctx, "copy "+source+" to the cluster", "cp", source, c.ID+":"+dir+"/"); err != nil {
			return err
		}
		return run(path.Join(dir, path.Base(source)), destination)
	}
	base := path.Base(path.Clean(inside))
	if err := run(source, dir); err != nil {
		return err
	}
	return l.Docker.Do(ctx, "copy "+source+" from the cluster", "cp", c.ID+":"+path.Join(dir, base), destination)
}
