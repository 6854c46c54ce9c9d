// Package cmd has the verbs of store, one file each.
package cmd

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/dind-cluster/dind-cluster/image/mtree"
	"github.com/dind-cluster/dind-cluster/image/store"
	"github.com/dind-cluster/dind-cluster/image/store/snapshot"
	"github.com/dind-cluster/dind-cluster/image/tree"
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
	path, under, label, namespace string
	blob, metadata, mtree         string
	compression                   string
}

func (f *layerFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.path, "path", "", "the folder of this part of the store in the outer image: /usr/lib/x/store/part")
	c.Flags().StringVar(&f.under, "under", "", "the folder above it from which on the layer has entries for folders: /usr/lib/x")
	c.Flags().StringVar(&f.label, "label", "", "the layer's name in the outer image's history")
	c.Flags().StringVar(&f.namespace, "namespace", "", "containerd's namespace of the images: k8s.io for its CRI plugin, moby for Docker")
	c.Flags().StringVar(&f.blob, "blob", "", "output: the layer, compressed")
	c.Flags().StringVar(&f.compression, "compression", "zstd", "how: zstd, gzip or none")
	c.Flags().StringVar(&f.metadata, "metadata", "", "output: its digests and sizes (JSON)")
	c.Flags().StringVar(&f.mtree, "mtree", "", "output: a listing of its files")
	for _, required := range []string{"path", "under", "namespace", "blob", "metadata"} {
		_ = c.MarkFlagRequired(required)
	}
}

func (f *layerFlags) write(t snapshot.Tree) error {
	blob, err := os.Create(f.blob)
	if err != nil {
		return fmt.Errorf("write layer: %w", err)
	}
	defer blob.Close()
	metadata, err := store.WriteLayer(blob, f.label, f.compression, t)
	if err != nil {
		return fmt.Errorf("write layer %s: %w", f.label, err)
	}
	if err := blob.Close(); err != nil {
		return fmt.Errorf("write layer: %w", err)
	}
	text, err := json.Marshal(metadata)
	if err != nil {
		return err
	}
	if err := writeFile(f.metadata, append(text, '\n')); err != nil {
		return err
	}
	var entries []*tree.Entry
	for _, e := range t.Sorted() {
		entries = append(entries, &e.Entry)
	}
	var listing bytes.Buffer
	fmt.Fprintf(&listing, "# layer %s\n", f.label)
	if err := mtree.Write(&listing, entries); err != nil {
		return err
	}
	return writeFile(f.mtree, listing.Bytes())
}

// writeFile writes a small output, if it is wanted.
func writeFile(path string, content []byte) error {
	if path == "" {
		return nil
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}
