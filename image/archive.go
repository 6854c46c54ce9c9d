package image

import (
	"archive/tar"
	"fmt"
	"io"
	"time"

	"github.com/distribution/reference"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/dind-cluster/dind-cluster/internal/ocilayout"
)

// WriteArchive writes a file for docker load, without the first skip layers: a classic engine that
// has them already does not look for them.
//
// The file is an OCI layout that has the manifest.json of docker save as well, as the files of
// docker save do since Docker 25 (https://github.com/moby/moby/pull/44598). An engine with
// containerd's image store reads the layout, and so knows the image by the digest that registries
// know it by, and its layers by their true media types; a classic one reads the manifest.json.
func WriteArchive(w io.Writer, img v1.Image, tag string, skip int) error {
	named, err := reference.ParseDockerRef(tag)
	if err != nil {
		return fmt.Errorf("image name %q: %w", tag, err)
	}
	layers, err := img.Layers()
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
	descriptor, err := partial.Descriptor(img)
	if err != nil {
		return err
	}
	descriptor.Annotations = NameAnnotations(named.String())
	index, err := compact(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{*descriptor}})
	if err != nil {
		return err
	}
	saved := tarball.Descriptor{Config: ocilayout.Blob(Hash(config)), RepoTags: []string{tag}}
	for _, l := range layers {
		digest, err := l.Digest()
		if err != nil {
			return err
		}
		saved.Layers = append(saved.Layers, ocilayout.Blob(digest))
	}
	list, err := compact(tarball.Manifest{saved})
	if err != nil {
		return err
	}
	tw := tar.NewWriter(w)
	// Small files come first, so that a reader of the stream knows at once what it contains.
	for _, m := range []struct {
		name    string
		content []byte
	}{
		{"oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)},
		{"manifest.json", list},
		{"index.json", index},
		{saved.Config, config},
		{ocilayout.Blob(descriptor.Digest), manifest},
	} {
		if err := writeMember(tw, m.name, m.content); err != nil {
			return err
		}
	}
	written := map[string]bool{}
	for i, l := range layers {
		if i < skip || written[saved.Layers[i]] {
			continue
		}
		written[saved.Layers[i]] = true
		if err := writeLayer(tw, saved.Layers[i], l); err != nil {
			return fmt.Errorf("layer %d: %w", i, err)
		}
	}
	return tw.Close()
}

func header(name string, size int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size, ModTime: time.Unix(0, 0)}
}

func writeMember(tw *tar.Writer, name string, content []byte) error {
	if err := tw.WriteHeader(header(name, int64(len(content)))); err != nil {
		return err
	}
	_, err := tw.Write(content)
	return err
}

func writeLayer(tw *tar.Writer, name string, l v1.Layer) error {
	size, err := l.Size()
	if err != nil {
		return err
	}
	r, err := l.Compressed()
	if err != nil {
		return err
	}
	defer r.Close()
	if err := tw.WriteHeader(header(name, size)); err != nil {
		return err
	}
	_, err = io.Copy(tw, r)
	return err
}
