package cli

import (
	"context"
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
		Use:   "logs",
		Short: "Show what a cluster printed while it came up, or collect the logs of all nodes",
		Args:  noArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return a.runLogs(c.Context(), flags) },
	}
	cmd.Flags().BoolVarP(&flags.follow, "follow", "f", false, "go on as long as the cluster does")
	cmd.Flags().StringVar(&flags.archive, "archive", "", "tar file that gets the logs of all nodes")
	cmd.MarkFlagsMutuallyExclusive("follow", "archive")
	return cmd
}

func (a *app) runLogs(ctx context.Context, flags logsFlags) error {
	l, err := a.newLauncher(a.stderr)
	if err != nil {
		return err
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
