package cli

import (
	"context"
	"errors"
	"os"

	"github.com/spf13/cobra"
)

type logsFlags struct {
	follow  bool
	archive string
}

func (a *app) logs() *cobra.Command {
	var flags logsFlags
	cmd := &cobra.Command{
		Use:   "logs [NODE]",
		Short: "Show what a cluster printed while it came up, or the journal of a node, or collect the logs of all nodes",
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) > 1:
				return usageError{errors.New("want one node, or none for what the cluster printed")}
			case len(args) == 1 && flags.archive != "":
				return usageError{errors.New("--archive has the logs of all nodes: leave the node away")}
			}
			return nil
		},
		RunE: func(c *cobra.Command, nodes []string) error { return a.runLogs(c.Context(), flags, nodes) },
	}
	cmd.Flags().BoolVarP(&flags.follow, "follow", "f", false, "go on as long as the cluster or the node does")
	cmd.Flags().StringVar(&flags.archive, "archive", "", "tar file that gets the logs of all nodes")
	cmd.MarkFlagsMutuallyExclusive("follow", "archive")
	return cmd
}

func (a *app) runLogs(ctx context.Context, flags logsFlags, nodes []string) error {
	l, err := a.newLauncher(a.stderr)
	if err != nil {
		return err
	}
	if len(nodes) == 1 {
		return l.NodeLog(ctx, a.name, nodes[0], flags.follow, a.stdout)
	}
	if flags.archive == "" {
		return l.Logs(ctx, a.name, flags.follow, a.stdout)
	}
	file, err := os.OpenFile(userPath(flags.archive), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := l.NodeLogs(ctx, a.name, file); err != nil {
		return err
	}
	return file.Close()
}
