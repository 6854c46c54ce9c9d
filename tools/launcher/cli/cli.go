// Package cli is the launcher's command line: one file per command.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dind-cluster/dind-cluster/cluster/host"
)

// Exit statuses, besides 0.
const (
	statusError       = 1
	statusUsage       = 2
	statusInterrupted = 130 // as a shell has it for Ctrl-C
)

// app has what all commands share.
type app struct {
	image  string // the path of the image's description among the runfiles, or ""
	stdout io.Writer
	stderr io.Writer
	// newLauncher is host.New, except in tests.
	newLauncher func(io.Writer) (*host.Launcher, error)

	name string
}

// usageError is a mistake in the command line.
type usageError struct{ error }

// Main runs the command line and returns the exit status.
func Main(ctx context.Context, image string, args []string, stdout, stderr io.Writer) int {
	a := &app{image: image, stdout: stdout, stderr: stderr, newLauncher: host.New}
	return a.main(ctx, args)
}

func (a *app) main(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	var command exitError
	if errors.As(err, &command) && ctx.Err() == nil {
		return int(command)
	}
	fmt.Fprintf(a.stderr, "Error: %v\n", err)
	switch {
	case ctx.Err() != nil:
		return statusInterrupted
	case isUsage(err), strings.HasPrefix(err.Error(), "unknown command "):
		fmt.Fprintf(a.stderr, "Run %q for what there is.\n", a.display()+" --help")
		return statusUsage
	}
	return statusError
}

// display is how the user called this program.
func (a *app) display() string {
	if os.Getenv("BUILD_WORKSPACE_DIRECTORY") != "" {
		return "bazel run //images:dind-cluster --"
	}
	return "dind-cluster"
}

func (a *app) root() *cobra.Command {
	root := a.create("dind-cluster")
	root.Short = "Make a Kubernetes cluster in one Docker container, and look after it"
	root.Long = `Makes a Kubernetes cluster in one Docker container: sends the image to the local Docker
(only what it lacks), starts it, and ends when every node is Ready, DNS answers and
kubectl on this machine works.`
	root.Example = strings.ReplaceAll(`  CMD
  CMD --name second --nodes 1
  CMD load my-operator:dev
  CMD delete`, "CMD", a.display())
	root.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: a.display()}
	root.SilenceErrors = true
	root.SilenceUsage = true
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.PersistentFlags().StringVar(&a.name, "name", host.DefaultName, "name of the cluster and of its container")
	root.AddCommand(
		a.create("create"),
		a.delete(),
		a.list(),
		a.load(),
		a.logs(),
		a.kubeconfig(),
		a.snapshot(),
		a.forward(),
	)
	root.AddCommand(a.verbCommands()...)
	return root
}

// userPath resolves a path that the user gave: a relative one starts in the user's working
// directory, which under `bazel run` is not that of this process.
func userPath(path string) string {
	if wd := os.Getenv("BUILD_WORKING_DIRECTORY"); wd != "" && !filepath.IsAbs(path) {
		return filepath.Join(wd, path)
	}
	return path
}

// noArgs is cobra.NoArgs as a usageError.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("unexpected argument %q", args[0])}
	}
	return nil
}
