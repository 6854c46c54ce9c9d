package cmd

import (
	"context"

	"github.com/dind-cluster/dind-cluster/cluster/node"
	"github.com/dind-cluster/dind-cluster/cluster/paths"
	"github.com/dind-cluster/dind-cluster/cluster/probe"
	"github.com/spf13/cobra"
)

func newProbe() *cobra.Command {
	return &cobra.Command{
		Use:    "probe",
		Short:  "Waits until services and DNS work on this node (called by the top-level container)",
		Args:   cobra.NoArgs,
		Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := node.ReadConfig(paths.NodeConfig)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), config.Timeout)
			defer cancel()
			return probe.DNS(ctx, config.Topology.Networks)
		},
	}
}
