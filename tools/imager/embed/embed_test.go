package embed_test

import (
	"archive/tar"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/dind-cluster/dind-cluster/tools/imager/embed"
	"github.com/dind-cluster/dind-cluster/tools/imager/image"
	"github.com/dind-cluster/dind-cluster/tools/imager/image/imagetest"
	"github.com/dind-cluster/dind-cluster/tools/imager/tree"
)

const root = "/usr/lib/nested/image"

// TestLayout unpacks the outer layers and reads the layout they make.
func TestLayout(t *testing.T) {
	inner := imagetest.New(t, imagetest.Spec{Name: "inner:1", Layers: []string{"one", "two"}, Config: image.Config{Entrypoint: []string{"/init"}}})
	dir := t.TempDir()
	for _, l := range inner.Layers {
		entries, err := embed.Layer(root, l.Metadata, l.Blob)
		if err != nil {
			t.Fatal(err)
		}
		if files := unpack(t, dir, entries); files != 1 {
			t.Errorf("the layer has %d files, not one", files)
		}
	}
	entries, err := embed.Index(root, inner)
	if err != nil {
		t.Fatal(err)
	}
	unpack(t, dir, entries)

	index, err := layout.ImageIndexFromPath(filepath.Join(dir, root))
	if err != nil {
		t.Fatal(err)
	}
	// (The library's own validation takes every layer for a compressed one.)
	checkDigests(t, filepath.Join(dir, root, "blobs/sha256"), 4)
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if name := m.Manifests[0].Annotations["io.containerd.image.name"]; name != "inner:1" {
		t.Errorf("the image's name is %q", name)
	}
	img, err := index.Image(m.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		digest, _ := l.Digest()
		diffID, _ := l.DiffID()
		if mediaType, err := l.MediaType(); err != nil || mediaType != types.OCIUncompressedLayer || digest != diffID {
			t.Errorf("layer %s has type %s, diff ID %s (%v)", digest, mediaType, diffID, err)
		}
	}
	original, err := image.Open(inner)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := original.ConfigName()
	if got, err := img.ConfigName(); err != nil || got != want {
		t.Errorf("the config is %s (%v), want %s", got, err, want)
	}

	// The same folder serves docker load.
	text, err := os.ReadFile(filepath.Join(dir, root, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var manifest tarball.Manifest
	if err := json.Unmarshal(text, &manifest); err != nil {
		t.Fatal(err)
	}
	for _, name := range append(manifest[0].Layers, manifest[0].Config) {
		if _, err := os.Stat(filepath.Join(dir, root, name)); err != nil {
			t.Error(err)
		}
	}
}

// checkDigests compares the blobs' names with what they contain.
func checkDigests(t *testing.T, dir string, want int) {
	t.Helper()
	blobs, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(blobs) != want {
		t.Errorf("%d blobs, not %d", len(blobs), want)
	}
	for _, b := range blobs {
		content, err := os.ReadFile(filepath.Join(dir, b.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if got := image.Hash(content).Hex; got != b.Name() {
			t.Errorf("blob %s has digest %s", b.Name(), got)
		}
	}
}

func unpack(t *testing.T, dir string, entries []*tree.Entry) (files int) {
	t.Helper()
	for _, e := range entries {
		path := filepath.Join(dir, e.Path)
		if e.Type == tar.TypeDir {
			if err := os.MkdirAll(path, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		files++
		r, err := e.Content()
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if int64(len(content)) != e.Size {
			t.Errorf("%s has %d bytes, not %d", e.Path, len(content), e.Size)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		r.Close()
	}
	return files
}

func TestErrors(t *testing.T) {
	inner := imagetest.New(t, imagetest.Spec{Name: "inner:1", Layers: []string{"one"}})
	if _, err := embed.Layer(root, "/nonexistent", inner.Layers[0].Blob); err == nil {
		t.Error("a layer without metadata is taken")
	}
	if _, err := embed.Layer("/a/../../b", inner.Layers[0].Metadata, inner.Layers[0].Blob); err == nil {
		t.Error("a path out of the root is taken")
	}
}
