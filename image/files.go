// Package image handles container images as build outputs: a config, a manifest, and layers, each a
// file of its own.
package image

import (
	"path/filepath"

	"github.com/dind-cluster/dind-cluster/image/jsonfile"
)

// Files lists the files of an image. The Bazel rule writes it, as JSON; its paths are relative to
// the working directory of a program, or to its runfiles.
type Files struct {
	// Name is the image's name with its tag.
	Name     string       `json:"name"`
	Config   string       `json:"config"`
	Manifest string       `json:"manifest"`
	Layers   []LayerFiles `json:"layers"`
}

// LayerFiles are the files of one layer.
type LayerFiles struct {
	Metadata string `json:"metadata"`
	Blob     string `json:"blob,omitempty"`
}

// ReadFiles reads a description of an image's files, whose paths are relative to root.
func ReadFiles(path, root string) (*Files, error) {
	f, err := jsonfile.Read[Files]("image description", path)
	if err != nil {
		return nil, err
	}
	f.under(root)
	return f, nil
}

func (f *Files) under(root string) {
	join := func(p *string) {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(root, *p)
		}
	}
	join(&f.Config)
	join(&f.Manifest)
	for i := range f.Layers {
		join(&f.Layers[i].Metadata)
		join(&f.Layers[i].Blob)
	}
}
