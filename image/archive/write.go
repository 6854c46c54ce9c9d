package archive

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"io"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/dind-cluster/dind-cluster/internal/ocilayout"
)

// Write streams images as one archive that is both an OCI layout and a docker-save archive, so that Docker as well as
// another loader can read it. Blobs go as they are stored, verified on the way. The two files that name the images come
// last: whoever reads a stream that broke off has nothing to name.
func Write(w io.Writer, images []*Image) error {
	tw := tar.NewWriter(w)
	written := map[v1.Hash]bool{}
	index := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex}
	var docker tarball.Manifest
	if err := writeBytes(tw, "oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)); err != nil {
		return err
	}
	for _, img := range images {
		desc, err := partialDescriptor(img)
		if err != nil {
			return err
		}
		id, err := img.ConfigName()
		if err != nil {
			return err
		}
		config, err := img.RawConfigFile()
		if err != nil {
			return err
		}
		manifest, err := img.RawManifest()
		if err != nil {
			return err
		}
		saved := tarball.Descriptor{Config: ocilayout.Blob(id), RepoTags: img.Names}
		for _, b := range []struct {
			hash v1.Hash
			raw  []byte
		}{{id, config}, {desc.Digest, manifest}} {
			if !written[b.hash] {
				written[b.hash] = true
				if err := writeBytes(tw, ocilayout.Blob(b.hash), b.raw); err != nil {
					return err
				}
			}
		}
		for _, l := range img.layers {
			saved.Layers = append(saved.Layers, ocilayout.Blob(l.digest))
			if written[l.digest] {
				continue
			}
			written[l.digest] = true
			if err := writeLayer(tw, l); err != nil {
				return err
			}
		}
		docker = append(docker, saved)
		if len(img.Names) == 0 {
			index.Manifests = append(index.Manifests, desc)
		}
		for _, name := range img.Names {
			desc.Annotations = map[string]string{annotationImageName: name, annotationRefName: name}
			index.Manifests = append(index.Manifests, desc)
		}
	}
	for _, f := range []struct {
		name    string
		content any
	}{{"index.json", index}, {"manifest.json", docker}} {
		raw, err := json.Marshal(f.content)
		if err != nil {
			return err
		}
		if err := writeBytes(tw, f.name, raw); err != nil {
			return err
		}
	}
	return tw.Close()
}

func partialDescriptor(img *Image) (v1.Descriptor, error) {
	mt, err := img.MediaType()
	if err != nil {
		return v1.Descriptor{}, err
	}
	digest, err := img.Digest()
	if err != nil {
		return v1.Descriptor{}, err
	}
	size, err := img.Size()
	return v1.Descriptor{MediaType: mt, Digest: digest, Size: size}, err
}

func writeLayer(tw *tar.Writer, l *Layer) error {
	rc, err := l.Compressed()
	if err != nil {
		return err
	}
	defer rc.Close()
	if err := tw.WriteHeader(header(ocilayout.Blob(l.digest), l.blob.size)); err != nil {
		return err
	}
	if _, err := io.CopyBuffer(writerOnly{tw}, rc, make([]byte, 256<<10)); err != nil {
		return fmt.Errorf("sending layer %s: %w", l.digest, err)
	}
	return nil
}

func writeBytes(tw *tar.Writer, name string, raw []byte) error {
	if err := tw.WriteHeader(header(name, int64(len(raw)))); err != nil {
		return err
	}
	_, err := tw.Write(raw)
	return err
}

func header(name string, size int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0)}
}
