package image

import (
	"bytes"
	"fmt"
	"io"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/dind-cluster/dind-cluster/image/layer"
)

// Open opens an image. A layer is read only when its bytes are asked for.
func Open(f *Files) (v1.Image, error) {
	core := &fileImage{layers: map[v1.Hash]*fileLayer{}}
	var err error
	if core.config, err = os.ReadFile(f.Config); err != nil {
		return nil, fmt.Errorf("opening image %s: %w", f.Name, err)
	}
	if core.manifest, err = os.ReadFile(f.Manifest); err != nil {
		return nil, fmt.Errorf("opening image %s: %w", f.Name, err)
	}
	m, err := v1.ParseManifest(bytes.NewReader(core.manifest))
	if err != nil {
		return nil, fmt.Errorf("opening image %s: manifest %s: %w", f.Name, f.Manifest, err)
	}
	core.mediaType = m.MediaType
	for _, l := range f.Layers {
		m, err := layer.ReadMetadata(l.Metadata)
		if err != nil {
			return nil, fmt.Errorf("opening image %s: %w", f.Name, err)
		}
		digest, err := v1.NewHash(m.Digest)
		if err != nil {
			return nil, fmt.Errorf("opening image %s: layer %s: %w", f.Name, m.Name, err)
		}
		core.layers[digest] = &fileLayer{path: l.Blob, digest: digest, metadata: m}
	}
	return partial.CompressedToImage(core)
}

// fileImage implements what partial.CompressedToImage completes to an image.
type fileImage struct {
	config, manifest []byte
	mediaType        types.MediaType
	layers           map[v1.Hash]*fileLayer
}

func (i *fileImage) RawConfigFile() ([]byte, error) { return i.config, nil }

func (i *fileImage) RawManifest() ([]byte, error) { return i.manifest, nil }

func (i *fileImage) MediaType() (types.MediaType, error) {
	return i.mediaType, nil
}

func (i *fileImage) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	l, ok := i.layers[h]
	if !ok {
		return nil, fmt.Errorf("no layer %s", h)
	}
	return l, nil
}

type fileLayer struct {
	path     string
	digest   v1.Hash
	metadata *layer.Metadata
}

func (l *fileLayer) Digest() (v1.Hash, error) { return l.digest, nil }

func (l *fileLayer) DiffID() (v1.Hash, error) { return v1.NewHash(l.metadata.DiffID) }

func (l *fileLayer) Compressed() (io.ReadCloser, error) { return os.Open(l.path) }

func (l *fileLayer) Size() (int64, error) { return l.metadata.Size, nil }

func (l *fileLayer) MediaType() (types.MediaType, error) {
	return types.MediaType(l.metadata.MediaType), nil
}
