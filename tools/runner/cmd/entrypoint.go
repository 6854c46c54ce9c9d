package cmd

import (
	"os"

	"github.com/dind-cluster/dind-cluster/cluster/entrypoint"
	"github.com/spf13/cobra"
)

func newEntrypoint() *cobra.Command {
	return &cobra.Command{
		Use:   "entrypoint",
		Short: "Prepares the container and becomes systemd (process 1 of both images)",
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return entrypoint.Run(os.Getenv) },
	}
}
