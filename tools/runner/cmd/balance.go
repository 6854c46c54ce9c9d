package cmd

import (
	"github.com/dind-cluster/dind-cluster/cluster"
	"github.com/spf13/cobra"
)

func newBalance() *cobra.Command {
	return &cobra.Command{
		Use:   "balance",
		Short: "Balances the API servers of several control planes (a unit of the top-level container)",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cluster.Balance(cmd.Context()) },
	}
}
