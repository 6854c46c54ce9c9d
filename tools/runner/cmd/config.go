package cmd

import (
	"github.com/dind-cluster/dind-cluster/api/config"
	"github.com/dind-cluster/dind-cluster/cluster/settings"
	"github.com/spf13/cobra"
)

func newConfig() *cobra.Command {
	return &cobra.Command{
		Use:   "config",
		Short: "Prints the cluster's configuration, with all that was assumed, as a file that makes another such cluster",
		Long: `Prints the cluster's configuration, with all that was assumed, as a file that makes another such cluster. Passwords and keys of
registries are left out of it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := settings.Load()
			if err != nil {
				return err
			}
			data, err := config.Write(c.Hide())
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(data)
			return err
		},
	}
}
