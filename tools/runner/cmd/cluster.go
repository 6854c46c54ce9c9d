package cmd

import (
	"fmt"
	"io"
	"os"
	"os/exec"

	"github.com/dind-cluster/dind-cluster/tools/runner/cluster"
	"github.com/dind-cluster/dind-cluster/tools/runner/console"
	"github.com/dind-cluster/dind-cluster/tools/runner/plan"
	"github.com/spf13/cobra"
)

func newCluster() *cobra.Command {
	return &cobra.Command{
		Use:   "cluster",
		Short: "Brings the cluster up, or back after a restart, and looks after it (a unit of the top-level container)",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := plan.FromEnv(os.Getenv)
			if err != nil {
				return err
			}
			console := console.Open()
			err = cluster.Run(cmd.Context(), p, io.MultiWriter(os.Stderr, console))
			if err != nil && cmd.Context().Err() == nil {
				fmt.Fprintf(console, "error: %v\n", err)
			}
			if err != nil && !p.KeepOnFailure && cmd.Context().Err() == nil {
				// The container ends with the status 1, so that `docker run` and whoever watches the container see it.
				_ = exec.Command("systemctl", "--no-block", "exit", "1").Run()
			}
			return err
		},
	}
}
