package store

import (
	"io"
	"time"

	"github.com/dind-cluster/dind-cluster/image/layer"
	"github.com/dind-cluster/dind-cluster/image/store/snapshot"
	"github.com/dind-cluster/dind-cluster/image/tree"
)

// WriteLayer writes a tree as a layer, compressed with zstd, gzip or none. The name is for the image's history.
func WriteLayer(w io.Writer, name, compression string, t snapshot.Tree) (*layer.Metadata, error) {
	return layer.WriteArchive(w, name, compression, func(w io.Writer) error { return WriteTar(w, t) })
}

// WriteTar writes a tree as a tar archive.
func WriteTar(w io.Writer, t snapshot.Tree) error {
	var entries []*tree.Entry
	times := map[*tree.Entry]time.Time{}
	for _, e := range t.Sorted() {
		entries = append(entries, &e.Entry)
		times[&e.Entry] = e.ModTime
	}
	return layer.WriteTar(w, entries, func(e *tree.Entry) time.Time { return times[e] })
}
