// Package embed puts an image into another one: as an OCI layout of uncompressed
// blobs, spread over layers of the outer image.
package embed

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"

	"github.com/dind-cluster/dind-cluster/tools/imager/effects"
	"github.com/dind-cluster/dind-cluster/tools/imager/image"
	"github.com/dind-cluster/dind-cluster/tools/imager/layer"
	"github.com/dind-cluster/dind-cluster/tools/imager/tree"
)

// Layer makes the outer layer which holds one inner layer, as one file named by
// its digest. The file is uncompressed: the outer layer is compressed anyway, and
// whoever unpacks the inner image is spared the time.
func Layer(root, metadataPath, blob string) ([]*tree.Entry, error) {
	m, err := layer.ReadMetadata(metadataPath)
	if err != nil {
		return nil, err
	}
	diffID, err := v1.NewHash(m.DiffID)
	if err != nil {
		return nil, fmt.Errorf("layer %s: %w", m.Name, err)
	}
	content := func() (io.ReadCloser, error) { return open(blob, m) }
	t, err := folders(root)
	if err != nil {
		return nil, err
	}
	p, err := tree.Clean(path.Join(root, "blobs/sha256", diffID.Hex))
	if err != nil {
		return nil, err
	}
	err = t.Add(&tree.Entry{
		Path: p, Type: tar.TypeReg, Mode: 0o644, Size: m.TarSize, SHA256: diffID.Hex,
		Source: m.Name, Content: content,
	})
	return t.Entries(), err
}

// open opens a layer's tar archive, whether its blob is compressed or not.
func open(blob string, m *layer.Metadata) (io.ReadCloser, error) {
	f, err := os.Open(blob)
	if err != nil || m.MediaType == layer.MediaTypeUncompressed {
		return f, err
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("layer %s: %w", m.Name, err)
	}
	return struct {
		io.Reader
		io.Closer
	}{z, f}, nil
}

// Index makes the outer layer with the rest of the layout: config, manifest, index.
func Index(root string, f *image.Files) ([]*tree.Entry, error) {
	config, err := os.ReadFile(f.Config)
	if err != nil {
		return nil, fmt.Errorf("read image %s: %w", f.Name, err)
	}
	m := &v1.Manifest{
		SchemaVersion: 2,
		MediaType:     types.OCIManifestSchema1,
		Config:        v1.Descriptor{MediaType: types.OCIConfigJSON, Size: int64(len(config)), Digest: image.Hash(config)},
	}
	var layers []string
	for _, l := range f.Layers {
		meta, err := layer.ReadMetadata(l.Metadata)
		if err != nil {
			return nil, err
		}
		diffID, err := v1.NewHash(meta.DiffID)
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", meta.Name, err)
		}
		m.Layers = append(m.Layers, v1.Descriptor{MediaType: layer.MediaTypeUncompressed, Size: meta.TarSize, Digest: diffID})
		layers = append(layers, "blobs/sha256/"+diffID.Hex)
	}
	manifest, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	index, err := json.Marshal(&v1.IndexManifest{
		SchemaVersion: 2,
		MediaType:     types.OCIImageIndex,
		Manifests: []v1.Descriptor{{
			MediaType: types.OCIManifestSchema1, Size: int64(len(manifest)), Digest: image.Hash(manifest),
			Platform:    &v1.Platform{Architecture: "amd64", OS: "linux"},
			Annotations: image.NameAnnotations(f.Name),
		}},
	})
	if err != nil {
		return nil, err
	}
	// With this file too, the folder as a tar archive is one for docker load.
	dockerIndex, err := json.Marshal([]map[string]any{{
		"Config": "blobs/sha256/" + m.Config.Digest.Hex, "RepoTags": []string{f.Name}, "Layers": layers,
	}})
	if err != nil {
		return nil, err
	}
	t, err := folders(root)
	if err != nil {
		return nil, err
	}
	for _, file := range []struct {
		name    string
		content []byte
	}{
		{"oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)},
		{"index.json", index},
		{"manifest.json", dockerIndex},
		{"blobs/sha256/" + m.Config.Digest.Hex, config},
		{"blobs/sha256/" + image.Hash(manifest).Hex, manifest},
	} {
		e, err := effects.Text(path.Join(root, file.name), string(file.content), 0o644, "image "+f.Name)
		if err != nil {
			return nil, err
		}
		if err := t.Add(e); err != nil {
			return nil, err
		}
	}
	return t.Entries(), nil
}

// folders is a tree with the layout's own folders; the system's above them are
// those of the layers below, or made by whoever unpacks the layer.
func folders(root string) (*tree.Tree, error) {
	t := tree.New(nil)
	p, err := tree.Clean(root)
	if err != nil {
		return nil, err
	}
	for _, dir := range []string{p, p + "/blobs", p + "/blobs/sha256"} {
		if err := t.Add(&tree.Entry{Path: dir, Type: tar.TypeDir, Mode: 0o755, Source: "image layout"}); err != nil {
			return nil, err
		}
	}
	return t, nil
}
