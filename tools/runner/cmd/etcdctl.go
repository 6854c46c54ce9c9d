package cmd

import (
	"github.com/dind-cluster/dind-cluster/cluster/node"
	"github.com/spf13/cobra"
)

func newEtcdctl() *cobra.Command {
	return &cobra.Command{
		Use:                "etcdctl ARGUMENT…",
		Short:              "Runs etcdctl in the etcd of this node, with its keys (on control planes)",
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && (args[0] == "--help" || args[0] == "-h") {
				return cmd.Help()
			}
			return node.Etcdctl(cmd.Context(), args, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
}
