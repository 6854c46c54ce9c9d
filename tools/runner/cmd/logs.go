package cmd

import (
	"errors"
	"os"

	"github.com/dind-cluster/dind-cluster/cluster"
	"github.com/dind-cluster/dind-cluster/cluster/control"
	"github.com/dind-cluster/dind-cluster/cluster/logs"
	"github.com/spf13/cobra"
)

func newLogs() *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:     "logs [NODE]",
		Short:   "Writes the logs of all nodes to standard output, as a tar archive, or the journal of one node as text",
		Example: "  docker exec NAME runner logs > logs.tar\n  docker exec NAME runner logs -f worker1",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return control.Usage("want one node, or none for the logs of all")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				return cluster.NodeLog(cmd.Context(), args[0], follow, os.Stdout)
			}
			if follow {
				return control.Usage("--follow: want the node whose journal to follow")
			}
			if info, err := os.Stdout.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
				return errors.New("the logs are a tar archive: redirect them, as in `docker exec NAME runner logs > logs.tar` (without -t)")
			}
			return logs.Collect(cmd.Context(), os.Stdout)
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on as long as the node does")
	return cmd
}
