package cmd

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/dind-cluster/dind-cluster/tools/imager/embed"
	"github.com/dind-cluster/dind-cluster/tools/imager/image"
	"github.com/dind-cluster/dind-cluster/tools/imager/layer"
	"github.com/dind-cluster/dind-cluster/tools/imager/tree"
)

type embedFlags struct {
	root, label           string
	image                 string
	innerMetadata, inner  string
	blob, metadata, mtree string
}

func newEmbed() *cobra.Command {
	f := &embedFlags{}
	c := &cobra.Command{
		Use: `embed --path /usr/lib/x (--inner-metadata M --inner-blob B | --image image.files.json)
    --blob layer.tar.gz --metadata layer.meta.json`,
		Short: "Make a layer with a part of another image's OCI layout: one of its layers, or its index",
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return f.run() },
	}
	c.Flags().StringVar(&f.root, "path", "", "where the layout is in the outer image")
	c.Flags().StringVar(&f.label, "label", "", "the layer's name in the image's history")
	c.Flags().StringVar(&f.image, "image", "", "the inner image, for the layer with its index")
	c.Flags().StringVar(&f.innerMetadata, "inner-metadata", "", "the inner layer's metadata")
	c.Flags().StringVar(&f.inner, "inner-blob", "", "the inner layer")
	c.Flags().StringVar(&f.blob, "blob", "", "output: the layer")
	c.Flags().StringVar(&f.metadata, "metadata", "", "output: its digests and sizes (JSON)")
	c.Flags().StringVar(&f.mtree, "mtree", "", "output: a listing of its files")
	for _, required := range []string{"path", "blob", "metadata"} {
		_ = c.MarkFlagRequired(required)
	}
	c.MarkFlagsRequiredTogether("inner-metadata", "inner-blob")
	c.MarkFlagsMutuallyExclusive("inner-metadata", "image")
	c.MarkFlagsOneRequired("inner-metadata", "image")
	return c
}

func (f *embedFlags) run() error {
	entries, err := f.entries()
	if err != nil {
		return err
	}
	out := layerOutputs{f.blob, f.metadata, f.mtree}
	return out.write(entries, &layer.Spec{Name: f.label})
}

func (f *embedFlags) entries() ([]*tree.Entry, error) {
	if f.inner != "" {
		return embed.Layer(f.root, f.innerMetadata, f.inner)
	}
	files, err := image.ReadFiles(f.image, "")
	if err != nil {
		return nil, err
	}
	if files.Name == "" {
		return nil, errors.New("the inner image has no name: whoever loads it needs one")
	}
	return embed.Index(f.root, files)
}
