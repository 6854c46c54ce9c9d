// Package collect gathers what tells why a spec failed: the logs of nodes and pods, events, and the state of the cluster.
package collect

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// Options say where to look.
type Options struct {
	// Kubectl is the program, Kubeconfig the cluster.
	Kubectl, Kubeconfig string
	// Product tells that this is the top-level container of a dind-cluster, where `runner logs` has the nodes' own logs.
	Product bool
	// Runner is that program; "runner" if empty.
	Runner string
}

// commandTime is how long one command may take: a cluster that has failed may not answer.
const commandTime = 20 * time.Second

// parallelPods is how many pods are asked for their logs at the same time.
const parallelPods = 4

// Collect makes the folder dir and fills it. What cannot be had leaves a file that says why, in its place; the error is
// about what could not be written, or about the context's end, which leaves what is there by then.
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
		out, err := o.kubectl(ctx, c.args...)
		if err := write(filepath.Join(dir, c.file), out, err); err != nil {
			return err
		}
	}
	if o.Product {
		// The nodes have the logs of their pods, and of those that went a moment ago.
		return nil
	}
	out, err := o.kubectl(ctx, "get", "pods", "--all-namespaces", "--output", "json")
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
			out, err := o.kubectl(ctx, l.args...)
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

// podLogs are the logs that the pods of a list have: one for each container that has started, and the one before if it has
// started again.
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

// plain tells whether a name is safe as a part of a path.
func plain(s string) bool {
	return s != "" && s != "." && s != ".." && !strings.ContainsAny(s, "/\\\x00")
}

func (o Options) kubectl(ctx context.Context, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, commandTime, fmt.Errorf("no answer within %s", commandTime))
	defer cancel()
	args = append([]string{"--kubeconfig", o.Kubeconfig, "--request-timeout", "10s"}, args...)
	cmd := exec.CommandContext(ctx, o.Kubectl, args...)
	cmd.WaitDelay = time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		return stdout.Bytes(), context.Cause(ctx)
	}
	if err != nil {
		return stdout.Bytes(), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args[4:], " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.Bytes(), nil
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

// nodes unpacks what `runner logs` has: a folder for each node, and one for the top-level container.
func (o Options) nodes(ctx context.Context, dir string) error {
	runner := o.Runner
	if runner == "" {
		runner = "runner"
	}
	cmd := exec.CommandContext(ctx, runner, "logs")
	cmd.WaitDelay = time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return write(filepath.Join(dir, "nodes", "error.txt"), nil, err)
	}
	err = unpack(out, filepath.Join(dir, "nodes"))
	if err != nil {
		// Or it would wait for a reader.
		_ = cmd.Process.Kill()
	}
	if failed := cmd.Wait(); err == nil && failed != nil {
		err = fmt.Errorf("runner logs: %w: %s", failed, bytes.TrimSpace(stderr.Bytes()))
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return write(filepath.Join(dir, "nodes", "error.txt"), nil, err)
	}
	return nil
}

// unpack writes the plain files of an archive below dir, as they come.
func unpack(r io.Reader, dir string) error {
	root, err := makeRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for files := tar.NewReader(r); ; {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the nodes' logs: %w", err)
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		// A name like "../x" stays inside.
		name := strings.TrimPrefix(path.Clean("/"+header.Name), "/")
		if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
			return err
		}
		f, err := root.Create(name)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, files)
		if err := errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("reading the nodes' logs: %w", err)
		}
	}
}

func makeRoot(dir string) (*os.Root, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	return os.OpenRoot(dir)
}
