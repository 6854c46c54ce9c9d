package contents

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/distribution/reference"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/dind-cluster/dind-cluster/image/archive"
	"github.com/dind-cluster/dind-cluster/image/rootfs"
	"github.com/dind-cluster/dind-cluster/image/sbom/scan"
)

// Blob implements archive.Files for what the scan has kept of an archive of images, or of an OCI
// layout.
func (t tree) Blob(name string) (*archive.Blob, error) {
	name = rootfs.Clean(name)
	f := t.lookup(name)
	if f == nil {
		return nil, fs.ErrNotExist
	}
	if f.Text == nil && f.Archive == nil {
		return nil, fmt.Errorf("%s is not a tar archive, compressed or not, and no JSON document", name)
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(f.Text)), nil }
	return &archive.Blob{Name: name, Size: f.Size, Open: open, Digest: sha256Hash(f.SHA256), Compression: f.Compression}, nil
}

// nested makes inventories of the images of an archive or OCI layout that is in the image at a
// path. For a tar archive without images it returns none, and no error.
func (t tree) nested(at string, o Options) ([]*Image, error) {
	images, err := archive.Images(at, t, archive.Options{AllPlatforms: true})
	if errors.Is(err, archive.ErrNotArchive) || errors.Is(err, archive.ErrNoImage) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []*Image
	for _, img := range images {
		i, err := t.inventory(at, img, o)
		if err != nil {
			return nil, fmt.Errorf("%s: image %s: %w", at, img, err)
		}
		var names []string
		for _, name := range img.Names {
			names = append(names, familiar(name))
		}
		switch slices.Sort(names); {
		case len(names) == 0:
			names = []string{""}
		case img.Made:
			names = names[:1]
		}
		for _, name := range names {
			named := *i
			named.Name = name
			all = append(all, &named)
		}
	}
	slices.SortStableFunc(all, func(a, b *Image) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

func (t tree) inventory(at string, img *archive.Image, o Options) (*Image, error) {
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	i := &Image{Path: at, IsID: img.Made}
	if i.Digest, err = img.Digest(); img.Made {
		i.Digest, err = img.ConfigName()
	}
	if err != nil {
		return nil, err
	}
	var layers []*scan.Archive
	var digests []v1.Hash
	for n, l := range img.Blobs() {
		f := t.lookup(l.Name())
		if f.Archive == nil {
			return nil, fmt.Errorf("layer %s is not a tar archive, compressed or not", l.Name())
		}
		layers = append(layers, f.Archive)
		digest, _ := l.Digest()
		if img.Made {
			digest = config.RootFS.DiffIDs[n]
		}
		digests = append(digests, digest)
	}
	i.describe(config, digests)
	return i, i.fill(scan.Squash(layers), o)
}

// familiar shortens a name of containerd's, which is complete, as engines show it.
func familiar(name string) string {
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return name
	}
	return reference.FamiliarString(ref)
}

func sha256Hash(hex string) v1.Hash { return v1.Hash{Algorithm: "sha256", Hex: hex} }
