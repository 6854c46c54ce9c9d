package cmd

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/dind-cluster/dind-cluster/image/spool"
	"github.com/dind-cluster/dind-cluster/image/store"
)

type imagesFlags struct {
	layerFlags
	below     []string
	databases bool
}

func newImages() *cobra.Command {
	f := &imagesFlags{}
	c := &cobra.Command{
		Use: `images --path /usr/lib/x/store/part --under /usr/lib/x --namespace k8s.io
    --blob layer.tar.zst --metadata layer.json archive…`,
		Short: "Make a layer with images unpacked, from archives as docker save writes them",
		Args:  cobra.MinimumNArgs(1),
		RunE:  func(c *cobra.Command, archives []string) error { return f.run(c.Context(), archives) },
	}
	f.add(c)
	c.Flags().StringArrayVar(&f.below, "below", nil, "an archive whose images are in another part of the store already; repeat, in the same order as there")
	c.Flags().BoolVar(&f.databases, "databases", false, "this part has the databases, of all images here and in the other parts")
	return c
}

func (f *imagesFlags) run(ctx context.Context, archives []string) error {
	content, err := spool.New()
	if err != nil {
		return err
	}
	defer content.Close()
	g, err := store.NewGroup(f.path, f.under, content)
	if err != nil {
		return err
	}
	var below, own []*store.Image
	for _, list := range []struct {
		paths []string
		all   *[]*store.Image
	}{{f.below, &below}, {archives, &own}} {
		for _, path := range list.paths {
			images, closer, err := store.Archive(ctx, path)
			if err != nil {
				return err
			}
			defer closer.Close()
			*list.all = append(*list.all, images...)
		}
	}
	if err := g.AddImages(ctx, f.namespace, below, own, f.databases); err != nil {
		return err
	}
	return f.write(g.Entries())
}
