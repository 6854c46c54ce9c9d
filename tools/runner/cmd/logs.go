package cmd

import (
	"errors"
	"os"

	"github.com/dind-cluster/dind-cluster/cluster/logs"
	"github.com/spf13/cobra"
)

func newLogs() *cobra.Command {
	return &cobra.Command{
		Use:     "logs",
		Short:   "Writes the logs of all nodes to standard output, as a tar archive",
		Example: "  docker exec NAME runner logs > logs.tar",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if info, err := os.Stdout.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
				return errors.New("the logs are a tar archive: redirect them, as in `docker exec NAME runner logs > logs.tar` (without -t)")
			}
			return logs.Collect(cmd.Context(), os.Stdout)
		},
	}
}
