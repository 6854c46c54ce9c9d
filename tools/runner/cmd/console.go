package cmd

import (
	"os"

	"github.com/dind-cluster/dind-cluster/cluster/console"
	"github.com/spf13/cobra"
)

func newConsole() *cobra.Command {
	return &cobra.Command{
		Use:    "console",
		Short:  "Copies the units' progress to the container's own output (started by the entrypoint)",
		Args:   cobra.NoArgs,
		Hidden: true,
		RunE:   func(cmd *cobra.Command, _ []string) error { return console.Copy(cmd.Context(), os.Stdout) },
	}
}
