// Package logs collects the logs and the state of a cluster into one tar archive, with a directory
// for each node and one for the top-level container.
package logs

import (
	"archive/tar"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dind-cluster/dind-cluster/cluster/component"
	"github.com/dind-cluster/dind-cluster/cluster/nodes"
	"github.com/dind-cluster/dind-cluster/cluster/paths"
	"github.com/dind-cluster/dind-cluster/internal/docker"
)

// command is a command whose output goes into the archive.
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
	{"nftables.txt", []string{"nft", "list", "ruleset"}},
	{"disk.txt", []string{"df", "-h"}},
	{"mounts.txt", []string{"cat", "/proc/self/mountinfo"}},
}

var onNode = slices.Concat(units(), []command{
	journal("node.log", "dind-node"),
	{"containers.txt", []string{"crictl", "ps", "--all"}},
	{"pods.txt", []string{"crictl", "pods"}},
	{"images.txt", []string{"crictl", "images"}},
}, common)

var onTop = append([]command{
	journal("cluster.log", "dind-cluster"),
	journal("docker.log", "docker"),
	{"containers.txt", []string{"docker", "ps", "--all", "--no-trunc"}},
	{"kubernetes.txt", []string{"kubectl", "get", "nodes,pods", "--all-namespaces", "--output", "wide", "--request-timeout", "5s"}},
	{"events.txt", []string{"kubectl", "get", "events", "--all-namespaces", "--request-timeout", "5s"}},
}, common...)

// journal returns the command for the log of one unit.
func journal(file, unit string) command {
	return command{file, []string{"journalctl", "--no-pager", "--output", "short-precise", "--unit", unit}}
}

// units returns the commands for the logs of the components that are units.
func units() []command {
	var out []command
	for _, c := range component.Which(component.Unit) {
		out = append(out, journal(c.Name+".log", c.Name))
	}
	return out
}

// Bounds on what does not answer. A command that takes longer, or a node that sends nothing for
// that long, is given up: the rest is worth more.
const (
	commandLimit = 10 * time.Second
	silenceLimit = 20 * time.Second
)

// Collect writes the archive. For what cannot be collected it writes the error into the archive
// instead; the error returned is one of writing.
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
		w.tree("/var/log/kubernetes", "kubernetes") // the audit log
		return w.close()
	}
	w.commands(ctx, "top-level", onTop)
	client, err := docker.Find()
	if err != nil {
		return err
	}
	containers, err := listNodes(ctx, client)
	if err != nil {
		w.note("top-level/nodes.error.txt", err)
	}
	for _, n := range containers {
		w.node(ctx, client, n)
	}
	return w.close()
}

func listNodes(ctx context.Context, client *docker.Client) ([]docker.Summary, error) {
	ctx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()
	return nodes.All(ctx, client)
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

// file adds a file of size bytes. If content ends early, the archive stays valid: the rest is
// filled with zeros, and the error says so.
func (a *archive) file(name string, size int64, content io.Reader) error {
	if a.err != nil {
		return nil
	}
	header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: time.Now()}
	if a.err = a.tar.WriteHeader(header); a.err != nil {
		return nil
	}
	var read error
	n, err := io.Copy(a.tar, &remember{io.LimitReader(content, size), &read})
	if err != nil && read == nil {
		a.err = err
		return nil
	}
	if missing := size - n; missing > 0 {
		_, a.err = io.CopyN(a.tar, zeros{}, missing)
		return fmt.Errorf("%s: the last %d bytes are missing: %w", name, missing, cmp.Or(read, io.ErrUnexpectedEOF))
	}
	return nil
}

// remember keeps the error of a reader, to tell it from one of the writer.
type remember struct {
	io.Reader
	err *error
}

func (r *remember) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil && err != io.EOF {
		*r.err = err
	}
	return n, err
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func (a *archive) note(name string, err error) {
	text := err.Error() + "\n"
	_ = a.file(name, int64(len(text)), strings.NewReader(text))
}

// spoolDir is the directory for temporary files: not /tmp, which is a tmpfs.
var spoolDir = "/var/tmp"

// produced adds a file with what a function writes. It is spooled to disk, since its size comes
// first in an archive.
func (a *archive) produced(name string, produce func(io.Writer) error) {
	spool, err := os.CreateTemp(spoolDir, "log-")
	if err != nil {
		a.note(name, err)
		return
	}
	defer spool.Close()
	// Unlinked, so that nothing is left whatever happens.
	if err := os.Remove(spool.Name()); err != nil {
		a.note(name, err)
		return
	}
	if err := produce(spool); err != nil {
		fmt.Fprintf(spool, "(%v)\n", err)
	}
	size, err := spool.Seek(0, io.SeekCurrent)
	if err == nil {
		_, err = spool.Seek(0, io.SeekStart)
	}
	if err == nil {
		err = a.file(name, size, spool)
	}
	if err != nil {
		a.note(name+".error.txt", err)
	}
}

func (a *archive) commands(ctx context.Context, dir string, commands []command) {
	for _, c := range commands {
		a.produced(path.Join(dir, c.file), func(w io.Writer) error {
			ctx, cancel := context.WithTimeout(ctx, commandLimit)
			defer cancel()
			cmd := exec.CommandContext(ctx, c.argv[0], c.argv[1:]...)
			cmd.WaitDelay = time.Second
			cmd.Stdout, cmd.Stderr = w, w
			if err := cmd.Run(); err != nil {
				return fmt.Errorf("%s: %w", strings.Join(c.argv, " "), err)
			}
			return nil
		})
	}
}

// tree adds the files below a directory.
func (a *archive) tree(root, dir string) {
	_ = filepath.WalkDir(root, func(p string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		// Logs of containers are links into the runtime's directories.
		info, err := os.Stat(p)
		if err != nil || !info.Mode().IsRegular() {
			return nil
		}
		f, err := os.Open(p)
		if err != nil {
			return nil
		}
		defer f.Close()
		name := path.Join(dir, strings.TrimPrefix(p, root))
		// A log that is rotated meanwhile gets shorter.
		if err := a.file(name, info.Size(), f); err != nil {
			a.note(name+".error.txt", err)
		}
		return nil
	})
}

// node adds what a node's own runner collects, or, if the node does not run, the logs in its
// container.
func (a *archive) node(ctx context.Context, client *docker.Client, n docker.Summary) {
	a.produced(path.Join(n.Names, "container.json"), func(w io.Writer) error {
		ctx, cancel := context.WithTimeout(ctx, commandLimit)
		defer cancel()
		return client.Stream(ctx, docker.Streams{Out: w}, "look at node "+n.Names, "container", "inspect", n.ID)
	})
	a.produced(path.Join(n.Names, "console.log"), func(w io.Writer) error {
		ctx, cancel := context.WithTimeout(ctx, commandLimit)
		defer cancel()
		return client.Logs(ctx, n.ID, false, w)
	})
	source := func(ctx context.Context, w io.Writer) error {
		return client.ExecStreams(ctx, n.ID, docker.Streams{Out: w}, "/usr/bin/runner", "logs")
	}
	if n.State != "running" {
		source = func(ctx context.Context, w io.Writer) error {
			return client.Stream(ctx, docker.Streams{Out: w}, "copy the logs of node "+n.Names, "cp", n.ID+":/var/log", "-")
		}
	}
	if err := a.nested(ctx, n.Names, silenceLimit, source); err != nil {
		a.note(path.Join(n.Names, "error.txt"), err)
	}
}

// nested adds the files of another archive below dir, as they come. It gives up if nothing comes
// for as long as silence.
func (a *archive) nested(ctx context.Context, dir string, silence time.Duration, source func(context.Context, io.Writer) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(silence, func() { cancel(fmt.Errorf("nothing came for %v", silence)) })
	defer timer.Stop()
	r, w := io.Pipe()
	defer r.Close()
	stop := context.AfterFunc(ctx, func() { r.CloseWithError(context.Cause(ctx)) })
	defer stop()
	go func() { w.CloseWithError(source(ctx, w)) }()
	files := tar.NewReader(&impatient{r, timer, silence})
	for a.err == nil {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return cmp.Or(context.Cause(ctx), err)
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		if err := a.file(path.Join(dir, path.Clean("/"+header.Name)), header.Size, files); err != nil {
			return cmp.Or(context.Cause(ctx), err)
		}
	}
	return nil
}

// impatient runs a timer while it waits for data, and not while the data that was read is written.
type impatient struct {
	io.Reader
	timer *time.Timer
	limit time.Duration
}

func (i *impatient) Read(p []byte) (int, error) {
	i.timer.Reset(i.limit)
	defer i.timer.Stop()
	return i.Reader.Read(p)
}
