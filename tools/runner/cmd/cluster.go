package cmd

import (
	"fmt"
	"io"
	"os"

	"github.com/dind-cluster/dind-cluster/cluster"
	"github.com/dind-cluster/dind-cluster/cluster/console"
	"github.com/dind-cluster/dind-cluster/cluster/settings"
	"github.com/spf13/cobra"
)

func newCluster() *cobra.Command {
	return &cobra.Command{
		Use:   "cluster",
		Short: "Brings the cluster up, or back after a restart, and looks after it (a unit of the top-level container)",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := console.Open()
			p, err := settings.Load()
			if err == nil {
				err = cluster.Run(cmd.Context(), p, io.MultiWriter(os.Stderr, out))
			}
			if err != nil && cmd.Context().Err() == nil {
				// The unit's OnFailure= ends the container.
				fmt.Fprintf(out, "error: %v\n", err)
			}
			return err
		},
	}
}
