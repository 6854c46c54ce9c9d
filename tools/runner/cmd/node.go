package cmd

import (
	"io"
	"os"

	"github.com/dind-cluster/dind-cluster/cluster/console"
	"github.com/dind-cluster/dind-cluster/cluster/node"
	"github.com/spf13/cobra"
)

func newNode() *cobra.Command {
	return &cobra.Command{
		Use:   "node",
		Short: "Makes this container a node of its cluster (a unit of a node)",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return node.Run(cmd.Context(), io.MultiWriter(os.Stderr, console.Open()))
		},
	}
}
