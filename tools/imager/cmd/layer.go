package cmd

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/dind-cluster/dind-cluster/image/layer"
	"github.com/dind-cluster/dind-cluster/image/mtree"
	"github.com/dind-cluster/dind-cluster/image/tree"
)

type layerFlags struct {
	spec, state string
	out         layerOutputs
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
	c.Flags().StringVar(&f.out.blob, "blob", "", "output: the layer")
	c.Flags().StringVar(&f.out.metadata, "metadata", "", "output: its digests and sizes (JSON)")
	c.Flags().StringVar(&f.out.mtree, "mtree", "", "output: a listing of its files")
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
	if err := f.out.write(l.Entries, spec); err != nil {
		return err
	}
	if f.state == "" {
		return nil
	}
	return l.State.Write(f.state)
}

// layerOutputs are the files that a layer is written to.
type layerOutputs struct {
	blob, metadata, mtree string
}

func (o *layerOutputs) write(entries []*tree.Entry, spec *layer.Spec) error {
	blob, err := os.Create(o.blob)
	if err != nil {
		return fmt.Errorf("write layer: %w", err)
	}
	defer blob.Close()
	metadata, err := layer.WriteBlob(blob, entries, spec)
	if err != nil {
		return fmt.Errorf("write layer %s: %w", spec.Name, err)
	}
	if err := blob.Close(); err != nil {
		return fmt.Errorf("write layer: %w", err)
	}
	text, err := json.Marshal(metadata)
	if err != nil {
		return err
	}
	if err := writeFile(o.metadata, append(text, '\n')); err != nil {
		return err
	}
	var listing bytes.Buffer
	fmt.Fprintf(&listing, "# layer %s\n", spec.Name)
	if err := mtree.Write(&listing, entries); err != nil {
		return err
	}
	return writeFile(o.mtree, listing.Bytes())
}
