// Package command is the loader's command line.
package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/dind-cluster/dind-cluster/cluster/paths"
	"github.com/dind-cluster/dind-cluster/internal/progress"
	"github.com/dind-cluster/dind-cluster/tools/loader/containerd"
	"github.com/dind-cluster/dind-cluster/tools/loader/load"
	"github.com/dind-cluster/dind-cluster/tools/loader/nodes"
)

const (
	nodeLocal = "local"
	nodeAll   = "all"
)

// Run runs the command line. Its error can be printed: names in an archive may be anything.
func Run(ctx context.Context) error {
	if err := New().ExecuteContext(ctx); err != nil {
		return errors.New(message(err))
	}
	return nil
}

// New returns the root command.
func New() *cobra.Command {
	root := &cobra.Command{
		Use:           "loader",
		Short:         "Loads container images into the nodes of a dind-cluster",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(newLoad())
	return root
}

// messageLimit bounds an error's text, in bytes: parts of it may come from an archive.
const messageLimit = 8 << 10

// message returns an error's text as a terminal can show it.
func message(err error) string {
	text := strings.Map(func(r rune) rune {
		if r == '\n' || unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, err.Error())
	if len(text) > messageLimit {
		text = strings.ToValidUTF8(text[:messageLimit], "") + " …"
	}
	return text
}

type loadFlags struct {
	node    []string
	name    string
	call    string
	quiet   bool
	spool   string
	wait    time.Duration
	timeout time.Duration
}

func newLoad() *cobra.Command {
	var f loadFlags
	cmd := &cobra.Command{
		Use:   "load [FILE|DIRECTORY|-]...",
		Short: "Loads image archives, verified, all of an archive or nothing",
		Long: `Loads image archives into the nodes.

An archive is what docker save or an OCI tool writes: plain, gzip or zstd compressed. A directory is an OCI layout, or has
archives in it. Without an argument, or with -, the archive comes from standard input:

  docker save my-app:1 | docker exec -i CLUSTER loader load

In the cluster's container all nodes get the images, in a node that node. What is there already is skipped.`,
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args) },
	}
	fs := cmd.Flags()
	fs.StringSliceVar(&f.node, "node", nil, "which `nodes`: all, local, or names; all in the cluster's container, local in a node")
	fs.StringVar(&f.name, "name", "", "a `name` for the archive's one image, instead of its own")
	fs.StringVar(&f.call, "call", "", "what messages call the archive")
	fs.MarkHidden("call") // for the loader in the cluster's container, which hands over a descriptor
	fs.BoolVarP(&f.quiet, "quiet", "q", false, "print nothing but errors")
	fs.StringVar(&f.spool, "spool", "", "`directory` for archives from standard input; TMPDIR or /var/tmp if empty")
	fs.DurationVar(&f.wait, "wait", 30*time.Second, "how `long` to wait until containerd answers")
	fs.DurationVar(&f.timeout, "timeout", 30*time.Minute, "how `long` all of it may take")
	return cmd
}

func (f *loadFlags) run(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		args = []string{load.Stdin}
	}
	if err := f.check(cmd, args); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(cmd.Context(), f.timeout, fmt.Errorf("not done after %s (--timeout)", f.timeout))
	defer cancel()
	var p *progress.Printer
	if !f.quiet {
		p = progress.New(cmd.ErrOrStderr())
	}
	connect := func(ctx context.Context) (load.Runtime, error) { return f.runtime(ctx, p) }
	o := load.Options{Name: f.name, Stdin: cmd.InOrStdin()}
	o.Archive.SpoolDir, o.Archive.Name = f.spool, f.call
	return load.Load(ctx, connect, args, o)
}

func (f *loadFlags) check(cmd *cobra.Command, args []string) error {
	if len(f.node) > 1 && (slices.Contains(f.node, nodeAll) || slices.Contains(f.node, nodeLocal)) {
		return fmt.Errorf("--node %s: all and local stand alone", strings.Join(f.node, ","))
	}
	if slices.Contains(args, load.Stdin) {
		if in, ok := cmd.InOrStdin().(*os.File); ok && isTerminal(in) {
			return errors.New("standard input is a terminal: give an archive, or redirect one (with docker exec -i)")
		}
	}
	return nil
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// nodesOf returns the default of --node, from the file with this container's role: all in the
// cluster's container, else this machine.
func nodesOf(roleFile string) (string, error) {
	role, err := os.ReadFile(roleFile)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("reading this container's role: %w", err)
	}
	if strings.TrimSpace(string(role)) == "cluster" {
		return nodeAll, nil
	}
	return nodeLocal, nil
}

// runtime returns the runtime to load into.
func (f *loadFlags) runtime(ctx context.Context, p *progress.Printer) (load.Runtime, error) {
	where := f.node
	if len(where) == 0 {
		here, err := nodesOf(paths.Role)
		if err != nil {
			return nil, err
		}
		where = []string{here}
	}
	if where[0] == nodeLocal {
		return containerd.New(ctx, containerd.Options{Wait: f.wait, Progress: p})
	}
	o := nodes.Options{Progress: p}
	if where[0] != nodeAll {
		o.Nodes = where
	}
	if f.name != "" {
		o.Args = append(o.Args, "--name", f.name)
	}
	return nodes.New(ctx, o)
}
