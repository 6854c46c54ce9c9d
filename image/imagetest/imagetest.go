// Package imagetest makes small images, as files, for tests.
package imagetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/dind-cluster/dind-cluster/image"
	"github.com/dind-cluster/dind-cluster/image/effects"
	"github.com/dind-cluster/dind-cluster/image/layer"
	"github.com/dind-cluster/dind-cluster/image/tree"
)

// Spec describes an image.
type Spec struct {
	Name string
	Base *image.Files
	// Layers are names; each is a layer with one file of that name and content.
	Layers []string
	Config image.Config
	// Annotations and State are as in image.Spec.
	Annotations map[string]string
	State       string
}

// New makes an image in a temporary directory.
func New(t testing.TB, s Spec) *image.Files {
	t.Helper()
	dir := t.TempDir()
	files := &image.Files{Name: s.Name, Config: filepath.Join(dir, "config"), Manifest: filepath.Join(dir, "manifest")}
	if s.Base != nil {
		files.Layers = append(files.Layers, s.Base.Layers...)
	}
	var own []image.LayerFiles
	for i, name := range s.Layers {
		own = append(own, writeLayer(t, filepath.Join(dir, fmt.Sprint(i)), name))
	}
	files.Layers = append(files.Layers, own...)
	config, manifest, err := image.Build(&image.Spec{Base: s.Base, Layers: own, Config: s.Config, Annotations: s.Annotations, State: s.State})
	if err != nil {
		t.Fatal(err)
	}
	write(t, files.Config, config)
	write(t, files.Manifest, manifest)
	return files
}

func writeLayer(t testing.TB, path, name string) image.LayerFiles {
	t.Helper()
	e, err := effects.Text(name, name, 0o644, name)
	if err != nil {
		t.Fatal(err)
	}
	var blob bytes.Buffer
	m, err := layer.WriteBlob(&blob, []*tree.Entry{e}, &layer.Spec{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path+".json", text)
	write(t, path, blob.Bytes())
	return image.LayerFiles{Metadata: path + ".json", Blob: path}
}

func write(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
}
