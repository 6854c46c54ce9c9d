package cli

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

func (a *app) list() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the clusters",
		Args:  noArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return a.runList(c.Context()) },
	}
}

func (a *app) runList(ctx context.Context) error {
	l, err := a.newLauncher(a.stderr)
	if err != nil {
		return err
	}
	clusters, err := l.List(ctx)
	if err != nil {
		return err
	}
	if len(clusters) == 0 {
		fmt.Fprintln(a.stderr, "There are no clusters.")
		return nil
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "NAME\tSTATUS\tIMAGE")
	for _, c := range clusters {
		fmt.Fprintf(w, "%s\t%s\t%s\n", c.Name, c.Status, c.Image)
	}
	return w.Flush()
}
