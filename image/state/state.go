// Package state passes on to the layers above which paths exist, which packages are installed, and
// the content of the few files that several layers write to.
package state

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/dind-cluster/dind-cluster/image/tree"
	"github.com/dind-cluster/dind-cluster/internal/compression"
)

// State describes a layer and all below it.
type State struct {
	// Entries are all paths, by path.
	Entries map[string]*tree.Entry `json:"entries"`
	// Packages are the installed packages' versions, by name.
	Packages map[string]string `json:"packages"`
	// Shared is the content of files that every layer may rewrite, such as
	// dpkg's status and the accounts.
	Shared map[string]string `json:"shared"`
	// Units is the content of the unit files that can be enabled, which a layer
	// above may do.
	Units map[string]string `json:"units"`
	// Complete reports that the dependencies of packages in layers above must be met.
	Complete bool `json:"complete,omitempty"`
	// Exclude and Include are the patterns for packages in layers above that declare none of their
	// own.
	Exclude []string `json:"exclude,omitempty"`
	Include []string `json:"include,omitempty"`
}

// New returns the state below the first layer.
func New() *State {
	return &State{
		Entries:  map[string]*tree.Entry{},
		Packages: map[string]string{},
		Shared:   map[string]string{},
		Units:    map[string]string{},
	}
}

// Read reads a file of Write.
func Read(path string) (*State, error) {
	s, err := read(path)
	if err != nil {
		return nil, fmt.Errorf("reading the state of the layers below from %s: %w", path, err)
	}
	return s, nil
}

func read(path string) (*State, error) {
	z, err := compression.Open(path)
	if err != nil {
		return nil, err
	}
	defer z.Close()
	s := New()
	if err := json.NewDecoder(z).Decode(s); err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, z); err != nil {
		return nil, err
	}
	return s, nil
}

// Write writes the state to a file, the same bytes for the same state.
func (s *State) Write(path string) error {
	if err := s.write(path); err != nil {
		return fmt.Errorf("writing the layer's state: %w", err)
	}
	return nil
}

func (s *State) write(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	z, err := gzip.NewWriterLevel(f, gzip.BestSpeed)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(z).Encode(s); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return f.Close()
}
