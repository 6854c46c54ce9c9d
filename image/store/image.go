// Package store lays images out as they are in containerd's root directory once it has unpacked
// them, as entries of a layer of the image that will hold the store.
package store

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/dind-cluster/dind-cluster/image"
	"github.com/dind-cluster/dind-cluster/image/archive"
	"github.com/dind-cluster/dind-cluster/image/jsonfile"
	"github.com/dind-cluster/dind-cluster/image/layer"
	"github.com/dind-cluster/dind-cluster/image/spool"
	"github.com/dind-cluster/dind-cluster/image/store/database"
	"github.com/dind-cluster/dind-cluster/image/store/snapshot"
	"github.com/dind-cluster/dind-cluster/internal/compression"
)

// Image is an image to unpack.
type Image struct {
	database.Image
	layers []v1.Layer
	// diffIDs and chainIDs are those of the layers.
	diffIDs, chainIDs []digest.Digest
}

func (i *Image) String() string {
	if len(i.Names) > 0 {
		return i.Names[0]
	}
	return i.Target.Digest.String()
}

// newImage reads the parts of an image.
func newImage(img v1.Image, names []string, layers []v1.Layer) (*Image, error) {
	i := &Image{layers: layers}
	i.Names = names
	desc, err := partial.Descriptor(img)
	if err != nil {
		return nil, err
	}
	i.Target = ocispec.Descriptor{MediaType: string(desc.MediaType), Digest: digest.Digest(desc.Digest.String()), Size: desc.Size}
	if i.Manifest, err = img.RawManifest(); err != nil {
		return nil, err
	}
	if i.Config, err = img.RawConfigFile(); err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	if len(config.RootFS.DiffIDs) != len(layers) {
		return nil, fmt.Errorf("its config lists %d layers, but its manifest %d", len(config.RootFS.DiffIDs), len(layers))
	}
	for _, d := range config.RootFS.DiffIDs {
		i.diffIDs = append(i.diffIDs, digest.Digest(d.String()))
	}
	i.chainIDs = identity.ChainIDs(append([]digest.Digest(nil), i.diffIDs...))
	if n := len(i.chainIDs); n > 0 {
		i.ChainID = i.chainIDs[n-1]
	}
	return i, nil
}

// Archive opens the images of an archive, as docker save writes it, or of an OCI layout directory.
// The images read from the archive until it is closed.
func Archive(ctx context.Context, path string) ([]*Image, io.Closer, error) {
	// The images are for the machines that our images are for, not for the one that builds.
	a, err := archive.Open(ctx, path, archive.Options{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}})
	if err != nil {
		return nil, nil, err
	}
	var all []*Image
	for _, img := range a.Images {
		var i *Image
		if len(img.Names) == 0 {
			err = fmt.Errorf("image %s has no name, by which a pod could ask for it: name it in the archive", img)
		} else {
			var layers []v1.Layer
			for _, l := range img.Blobs() {
				layers = append(layers, l)
			}
			i, err = newImage(img, img.Names, layers)
		}
		if err != nil {
			a.Close()
			return nil, nil, fmt.Errorf("%s: %w", path, err)
		}
		all = append(all, i)
	}
	return all, a, nil
}

// Files opens an image that is a build output.
func Files(f *image.Files) (*Image, error) {
	name, err := archive.Normalise(f.Name)
	if err != nil {
		return nil, err
	}
	img, err := image.Open(f)
	if err != nil {
		return nil, err
	}
	layers, err := img.Layers()
	if err != nil {
		return nil, fmt.Errorf("opening image %s: %w", f.Name, err)
	}
	i, err := newImage(img, []string{name}, layers)
	if err != nil {
		return nil, fmt.Errorf("opening image %s: %w", f.Name, err)
	}
	return i, nil
}

// ReadBlob reads a layer that is a build output.
func ReadBlob(blob, metadata string, content *spool.Spool) (*snapshot.Layer, error) {
	m, err := layer.ReadMetadata(metadata)
	if err != nil {
		return nil, err
	}
	r, err := compression.Open(blob)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return read(m.Name, r, digest.Digest(m.DiffID), content)
}

// read reads a layer and compares it with its digest.
func read(name string, r io.Reader, want digest.Digest, content *spool.Spool) (*snapshot.Layer, error) {
	sum := want.Algorithm().Digester()
	l, err := snapshot.Read(name, io.TeeReader(r, sum.Hash()), content)
	if err != nil {
		return nil, err
	}
	if got := sum.Digest(); got != want {
		return nil, fmt.Errorf("layer %s is damaged: its diff ID is %s, but the image's config says %s", name, got, want)
	}
	return l, nil
}

// layer reads one of the image's layers.
func (i *Image) layer(n int, content *spool.Spool) (*snapshot.Layer, error) {
	name := fmt.Sprintf("%d of %s", n+1, i)
	r, err := i.layers[n].Uncompressed()
	if err != nil {
		return nil, fmt.Errorf("layer %s: %w", name, err)
	}
	defer r.Close()
	return read(name, r, i.diffIDs[n], content)
}

// snapshot describes the snapshot of layer n; parent is false for the lowest snapshot of the image.
func (i *Image) snapshot(n int, parent bool, usage snapshot.Usage) database.Snapshot {
	s := database.Snapshot{ChainID: i.chainIDs[n], DiffID: i.diffIDs[n], Usage: usage}
	if parent {
		s.Parent = i.chainIDs[n-1]
	}
	return s
}

// ReadUsage reads a file of WriteUsage.
func ReadUsage(path string) (snapshot.Usage, error) {
	u, err := jsonfile.Read[snapshot.Usage]("a snapshot's usage", path)
	if err != nil {
		return snapshot.Usage{}, err
	}
	return *u, nil
}

// WriteUsage writes the disk usage of a snapshot to a file, as JSON.
func WriteUsage(path string, u snapshot.Usage) error {
	text, err := json.Marshal(u)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("writing a snapshot's usage: %w", err)
	}
	return nil
}
