package layer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"

	"github.com/dind-cluster/dind-cluster/image/mtree"
	"github.com/dind-cluster/dind-cluster/image/tree"
)

// Outputs are the files that a layer is written to: the blob, its metadata as JSON, and a listing
// of its files, which may be empty if none is wanted.
type Outputs struct {
	Blob, Metadata, MTree string
}

// Write writes entries, which come sorted by path, as a layer. Of the spec, its name and
// compression count.
func (o *Outputs) Write(entries []*tree.Entry, spec *Spec) error {
	blob, err := os.Create(o.Blob)
	if err != nil {
		return fmt.Errorf("writing layer: %w", err)
	}
	defer blob.Close()
	metadata, err := WriteBlob(blob, entries, spec)
	if err != nil {
		return fmt.Errorf("writing layer %s: %w", spec.Name, err)
	}
	if err := blob.Close(); err != nil {
		return fmt.Errorf("writing layer: %w", err)
	}
	text, err := json.Marshal(metadata)
	if err != nil {
		return err
	}
	if err := os.WriteFile(o.Metadata, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("writing layer: %w", err)
	}
	if o.MTree == "" {
		return nil
	}
	var listing bytes.Buffer
	fmt.Fprintf(&listing, "# layer %s\n", spec.Name)
	if err := mtree.Write(&listing, entries); err != nil {
		return err
	}
	if err := os.WriteFile(o.MTree, listing.Bytes(), 0o644); err != nil {
		return fmt.Errorf("writing layer: %w", err)
	}
	return nil
}
