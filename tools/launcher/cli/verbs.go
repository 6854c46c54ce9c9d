package cli

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/dind-cluster/dind-cluster/cluster/control"
	"github.com/dind-cluster/dind-cluster/tools/internal/verbs"
)

// verbCommands are those for a cluster that runs.
func (a *app) verbCommands() []*cobra.Command {
	p := verbs.Program{
		Perform: func(ctx context.Context, r control.Request, emit func(control.Event)) error {
			l, err := a.newLauncher(a.stderr)
			if err != nil {
				return err
			}
			return l.Perform(ctx, a.name, r, emit)
		},
		Stdin:  os.Stdin,
		Path:   userPath,
		Stdout: a.stdout,
		Stderr: a.stderr,
	}
	return append(p.Commands(), a.pause(), a.unpause(), a.exec(), a.copy())
}

// isUsage reports whether an error is a mistake in the command line, found here or in the cluster.
func isUsage(err error) bool {
	var here usageError
	var there *control.Error
	return errors.As(err, &here) || errors.As(err, &there) && there.Usage
}

func (a *app) pause() *cobra.Command {
	return &cobra.Command{
		Use:   "pause",
		Short: "Freeze a cluster: it takes no processor time until it is unpaused",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := a.newLauncher(a.stderr)
			if err != nil {
				return err
			}
			return l.Pause(cmd.Context(), a.name, a.show)
		},
	}
}

func (a *app) unpause() *cobra.Command {
	return &cobra.Command{
		Use:   "unpause",
		Short: "Have a paused cluster go on, and wait until its nodes have reported",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := a.newLauncher(a.stderr)
			if err != nil {
				return err
			}
			return l.Unpause(cmd.Context(), a.name, a.show)
		},
	}
}

func (a *app) show(e control.Event) { io.WriteString(a.stderr, e.Log) }

// exitError is a user's command that ended with a status other than 0.
type exitError int

func (exitError) Error() string { return "the command failed" }

func (a *app) exec() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "exec NODE -- COMMAND [ARG...]",
		Short: "Run a command in a node, and end with its exit status",
		Args: func(_ *cobra.Command, args []string) error {
			if len(verbs.Command(args)) == 0 {
				return usageError{errors.New("want a node and a command: exec NODE -- COMMAND")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := a.newLauncher(a.stderr)
			if err != nil {
				return err
			}
			terminal := isTerminal(os.Stdin) && isTerminal(os.Stdout)
			status, err := l.Exec(cmd.Context(), a.name, args[0], terminal, os.Stdin, os.Stdout, os.Stderr, verbs.Command(args)...)
			if err == nil && status != 0 {
				return exitError(status)
			}
			return err
		},
	}
	// What follows the node is the command's.
	cmd.Flags().SetInterspersed(false)
	return cmd
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

func (a *app) copy() *cobra.Command {
	return &cobra.Command{
		Use:   "cp SOURCE DESTINATION",
		Short: "Copy a file or a directory from or to a node, whose paths are NODE:PATH",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usageError{errors.New("want a source and a destination, one of them NODE:PATH")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := a.newLauncher(a.stderr)
			if err != nil {
				return err
			}
			return l.Copy(cmd.Context(), a.name, placePath(args[0]), placePath(args[1]))
		},
	}
}

// placePath is userPath for a place that is not in a node.
func placePath(place string) string {
	if node, _ := control.ParsePlace(place); node != "" {
		return place
	}
	return userPath(place)
}
