package cmd

import (
	"context"
	"fmt"
	"time"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/cluster"
	"github.com/dind-cluster/dind-cluster/cluster/settings"
	"github.com/spf13/cobra"
)

func newHealth() *cobra.Command {
	var what string
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Exits 0 if the cluster is ready, and says why if not (the image's health check)",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), 4*time.Second)
			defer cancel()
			if what == "" {
				c, err := settings.Load()
				if err != nil {
					return err
				}
				what = c.Health
			}
			if err := v1alpha1.OneOf(what, v1alpha1.HealthNodes, v1alpha1.HealthAPI); err != nil {
				return fmt.Errorf("--of %q: %w", what, err)
			}
			if err := cluster.Health(ctx, what); err != nil {
				return err
			}
			addons, err := cluster.Addons()
			for _, a := range addons {
				fmt.Fprintln(cmd.OutOrStdout(), a)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&what, "of", "", "what has to work: nodes or api (default: what the cluster's settings say)")
	return cmd
}
