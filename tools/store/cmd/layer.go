package cmd

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/dind-cluster/dind-cluster/image"
	"github.com/dind-cluster/dind-cluster/image/spool"
	"github.com/dind-cluster/dind-cluster/image/store"
	"github.com/dind-cluster/dind-cluster/image/store/snapshot"
)

type outerFlags struct {
	layerFlags
	image, usage         string
	number               int
	ownBlob, ownMetadata string
	usages, below        []string
}

func newLayer() *cobra.Command {
	f := &outerFlags{}
	c := &cobra.Command{
		Use: `layer --path /usr/lib/x/store/part --under /usr/lib/x --namespace moby --image image.files.json --number 0
    [--below L]... [--own-blob B --own-metadata M] --blob layer.tar.zst --metadata layer.json --usage usage.json`,
		Short: "Make a layer with one layer of another image unpacked, and with a layer's own files, of which the equal ones become hard links",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return f.run(c.Context()) },
	}
	f.add(c)
	c.Flags().StringVar(&f.image, "image", "", "the description of the other image's files (JSON)")
	c.Flags().IntVar(&f.number, "number", 0, "which of its layers, counted from 0")
	c.Flags().StringArrayVar(&f.below, "below", nil, "the listing of each layer of the image under that one, from the lowest to the highest (store list)")
	c.Flags().StringVar(&f.ownBlob, "own-blob", "", "a layer that this one is to have all files of")
	c.Flags().StringVar(&f.ownMetadata, "own-metadata", "", "its metadata")
	c.Flags().StringVar(&f.usage, "usage", "", "output: what the unpacked layer takes on disk (JSON)")
	c.Flags().StringArrayVar(&f.usages, "with-usage", nil, "the usage of each other layer of the image, from the lowest to the highest; with them this layer has the databases")
	_ = c.MarkFlagRequired("image")
	c.MarkFlagsRequiredTogether("own-blob", "own-metadata")
	return c
}

func (f *outerFlags) run(ctx context.Context) error {
	files, err := image.ReadFiles(f.image, "")
	if err != nil {
		return err
	}
	if f.number < 0 || f.number >= len(files.Layers) {
		return fmt.Errorf("image %s has no layer number %d, only %d layers", files.Name, f.number, len(files.Layers))
	}
	content, err := spool.New()
	if err != nil {
		return err
	}
	defer content.Close()
	g, err := store.NewGroup(f.path, f.under, content)
	if err != nil {
		return err
	}
	var below []*snapshot.Layer
	for _, path := range f.below {
		l, err := snapshot.ReadListing(path)
		if err != nil {
			return err
		}
		below = append(below, l)
	}
	l, err := store.ReadBlob(files.Layers[f.number].Blob, files.Layers[f.number].Metadata, content)
	if err != nil {
		return err
	}
	tree, root, err := g.AddLayer(f.number, l, below)
	if err != nil {
		return fmt.Errorf("image %s: layer %d: %w", files.Name, f.number, err)
	}
	usage := tree.Usage()
	if f.usage != "" {
		if err := store.WriteUsage(f.usage, usage); err != nil {
			return err
		}
	}
	if len(f.usages) > 0 {
		if err := f.addImage(ctx, g, files, usage); err != nil {
			return err
		}
	}
	own := &snapshot.Layer{Tree: snapshot.Tree{}}
	if f.ownBlob != "" {
		if own, err = store.ReadBlob(f.ownBlob, f.ownMetadata, content); err != nil {
			return err
		}
		if own.Removes() {
			return fmt.Errorf("layer %s removes files of layers below it, which the store cannot hold", f.ownBlob)
		}
	}
	all, err := g.Share(root, own.Tree)
	if err != nil {
		return err
	}
	return f.write(all)
}

// addImage adds the databases, which know all layers of the image.
func (f *outerFlags) addImage(ctx context.Context, g *store.Group, files *image.Files, own snapshot.Usage) error {
	i, err := store.Files(files)
	if err != nil {
		return err
	}
	var all []snapshot.Usage
	for _, path := range f.usages {
		u, err := store.ReadUsage(path)
		if err != nil {
			return err
		}
		all = append(all, u)
	}
	if f.number > len(all) {
		return fmt.Errorf("image %s: the usage of %d layers besides number %d is not that of all layers", files.Name, len(all), f.number)
	}
	all = append(all[:f.number:f.number], append([]snapshot.Usage{own}, all[f.number:]...)...)
	return g.AddImage(ctx, f.namespace, i, all)
}
