// Package collect gathers what explains a failed spec: the logs of nodes and pods, events, and the
// state of the cluster.
package collect

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dind-cluster/dind-cluster/tools/e2e/suite"
)

// Options say where to look.
type Options struct {
	// Suite has kubectl and the cluster's kubeconfig.
	Suite *suite.Suite
	// Product reports whether this is the top-level container of a dind-cluster, where `runner
	// logs` has the nodes' own logs.
	Product bool
	// Runner is that program; "runner" if empty.
	Runner string
}

// parallelPods is how many pods are asked for their logs at the same time.
const parallelPods = 4

// Collect makes the directory dir and fills it. What cannot be had leaves a file that says why, in
// its place; the error is about what could not be written, or about the context's end, which leaves
// what is there by then.
func Collect(ctx context.Context, dir string, o Options) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return o.cluster(ctx, dir) })
	if o.Product {
		g.Go(func() error { return o.nodes(ctx, dir) })
	}
	err := g.Wait()
	if ctx.Err() != nil && !errors.Is(context.Cause(ctx), context.Canceled) && err == nil {
		err = context.Cause(ctx)
	}
	return err
}

// cluster asks the API server.
func (o Options) cluster(ctx context.Context, dir string) error {
	for _, c := range []struct {
		file string
		args []string
	}{
		{"nodes.txt", []string{"get", "nodes", "--output", "wide"}},
		{"pods.txt", []string{"get", "pods", "--all-namespaces", "--output", "wide"}},
		{"events.txt", []string{"get", "events", "--all-namespaces", "--sort-by", ".metadata.creationTimestamp"}},
		{"nodes-described.txt", []string{"describe", "nodes"}},
	} {
		out, err := o.Suite.Ask(ctx, c.args...)
		if err := write(filepath.Join(dir, c.file), out, err); err != nil {
			return err
		}
	}
	if o.Product {
		// The nodes have the logs of their pods, and of those that went a moment ago.
		return nil
	}
	out, err := o.Suite.Ask(ctx, "get", "pods", "--all-namespaces", "--output", "json")
	if err != nil {
		return write(filepath.Join(dir, "pods", "error.txt"), nil, err)
	}
	logs, err := podLogs(out)
	if err != nil {
		return write(filepath.Join(dir, "pods", "error.txt"), nil, err)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallelPods)
	for _, l := range logs {
		g.Go(func() error {
			out, err := o.Suite.Ask(ctx, l.args...)
			return write(filepath.Join(dir, "pods", l.file), out, err)
		})
	}
	return g.Wait()
}

// podLog is a log to ask for.
type podLog struct {
	file string
	args []string
}

// podLogs are the logs that the pods of a list have: one for each container that has started, and
// the one before if it has started again.
func podLogs(list []byte) ([]podLog, error) {
	type status struct {
		Name         string
		RestartCount int
		State        struct{ Waiting *struct{} }
		LastState    struct{ Terminated *struct{} }
	}
	var pods struct {
		Items []struct {
			Metadata struct{ Namespace, Name string }
			Status   struct {
				InitContainerStatuses, ContainerStatuses, EphemeralContainerStatuses []status
			}
		}
	}
	if err := json.Unmarshal(list, &pods); err != nil {
		return nil, fmt.Errorf("reading the list of pods: %w", err)
	}
	var out []podLog
	for _, pod := range pods.Items {
		all := append(append(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses...), pod.Status.EphemeralContainerStatuses...)
		for _, c := range all {
			ns, name := pod.Metadata.Namespace, pod.Metadata.Name
			// They become a path. The API server lets no others in.
			if !plain(ns) || !plain(name) || !plain(c.Name) {
				continue
			}
			args := []string{"logs", "--timestamps", "--namespace", ns, name, "--container", c.Name}
			if c.State.Waiting == nil {
				out = append(out, podLog{path.Join(ns, name, c.Name+".log"), args})
			}
			if c.RestartCount > 0 && c.LastState.Terminated != nil {
				out = append(out, podLog{path.Join(ns, name, c.Name+".previous.log"), append(args[:len(args):len(args)], "--previous")})
			}
		}
	}
	return out, nil
}

// plain reports whether a name is safe as a part of a path.
func plain(s string) bool {
	return s != "" && s != "." && s != ".." && !strings.ContainsAny(s, "/\\\x00")
}

// write writes a file, with the error, if there is one, at its end.
func write(file string, data []byte, failed error) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	if failed != nil {
		data = fmt.Appendf(data, "(not complete: %v)\n", failed)
	}
	return os.WriteFile(file, data, 0o644)
}

// unpack's $0 is the runner, $1 the directory. GNU tar refuses names that lead out of it.
const unpack = `set -o pipefail; "$0" logs | tar --extract --no-same-owner --directory="$1"`

// nodes unpacks what `runner logs` has: a directory for each node, and one for the top-level
// container. What came before it failed stays.
func (o Options) nodes(ctx context.Context, dir string) error {
	dir = filepath.Join(dir, "nodes")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "bash", "-c", unpack, cmp.Or(o.Runner, "runner"), dir)
	// The shell's end alone would not be that of what it has started.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	} else if err != nil {
		err = fmt.Errorf("runner logs: %w: %s", err, bytes.TrimSpace(out))
	}
	if err != nil {
		return write(filepath.Join(dir, "error.txt"), nil, err)
	}
	return nil
}
