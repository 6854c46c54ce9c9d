package imagetest

import (
	"bufio"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/dind-cluster/dind-cluster/internal/compression"
)

// Validate checks that all digests and sizes of an image are those of its bytes, and reads all of
// them.
//
// It is go-containerregistry's validate but for the layers, which that takes to be compressed with
// gzip.
func Validate(img v1.Image) error {
	if err := validate.Image(img, validate.Fast); err != nil {
		return err
	}
	m, err := img.Manifest()
	if err != nil {
		return err
	}
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	if len(layers) != len(m.Layers) {
		return fmt.Errorf("%d layers, and the manifest has %d", len(layers), len(m.Layers))
	}
	var diffIDs []v1.Hash
	if m.Config.MediaType.IsConfig() {
		config, err := img.ConfigFile()
		if err != nil {
			return err
		}
		if diffIDs = config.RootFS.DiffIDs; len(diffIDs) != len(layers) {
			return fmt.Errorf("%d layers, and the config has %d", len(layers), len(diffIDs))
		}
	}
	for i, l := range layers {
		got, size, err := sum(l.Compressed, false)
		if err != nil {
			return fmt.Errorf("layer %d: %w", i, err)
		}
		if got != m.Layers[i].Digest || size != m.Layers[i].Size {
			return fmt.Errorf("layer %d has digest %s and %d bytes, and the manifest says %s and %d", i, got, size, m.Layers[i].Digest, m.Layers[i].Size)
		}
		if diffIDs == nil {
			continue
		}
		if got, _, err = sum(l.Compressed, true); err == nil && got == diffIDs[i] {
			got, _, err = sum(l.Uncompressed, false)
		}
		if err != nil {
			return fmt.Errorf("layer %d uncompressed: %w", i, err)
		}
		if got != diffIDs[i] {
			return fmt.Errorf("layer %d has diff ID %s, and the config says %s", i, got, diffIDs[i])
		}
	}
	return nil
}

// ValidateIndex checks an index and all images in it.
func ValidateIndex(index v1.ImageIndex) error {
	if err := validate.Index(index, validate.Fast); err != nil {
		return err
	}
	m, err := index.IndexManifest()
	if err != nil {
		return err
	}
	for _, d := range m.Manifests {
		img, err := index.Image(d.Digest)
		if err != nil {
			return err
		}
		if err := Validate(img); err != nil {
			return fmt.Errorf("image %s: %w", d.Digest, err)
		}
	}
	return nil
}

// sum returns the digest and the size of what open opens.
func sum(open func() (io.ReadCloser, error), decompress bool) (v1.Hash, int64, error) {
	r, err := open()
	if err != nil {
		return v1.Hash{}, 0, err
	}
	defer r.Close()
	if !decompress {
		return v1.SHA256(r)
	}
	z, err := compression.Detect(bufio.NewReader(r))
	if err != nil {
		return v1.Hash{}, 0, err
	}
	defer z.Close()
	return v1.SHA256(z)
}
