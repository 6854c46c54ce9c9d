package cmd

import (
	"context"
	"encoding/json"
	"io"

	"github.com/spf13/cobra"

	boot "github.com/dind-cluster/dind-cluster/tools/boot/inside"
)

// inside are the verbs that run in the containers that are measured.
func inside(stdout io.Writer) *cobra.Command {
	c := &cobra.Command{Use: "inside", Short: "What runs in the containers that are measured", Hidden: true}
	verb := func(use string, run func(context.Context) (any, error)) *cobra.Command {
		v := &cobra.Command{Use: use, Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
			out, err := run(c.Context())
			if err != nil {
				return err
			}
			return json.NewEncoder(stdout).Encode(out)
		}}
		c.AddCommand(v)
		return v
	}
	var nodes int
	var image, kind string
	var processes bool
	watch := verb("watch", func(ctx context.Context) (any, error) { return boot.Watch(ctx, nodes, image) })
	watch.Flags().IntVar(&nodes, "nodes", 1, "size of the cluster")
	watch.Flags().StringVar(&image, "image", "", "image of the test Deployment")
	verb("usage", func(ctx context.Context) (any, error) { return boot.Usage(ctx) })
	verb("details", func(ctx context.Context) (any, error) { return boot.Collect(ctx) })
	floor := verb("floor", func(ctx context.Context) (any, error) { return boot.Floor(ctx, kind, processes) })
	floor.Flags().StringVar(&kind, "kind", "", "kind of floor")
	floor.Flags().BoolVar(&processes, "processes", false, "etcd and kube-apiserver alone, too")
	return c
}
