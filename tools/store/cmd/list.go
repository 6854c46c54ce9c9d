package cmd

import (
	"github.com/spf13/cobra"

	"github.com/dind-cluster/dind-cluster/image/store"
)

func newList() *cobra.Command {
	var blob, metadata, output string
	c := &cobra.Command{
		Use:   "list --blob layer.tar.zst --metadata layer.json --output listing.json",
		Short: "List a layer's files for the layers above it",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			l, err := store.ReadBlob(blob, metadata, nil)
			if err != nil {
				return err
			}
			return l.WriteListing(output)
		},
	}
	c.Flags().StringVar(&blob, "blob", "", "the layer")
	c.Flags().StringVar(&metadata, "metadata", "", "its metadata")
	c.Flags().StringVar(&output, "output", "", "output: the listing (JSON)")
	for _, required := range []string{"blob", "metadata", "output"} {
		_ = c.MarkFlagRequired(required)
	}
	return c
}
