package snapshot

import (
	"encoding/json"
	"fmt"
	"os"
)

// WriteListing writes all of a layer but the contents of its files, as JSON, for ReadListing in another process: the layers
// above need no more of it, and so do not have to read its archive again.
func (l *Layer) WriteListing(path string) error {
	text, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("write a layer's listing: %w", err)
	}
	if err := os.WriteFile(path, text, 0o644); err != nil {
		return fmt.Errorf("write a layer's listing: %w", err)
	}
	return nil
}

// ReadListing reads what WriteListing wrote. The files in it have no content.
func ReadListing(path string) (*Layer, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read a layer's listing: %w", err)
	}
	l := &Layer{}
	if err := json.Unmarshal(text, l); err != nil {
		return nil, fmt.Errorf("read a layer's listing: %s: %w", path, err)
	}
	return l, nil
}
