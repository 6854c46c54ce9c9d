package snapshot

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/dind-cluster/dind-cluster/image/jsonfile"
)

// WriteListing writes all of a layer but the contents of its files, as JSON, for ReadListing in another process: the layers
// above need no more of it, and so do not have to read its archive again.
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

// ReadListing reads what WriteListing wrote. The files in it have no content.
func ReadListing(path string) (*Layer, error) {
	return jsonfile.Read[Layer]("a layer's listing", path)
}
