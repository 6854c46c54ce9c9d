package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"strings"

	"github.com/dind-cluster/dind-cluster/cluster/control"
	"github.com/dind-cluster/dind-cluster/cluster/nodes"
	"github.com/dind-cluster/dind-cluster/internal/docker"
	"golang.org/x/sys/unix"
)

// ExitError is a command of the user's that ended with a status other than 0.
type ExitError struct{ Status int }

func (e *ExitError) Error() string { return fmt.Sprintf("exit status %d", e.Status) }

// Exec runs a command in a node. If standard input and output are a terminal, the command has one,
// too. If the command fails the error is an *ExitError.
func Exec(ctx context.Context, node string, command []string, in, out, errs *os.File) error {
	client, err := docker.Find()
	if err != nil {
		return err
	}
	if err := checkRunning(ctx, client, node); err != nil {
		return err
	}
	args := []string{"exec", "--interactive"}
	if isTerminal(in) && isTerminal(out) {
		args = append(args, "--tty")
	}
	cmd := exec.CommandContext(ctx, client.Path, append(append(args, node), command...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, errs
	err = cmd.Run()
	var ended *exec.ExitError
	if errors.As(err, &ended) && ended.ExitCode() > 0 {
		return &ExitError{ended.ExitCode()}
	}
	return err
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// checkRunning returns an error if there is no running node of a name.
func checkRunning(ctx context.Context, client *docker.Client, name string) error {
	all, err := nodes.All(ctx, client)
	if err != nil {
		return err
	}
	var names []string
	for _, n := range all {
		if n.Names == name {
			if n.State != "running" {
				return fmt.Errorf("node %s is %s: `node start %s` first", name, n.State, name)
			}
			return nil
		}
		names = append(names, n.Names)
	}
	return control.Usage("there is no node %q: there are %s", name, strings.Join(names, ", "))
}

// place is a path in a node, or in this container if node is "".
type place struct{ node, path string }

func parsePlace(text string) place {
	node, path := control.ParsePlace(text)
	return place{node, path}
}

// Copy copies a file or a directory. Either place may be NODE:PATH. If the destination is a directory,
// the copy lies in it under the source's own name, otherwise it has the destination's. What the node
// sees counts, its tmpfs among it, which docker cp does not know.
func Copy(ctx context.Context, source, destination string) error {
	client, err := docker.Find()
	if err != nil {
		return err
	}
	from, to := parsePlace(source), parsePlace(destination)
	for _, p := range []place{from, to} {
		if p.path == "" {
			return control.Usage("%s: want a path after the node", p.node+":")
		}
		if p.node != "" && !path.IsAbs(p.path) {
			return control.Usage("%s:%s: want an absolute path", p.node, p.path)
		}
		if p.node != "" {
			if err := checkRunning(ctx, client, p.node); err != nil {
				return err
			}
		}
	}
	// The directory, and what the copy is called in it.
	clean := path.Clean(from.path)
	const unpack = `set -e
if [ -d "$1" ]; then dir=$1 name=$2; else dir=$(dirname -- "$1") name=$(basename -- "$1"); fi
case $1 in */) [ -d "$1" ] || { echo "there is no directory $1" >&2; exit 1; };; esac
[ -d "$dir" ] || { echo "there is no directory $dir" >&2; exit 1; }
new=$(mktemp -d -- "$dir/.copy-XXXXXX")
trap 'rm -rf -- "$new"' EXIT
tar --extract --directory "$new"
if [ -d "$new/$2" ] && [ -d "$dir/$name" ]; then cp -a -- "$new/$2/." "$dir/$name"; else mv -f -T -- "$new/$2" "$dir/$name"; fi`
	r, w := io.Pipe()
	packed := make(chan error, 1)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		err := from.run(ctx, client, nil, w, "tar", "--create", "--directory", path.Dir(clean), "--", path.Base(clean))
		w.CloseWithError(err)
		packed <- err
	}()
	err = to.run(ctx, client, r, io.Discard, "sh", "-c", unpack, "sh", to.path, path.Base(clean))
	r.CloseWithError(err)
	if packErr := <-packed; packErr != nil && !errors.Is(packErr, err) && !errors.Is(packErr, io.ErrClosedPipe) {
		return fmt.Errorf("reading %s: %w", source, packErr)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", destination, err)
	}
	return nil
}

// run runs a command where the place is.
func (p place) run(ctx context.Context, client *docker.Client, in io.Reader, out io.Writer, command ...string) error {
	if p.node != "" {
		return client.ExecStreams(ctx, p.node, docker.Streams{In: in, Out: out}, command...)
	}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	var errs strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, &errs
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(errs.String()))
	}
	return nil
}

// NodeLog writes the journal of a node, or, if the node does not run, what it printed to its console.
func NodeLog(ctx context.Context, node string, follow bool, out io.Writer) error {
	client, err := docker.Find()
	if err != nil {
		return err
	}
	switch err := checkRunning(ctx, client, node); {
	case err == nil:
	case errors.As(err, new(*control.Error)):
		return err
	default:
		return client.Logs(ctx, node, follow, out)
	}
	args := []string{"journalctl", "--no-pager", "--output", "short-precise"}
	if follow {
		args = append(args, "--follow", "--lines", "all")
	}
	return client.ExecStreams(ctx, node, docker.Streams{Out: out}, args...)
}
