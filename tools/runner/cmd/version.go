package cmd

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/dind-cluster/dind-cluster/internal/version"
)

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Writes the version of dind-cluster, not that of its Kubernetes",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), version.Version)
			return err
		},
	}
}
