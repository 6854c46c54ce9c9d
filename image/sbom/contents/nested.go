package contents

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/dind-cluster/dind-cluster/image/rootfs"
	"github.com/dind-cluster/dind-cluster/image/sbom/scan"
	"github.com/dind-cluster/dind-cluster/internal/ocilayout"
)

// inArchive reads the images of an archive. One that holds no image is none, and no error.
func inArchive(at string, t tree, o Options) ([]*Image, error) {
	if t["oci-layout"] != nil {
		return inLayout(at, t, o)
	}
	if t["manifest.json"] != nil {
		return inDockerSave(at, t, o)
	}
	return nil, nil
}

// inDockerSave reads the images of an archive as docker save writes it.
func inDockerSave(at string, t tree, o Options) ([]*Image, error) {
	var manifest tarball.Manifest
	if err := json.Unmarshal(t["manifest.json"].Text, &manifest); err != nil {
		return nil, fmt.Errorf("manifest.json: %w", err)
	}
	var all []*Image
	for _, m := range manifest {
		f := t.lookup(rootfs.Clean(m.Config))
		if f == nil || f.Text == nil {
			return nil, fmt.Errorf("the image's config %s is missing", m.Config)
		}
		config, err := parseConfig(f.Text)
		if err != nil {
			return nil, fmt.Errorf("config %s: %w", m.Config, err)
		}
		if len(config.RootFS.DiffIDs) != len(m.Layers) {
			return nil, fmt.Errorf("config %s lists %d layers, but manifest.json %d", m.Config, len(config.RootFS.DiffIDs), len(m.Layers))
		}
		i := &Image{Path: at, Digest: sha256Hash(f.SHA256), IsID: true}
		if len(m.RepoTags) > 0 {
			i.Name = slices.Min(m.RepoTags)
		}
		var layers []*scan.Archive
		var descriptors []v1.Descriptor
		for n, name := range m.Layers {
			f, err := layerAt(t, rootfs.Clean(name))
			if err != nil {
				return nil, err
			}
			if want := config.RootFS.DiffIDs[n]; !f.Compressed && f.SHA256 != want.Hex {
				return nil, fmt.Errorf("layer %s is damaged: its digest is sha256:%s, but the image's config says %s", name, f.SHA256, want)
			}
			layers = append(layers, f.Archive)
			descriptors = append(descriptors, v1.Descriptor{Digest: config.RootFS.DiffIDs[n]})
		}
		i.describe(config, descriptors)
		if err := i.fill(scan.Squash(layers), o); err != nil {
			return nil, fmt.Errorf("image %s: %w", i.Name, err)
		}
		all = append(all, i)
	}
	return all, nil
}

// inLayout reads the images of an OCI layout.
func inLayout(at string, t tree, o Options) ([]*Image, error) {
	index := t["index.json"]
	if index == nil || index.Text == nil {
		return nil, errors.New("the OCI layout has no index.json")
	}
	all, err := inIndex(at, t, "index.json", index.Text, "", 0, o)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(all, func(a, b *Image) int { return bytes.Compare([]byte(a.Name), []byte(b.Name)) })
	return all, nil
}

// indexDepth bounds indexes in indexes.
const indexDepth = 4

func inIndex(at string, t tree, what string, text []byte, outer string, depth int, o Options) ([]*Image, error) {
	if depth > indexDepth {
		return nil, fmt.Errorf("%s: indexes are nested more than %d deep", what, indexDepth)
	}
	index, err := v1.ParseIndexManifest(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	var all []*Image
	for _, d := range index.Manifests {
		name := d.Annotations["io.containerd.image.name"]
		if name == "" {
			name = d.Annotations["org.opencontainers.image.ref.name"]
		}
		if name == "" {
			name = outer
		}
		if !d.MediaType.IsImage() && !d.MediaType.IsIndex() {
			continue
		}
		document, err := documentAt(t, d.Digest)
		if err != nil {
			return nil, err
		}
		if d.MediaType.IsIndex() {
			inner, err := inIndex(at, t, "index "+d.Digest.String(), document, name, depth+1, o)
			if err != nil {
				return nil, err
			}
			all = append(all, inner...)
			continue
		}
		i, err := manifested(at, t, d.Digest, document, name, o)
		if err != nil {
			if errors.Is(err, errNotImage) {
				continue
			}
			return nil, fmt.Errorf("image %s: %w", d.Digest, err)
		}
		all = append(all, i)
	}
	return all, nil
}

// manifested reads the image that a manifest of an OCI layout describes.
func manifested(at string, t tree, digest v1.Hash, text []byte, name string, o Options) (*Image, error) {
	manifest, err := v1.ParseManifest(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	if !manifest.Config.MediaType.IsConfig() {
		return nil, errNotImage
	}
	document, err := documentAt(t, manifest.Config.Digest)
	if err != nil {
		return nil, err
	}
	config, err := parseConfig(document)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	i := &Image{Name: name, Path: at, Digest: digest}
	var layers []*scan.Archive
	for _, d := range manifest.Layers {
		p := ocilayout.Blob(d.Digest)
		f, err := layerAt(t, p)
		if err != nil {
			return nil, err
		}
		if f.SHA256 != d.Digest.Hex {
			return nil, fmt.Errorf("layer %s is damaged: its digest is sha256:%s", p, f.SHA256)
		}
		layers = append(layers, f.Archive)
	}
	i.describe(config, manifest.Layers)
	return i, i.fill(scan.Squash(layers), o)
}

// layerAt is a layer among an image's files.
func layerAt(t tree, p string) (*scan.File, error) {
	f := t.lookup(p)
	if f == nil {
		return nil, fmt.Errorf("layer %s is missing", p)
	}
	if f.Archive == nil {
		return nil, fmt.Errorf("layer %s is not a tar archive, compressed or not", p)
	}
	return f, nil
}

// documentAt is a JSON document of an OCI layout, compared with its digest.
func documentAt(t tree, digest v1.Hash) ([]byte, error) {
	p := ocilayout.Blob(digest)
	f := t.lookup(p)
	if f == nil || f.Text == nil {
		return nil, fmt.Errorf("%s is missing", p)
	}
	if f.SHA256 != digest.Hex {
		return nil, fmt.Errorf("%s is damaged: its digest is sha256:%s", p, f.SHA256)
	}
	return f.Text, nil
}

func parseConfig(text []byte) (*v1.ConfigFile, error) {
	return v1.ParseConfigFile(bytes.NewReader(text))
}

func sha256Hash(hex string) v1.Hash { return v1.Hash{Algorithm: "sha256", Hex: hex} }
