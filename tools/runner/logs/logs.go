// Package logs collects everything that tells what went on in a cluster into one tar archive: a folder per node, and
// one for the top-level container.
package logs

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/dind-cluster/dind-cluster/tools/internal/docker"
	"github.com/dind-cluster/dind-cluster/tools/runner/nodes"
	"github.com/dind-cluster/dind-cluster/tools/runner/paths"
)

// command is one whose output goes into the archive.
type command struct {
	file string
	argv []string
}

var common = []command{
	{"journal.log", []string{"journalctl", "--no-pager", "--output", "short-precise"}},
	{"units.txt", []string{"systemctl", "--all", "--no-pager", "--full"}},
	{"processes.txt", []string{"ps", "-eo", "pid,ppid,stat,rss,etime,args", "--forest"}},
	{"network.txt", []string{"sh", "-c", "ip address; ip route; ss -tulpn"}},
	{"iptables.txt", []string{"iptables-save"}},
	{"disk.txt", []string{"df", "-h"}},
	{"mounts.txt", []string{"cat", "/proc/self/mountinfo"}},
}

var onNode = append([]command{
	{"kubelet.log", []string{"journalctl", "--no-pager", "--output", "short-precise", "--unit", "kubelet"}},
	{"containerd.log", []string{"journalctl", "--no-pager", "--output", "short-precise", "--unit", "containerd"}},
	{"node.log", []string{"journalctl", "--no-pager", "--output", "short-precise", "--unit", "dind-node"}},
	{"containers.txt", []string{"crictl", "ps", "--all"}},
	{"pods.txt", []string{"crictl", "pods"}},
	{"images.txt", []string{"crictl", "images"}},
}, common...)

var onTop = append([]command{
	{"cluster.log", []string{"journalctl", "--no-pager", "--output", "short-precise", "--unit", "dind-cluster"}},
	{"docker.log", []string{"journalctl", "--no-pager", "--output", "short-precise", "--unit", "docker"}},
	{"containers.txt", []string{"docker", "ps", "--all", "--no-trunc"}},
	{"kubernetes.txt", []string{"kubectl", "get", "nodes,pods", "--all-namespaces", "--output", "wide", "--request-timeout", "5s"}},
	{"events.txt", []string{"kubectl", "get", "events", "--all-namespaces", "--request-timeout", "5s"}},
}, common...)

// Collect writes the archive. What cannot be had is noted in the archive in its place; the error is about writing.
func Collect(ctx context.Context, out io.Writer) error {
	w := &archive{tar: tar.NewWriter(out)}
	role, err := os.ReadFile(paths.Role)
	if err != nil {
		return fmt.Errorf("collecting logs: %w", err)
	}
	if strings.TrimSpace(string(role)) == "node" {
		w.commands(ctx, "", onNode)
		w.tree("/var/log/pods", "pods")
		w.tree("/etc/kubernetes/manifests", "manifests")
		return w.close()
	}
	w.commands(ctx, "top-level", onTop)
	client, err := docker.Find()
	if err != nil {
		return err
	}
	containers, err := nodes.All(ctx, client)
	if err != nil {
		w.note("top-level/nodes.error.txt", err)
	}
	for _, n := range containers {
		w.node(ctx, client, n)
	}
	return w.close()
}

// archive is a tar archive that keeps its first error.
type archive struct {
	tar *tar.Writer
	err error
}

func (a *archive) close() error {
	if err := errors.Join(a.err, a.tar.Close()); err != nil {
		return fmt.Errorf("writing the logs: %w", err)
	}
	return nil
}

func (a *archive) file(name string, data []byte) {
	if a.err != nil {
		return
	}
	header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(data)), Mode: 0o644, ModTime: time.Now()}
	if a.err = a.tar.WriteHeader(header); a.err == nil {
		_, a.err = a.tar.Write(data)
	}
}

func (a *archive) note(name string, err error) { a.file(name, []byte(err.Error()+"\n")) }

func (a *archive) commands(ctx context.Context, dir string, commands []command) {
	for _, c := range commands {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		cmd := exec.CommandContext(ctx, c.argv[0], c.argv[1:]...)
		cmd.WaitDelay = time.Second
		out, err := cmd.CombinedOutput()
		cancel()
		if err != nil {
			out = append(out, fmt.Sprintf("(%s: %v)\n", strings.Join(c.argv, " "), err)...)
		}
		a.file(path.Join(dir, c.file), out)
	}
}

// tree adds the files below a directory.
func (a *archive) tree(root, dir string) {
	_ = filepath.WalkDir(root, func(p string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		// Logs of containers are links into the runtime's folders.
		info, err := os.Stat(p)
		if err != nil || !info.Mode().IsRegular() {
			return nil
		}
		if data, err := os.ReadFile(p); err == nil {
			a.file(path.Join(dir, strings.TrimPrefix(p, root)), data)
		}
		return nil
	})
}

// node adds what a node's own runner collects, or, if the node does not run, what its container left.
func (a *archive) node(ctx context.Context, client *docker.Client, n docker.Summary) {
	var inspect bytes.Buffer
	if err := client.Stream(ctx, docker.Streams{Out: &inspect}, "look at node "+n.Names, "container", "inspect", n.ID); err == nil {
		a.file(path.Join(n.Names, "container.json"), inspect.Bytes())
	}
	var console bytes.Buffer
	if err := client.Logs(ctx, n.ID, false, &console); err == nil {
		a.file(path.Join(n.Names, "console.log"), console.Bytes())
	}
	source := func(w io.Writer) error {
		return client.ExecStreams(ctx, n.ID, docker.Streams{Out: w}, "/usr/bin/runner", "logs")
	}
	if n.State != "running" {
		source = func(w io.Writer) error {
			return client.Stream(ctx, docker.Streams{Out: w}, "copy the logs of node "+n.Names, "cp", n.ID+":/var/log", "-")
		}
	}
	if err := a.nested(n.Names, source); err != nil {
		a.note(path.Join(n.Names, "error.txt"), err)
	}
}

// nested adds the files of another archive below dir.
func (a *archive) nested(dir string, source func(io.Writer) error) error {
	r, w := io.Pipe()
	go func() { w.CloseWithError(source(w)) }()
	defer r.Close()
	files := tar.NewReader(r)
	for {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		data, err := io.ReadAll(files)
		if err != nil {
			return err
		}
		a.file(path.Join(dir, path.Clean("/"+header.Name)), data)
	}
}
