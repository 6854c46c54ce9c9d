// Package nodes loads images into the node containers of this cluster. It opens an archive once and
// starts the loader in each node on the very same file, by its descriptor: no byte goes through
// Docker, and all nodes share the page cache.
package nodes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dind-cluster/dind-cluster/cluster/nodes"
	"github.com/dind-cluster/dind-cluster/image/archive"
	"github.com/dind-cluster/dind-cluster/internal/docker"
	"github.com/dind-cluster/dind-cluster/internal/progress"
)

// stopTime is how long a node's loader may take to clean up after SIGTERM.
const stopTime = 10 * time.Second

// Options of a Runtime.
type Options struct {
	// Nodes are containers' names; all nodes if empty.
	Nodes []string
	// Args are passed on to the loader in the node.
	Args []string
	// Progress receives a line per node and archive; nil for silence.
	Progress *progress.Printer
	// Docker and Nsenter are the commands; those names if empty.
	Docker, Nsenter string
}

// Runtime is a set of nodes.
type Runtime struct {
	o      Options
	client *docker.Client
	nodes  []string
}

// New finds the nodes.
func New(ctx context.Context, o Options) (*Runtime, error) {
	if o.Docker == "" {
		o.Docker = "docker"
	}
	if o.Nsenter == "" {
		o.Nsenter = "nsenter"
	}
	r := &Runtime{o: o, client: &docker.Client{Path: o.Docker}, nodes: o.Nodes}
	running, err := nodes.Running(ctx, r.client)
	if err != nil {
		return nil, err
	}
	for _, n := range o.Nodes {
		if !slices.Contains(running, n) {
			return nil, fmt.Errorf("there is no running node %q; there are: %s", n, strings.Join(running, ", "))
		}
	}
	if len(r.nodes) == 0 {
		r.nodes = running
	}
	return r, nil
}

// Close does nothing.
func (r *Runtime) Close() error { return nil }

// Load loads the archive into all nodes at the same time. A node that fails does not stop the
// others: an archive that is damaged fails in each, and none gets an image of it.
func (r *Runtime) Load(ctx context.Context, a *archive.Archive) error {
	errs := make([]error, len(r.nodes))
	var wg sync.WaitGroup
	for i, n := range r.nodes {
		wg.Go(func() { errs[i] = r.loadNode(ctx, n, a) })
	}
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return r.join(errs)
}

// join joins the nodes' errors; the same error of several nodes comes once, with their names.
func (r *Runtime) join(errs []error) error {
	var messages []string
	where := map[string][]string{}
	for i, err := range errs {
		if err == nil {
			continue
		}
		m := err.Error()
		if where[m] == nil {
			messages = append(messages, m)
		}
		where[m] = append(where[m], r.nodes[i])
	}
	var out []error
	for _, m := range messages {
		out = append(out, fmt.Errorf("%s: %s", strings.Join(where[m], ", "), m))
	}
	return errors.Join(out...)
}

// loadNode runs the node's loader in the node's mount and process namespaces, where the archive is
// descriptor 3.
func (r *Runtime) loadNode(ctx context.Context, n string, a *archive.Archive) error {
	step := r.o.Progress.Step("%s: %s", n, a.Name)
	pid, err := r.pid(ctx, n)
	if err != nil {
		step.Fail("failed")
		return err
	}
	args := []string{"--target", pid, "--mount", "--pid", "--", "loader", "load", "--node", "local", "--call", a.Name}
	args = append(args, r.o.Args...)
	cmd := exec.CommandContext(ctx, r.o.Nsenter, append(args, "/proc/self/fd/3")...)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.ExtraFiles = []*os.File{a.File()}
	// nsenter has a child, which is to stop, too.
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGTERM) }
	cmd.WaitDelay = stopTime
	if err := cmd.Run(); err != nil {
		step.Fail("failed")
		var exit *exec.ExitError
		if text := errorText(output.String()); errors.As(err, &exit) && text != "" {
			return errors.New(text)
		}
		return fmt.Errorf("running the node's loader: %w", err)
	}
	step.Done("%s", images(a))
	return nil
}

// pid finds a node's first process. It is another one after each start of the node, so it is looked
// up when it is needed: spooling an archive may have taken minutes.
func (r *Runtime) pid(ctx context.Context, n string) (string, error) {
	out, err := r.client.Output(ctx, "inspect node "+n, "container", "inspect", "--format", "{{.State.Pid}}", n)
	if err != nil {
		return "", err
	}
	pid := strings.TrimSpace(string(out))
	if pid == "" || pid == "0" {
		return "", errors.New("the node has stopped")
	}
	return pid, nil
}

func images(a *archive.Archive) string {
	var names []string
	for _, img := range a.Images {
		names = append(names, img.Pinned())
	}
	if len(names) > 3 {
		return fmt.Sprintf("%d images", len(names))
	}
	return strings.Join(names, ", ")
}

// errorText returns the error that a loader printed after its progress, without the loader's name.
func errorText(s string) string {
	if i := strings.LastIndex("\n"+s, "\nloader: "); i >= 0 {
		s = s[i+len("loader: "):]
	}
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "\n")
}
