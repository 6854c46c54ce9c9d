// Package cmd has the verbs of store, one file each.
package cmd

import (
	"github.com/spf13/cobra"

	"github.com/dind-cluster/dind-cluster/image/layer"
	"github.com/dind-cluster/dind-cluster/image/store/snapshot"
)

// New makes the command.
func New() *cobra.Command {
	c := &cobra.Command{
		Use:           "store",
		Short:         "Writes images as containerd's root has them once it has unpacked them, without containerd and without root",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	c.AddCommand(newImages(), newLayer(), newList())
	return c
}

// layerFlags say where a layer with a part of a store goes.
type layerFlags struct {
	path, under, namespace string
	spec                   layer.Spec
	out                    layer.Outputs
}

func (f *layerFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.path, "path", "", "the directory of this part of the store in the outer image: /usr/lib/x/store/part")
	c.Flags().StringVar(&f.under, "under", "", "the directory above it from which on the layer has entries for directories: /usr/lib/x")
	c.Flags().StringVar(&f.spec.Name, "label", "", "the layer's name in the outer image's history")
	c.Flags().StringVar(&f.namespace, "namespace", "", "containerd's namespace of the images: k8s.io for its CRI plugin, moby for Docker")
	c.Flags().StringVar(&f.out.Blob, "blob", "", "output: the layer, compressed")
	c.Flags().StringVar(&f.spec.Compression, "compression", "zstd", "how: zstd, gzip or none")
	c.Flags().StringVar(&f.out.Metadata, "metadata", "", "output: its digests and sizes (JSON)")
	c.Flags().StringVar(&f.out.MTree, "mtree", "", "output: a listing of its files")
	for _, required := range []string{"path", "under", "namespace", "blob", "metadata"} {
		_ = c.MarkFlagRequired(required)
	}
}

func (f *layerFlags) write(t snapshot.Tree) error {
	return f.out.Write(t.Sorted(), &f.spec)
}
