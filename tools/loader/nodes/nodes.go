// Package nodes loads images into the node containers of this cluster: it hands the archive to the loader in each of them.
package nodes

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"sync"

	"github.com/dind-cluster/dind-cluster/tools/internal/progress"
	"github.com/dind-cluster/dind-cluster/tools/loader/archive"
)

// label marks the containers that are nodes; the runner sets it.
const label = "dind-cluster.node"

// Options say which nodes, and how to load.
type Options struct {
	// Nodes are containers' names; all nodes if empty.
	Nodes []string
	// Args are passed on to the loader in the node.
	Args []string
	// Progress receives a line per node and archive; nil for silence.
	Progress *progress.Printer
	// Docker is the docker command; "docker" if empty.
	Docker string
}

// Runtime is a set of nodes.
type Runtime struct{ o Options }

// New finds the nodes.
func New(ctx context.Context, o Options) (*Runtime, error) {
	if o.Docker == "" {
		o.Docker = "docker"
	}
	running, err := list(ctx, o.Docker)
	if err != nil {
		return nil, fmt.Errorf("listing the cluster's nodes: %w", err)
	}
	if len(running) == 0 {
		return nil, errors.New("no node is running yet: wait until the cluster is up")
	}
	for _, n := range o.Nodes {
		if !slices.Contains(running, n) {
			return nil, fmt.Errorf("there is no running node %q; there are: %s", n, strings.Join(running, ", "))
		}
	}
	if len(o.Nodes) == 0 {
		o.Nodes = running
	}
	return &Runtime{o}, nil
}

func list(ctx context.Context, docker string) ([]string, error) {
	cmd := exec.CommandContext(ctx, docker, "ps", "--filter", "label="+label, "--format", "{{.Names}}")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("docker ps: %w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	names := strings.Fields(string(out))
	slices.Sort(names)
	return names, nil
}

// Close does nothing.
func (r *Runtime) Close() error { return nil }

// Load reads the archive once, and sends it to all nodes at the same time. A node that fails does not stop the others;
// an archive that turns out damaged stops all of them before they have named an image.
func (r *Runtime) Load(ctx context.Context, a *archive.Archive) error {
	fan := &fan{}
	errs := make([]error, len(r.o.Nodes))
	var wg sync.WaitGroup
	for i, node := range r.o.Nodes {
		pr, pw := io.Pipe()
		fan.out = append(fan.out, pw)
		wg.Go(func() {
			errs[i] = r.loadNode(ctx, node, a, pr)
			pr.CloseWithError(errGone)
		})
	}
	buf := bufio.NewWriterSize(fan, 1<<20)
	err := archive.Write(buf, a.Images)
	if err == nil {
		err = buf.Flush()
	}
	fan.close(err)
	wg.Wait()
	if err != nil && !errors.Is(err, errGone) {
		return err // the nodes only say that their input broke off
	}
	return errors.Join(errs...)
}

func (r *Runtime) loadNode(ctx context.Context, node string, a *archive.Archive, in io.Reader) error {
	step := r.o.Progress.Step("%s: %s", node, a.Name)
	args := append([]string{"exec", "-i", node, "loader", "load", "--node", "local"}, r.o.Args...)
	cmd := exec.CommandContext(ctx, r.o.Docker, append(args, "-")...)
	var output bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &output, &output
	if err := cmd.Run(); err != nil {
		step.Fail("failed")
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("%s: %w: %s", node, err, lastLines(output.String(), 5))
	}
	step.Done("%d images", len(a.Images))
	return nil
}

// lastLines keeps the end of a program's output, where its error is.
func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

var errGone = errors.New("no node takes the archive")

// fan writes to all nodes; a node that stops reading is left out from then on.
type fan struct{ out []*io.PipeWriter }

func (f *fan) Write(p []byte) (int, error) {
	f.out = slices.DeleteFunc(f.out, func(w *io.PipeWriter) bool {
		_, err := w.Write(p)
		return err != nil
	})
	if len(f.out) == 0 {
		return 0, errGone
	}
	return len(p), nil
}

func (f *fan) close(err error) {
	for _, w := range f.out {
		w.CloseWithError(err)
	}
}
