package cmd

import (
	"context"
	"time"

	"github.com/dind-cluster/dind-cluster/cluster"
	"github.com/dind-cluster/dind-cluster/cluster/settings"
	"github.com/spf13/cobra"
)

func newHealth() *cobra.Command {
	return &cobra.Command{
		Use:   "health",
		Short: "Exits 0 if the cluster is ready, and says why if not (the image's health check)",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), 4*time.Second)
			defer cancel()
			p, err := settings.Load()
			if err != nil {
				return err
			}
			return cluster.Health(ctx, p.Health)
		},
	}
}
