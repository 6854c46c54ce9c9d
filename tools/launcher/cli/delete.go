package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/dind-cluster/dind-cluster/internal/kubeconfig"
)

type deleteFlags struct {
	kubeconfig string
}

func (a *app) delete() *cobra.Command {
	var flags deleteFlags
	cmd := &cobra.Command{
		Use:   "delete",
		Short: "Remove a cluster, with all that belongs to it",
		Args:  noArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return a.runDelete(c.Context(), flags) },
	}
	cmd.Flags().StringVar(&flags.kubeconfig, "kubeconfig", "", "file that has the cluster's entries (default: $KUBECONFIG or ~/.kube/config)")
	return cmd
}

func (a *app) runDelete(ctx context.Context, flags deleteFlags) error {
	files, err := kubeconfig.DefaultFiles()
	if flags.kubeconfig != "" {
		files, err = []*kubeconfig.File{kubeconfig.At(flags.kubeconfig)}, nil
	}
	if err != nil {
		return err
	}
	l, err := a.newLauncher(a.stderr)
	if err != nil {
		return err
	}
	found, err := l.Delete(ctx, a.name, files...)
	if err == nil && !found {
		// Not an error: afterwards there is no such cluster, as was asked for.
		fmt.Fprintf(a.stderr, "There is no cluster %q.\n", a.name)
	}
	return err
}
