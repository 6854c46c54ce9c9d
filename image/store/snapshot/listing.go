package snapshot

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/dind-cluster/dind-cluster/image/jsonfile"
)

// WriteListing writes a layer without the contents of its files, as JSON. That is all that the
// layers above need of it, so they need not read its archive.
func (l *Layer) WriteListing(path string) error {
	text, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("writing a layer's listing: %w", err)
	}
	if err := os.WriteFile(path, text, 0o644); err != nil {
		return fmt.Errorf("writing a layer's listing: %w", err)
	}
	return nil
}

// ReadListing reads a file of WriteListing. The layer's files have no content.
func ReadListing(path string) (*Layer, error) {
	return jsonfile.Read[Layer]("a layer's listing", path)
}
