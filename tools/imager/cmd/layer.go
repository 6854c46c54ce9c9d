package cmd

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/dind-cluster/dind-cluster/image/layer"
)

type layerFlags struct {
	spec, state string
	out         layer.Outputs
}

func newLayer() *cobra.Command {
	f := &layerFlags{}
	c := &cobra.Command{
		Use:   "layer --spec layer.json --blob layer.tar.zst --metadata layer.meta.json",
		Short: "Build one layer: its blob, its metadata, its listing, and the state for the layers above",
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return f.run() },
	}
	c.Flags().StringVar(&f.spec, "spec", "", "what the layer is made of (JSON)")
	c.Flags().StringVar(&f.out.Blob, "blob", "", "output: the layer")
	c.Flags().StringVar(&f.out.Metadata, "metadata", "", "output: its digests and sizes (JSON)")
	c.Flags().StringVar(&f.out.MTree, "mtree", "", "output: a listing of its files")
	c.Flags().StringVar(&f.state, "state", "", "output: the state for layers above")
	for _, required := range []string{"spec", "blob", "metadata"} {
		_ = c.MarkFlagRequired(required)
	}
	return c
}

func (f *layerFlags) run() error {
	spec, err := layer.ReadSpec(f.spec)
	if err != nil {
		return err
	}
	l, err := layer.Build(spec)
	if err != nil {
		return fmt.Errorf("layer %s: %w", spec.Name, err)
	}
	defer l.Close()
	if err := f.out.Write(l.Entries, spec); err != nil {
		return err
	}
	if f.state == "" {
		return nil
	}
	return l.State.Write(f.state)
}
