package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/dind-cluster/dind-cluster/internal/kubeconfig"
)

type kubeconfigFlags struct {
	kubeconfig string
}

func (a *app) kubeconfig() *cobra.Command {
	var flags kubeconfigFlags
	cmd := &cobra.Command{
		Use:   "kubeconfig",
		Short: "Print a cluster's kubeconfig, or put it into a file",
		Args:  noArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return a.runKubeconfig(c.Context(), flags) },
	}
	cmd.Flags().StringVar(&flags.kubeconfig, "kubeconfig", "", "file that gets the cluster's entries, in place of standard output")
	return cmd
}

func (a *app) runKubeconfig(ctx context.Context, flags kubeconfigFlags) error {
	l, err := a.newLauncher(a.stderr)
	if err != nil {
		return err
	}
	config, err := l.Kubeconfig(ctx, a.name)
	if err != nil {
		return err
	}
	if flags.kubeconfig != "" {
		return kubeconfig.At(flags.kubeconfig).Add(ctx, *config)
	}
	data, err := config.Marshal()
	if err != nil {
		return err
	}
	_, err = a.stdout.Write(data)
	return err
}
