package containerd

import (
	"bytes"
	"context"
	"errors"
	"path"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/dind-cluster/dind-cluster/image/archive"
)

// item is an image and what containerd is to have of it.
type item struct {
	*archive.Image
	id digest.Digest // of the config
	// chain are the descriptors that lead to the image, its manifest the last. Its indexes are left
	// out if containerd would not find this image in them: of several manifests without a platform,
	// it looks at the first only.
	chain []ocispec.Descriptor
	blobs documents // of the chain, and the config
	// snapshot is the chain ID of the layers; empty if there are none.
	snapshot string
	names    []named
	labels   map[string]string
}

// named is a name in containerd and what it stands for.
type named struct {
	name   string
	target ocispec.Descriptor
}

// describe makes an item of an image.
func describe(ctx context.Context, img *archive.Image) (*item, error) {
	mediaType, err1 := img.MediaType()
	manifestDigest, err2 := img.Digest()
	manifest, err3 := img.RawManifest()
	configDigest, err4 := img.ConfigName()
	config, err5 := img.RawConfigFile()
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return nil, err
	}
	it := &item{Image: img, id: toDigest(configDigest)}
	last := ocispec.Descriptor{MediaType: string(mediaType), Digest: toDigest(manifestDigest), Size: int64(len(manifest))}
	it.blobs = documents{last.Digest: manifest, it.id: config}
	for _, x := range img.Indexes {
		d := toDigest(x.Digest)
		it.blobs[d] = x.Raw
		it.chain = append(it.chain, ocispec.Descriptor{MediaType: string(x.MediaType), Digest: d, Size: int64(len(x.Raw))})
	}
	it.chain = append(it.chain, last)
	found, err := images.Manifest(ctx, it.blobs, it.chain[0], platforms.Default())
	if err != nil || found.Config.Digest != it.id {
		it.chain = []ocispec.Descriptor{last}
	}
	var diffIDs []digest.Digest
	for _, l := range img.Blobs() {
		h, _ := l.DiffID()
		diffIDs = append(diffIDs, toDigest(h))
	}
	if len(diffIDs) > 0 {
		it.snapshot = identity.ChainID(diffIDs).String()
	}
	return it, it.name()
}

// name gives the image its names in containerd: its ID, the references, and, as after a pull of the
// CRI plugin, each repository with the digest of what it stands for: the plugin looks up both
// repo@digest and repo:tag@digest as repo@digest. A pull gives the outermost digest only; here no
// registry can be asked for the others.
// https://github.com/containerd/containerd/blob/v2.3.7/internal/cri/server/images/service.go
func (it *item) name() error {
	it.labels = map[string]string{managedLabel: managed}
	top := it.chain[0]
	seen := map[string]bool{}
	add := func(name string, target ocispec.Descriptor) {
		if !seen[name] {
			seen[name] = true
			it.names = append(it.names, named{name, target})
		}
	}
	add(it.id.String(), top)
	for _, n := range it.Names {
		target := top
		if _, d, ok := strings.Cut(n, "@"); ok {
			for _, desc := range it.chain {
				if desc.Digest.String() == d {
					target = desc
				}
			}
		}
		add(n, target)
	}
	for _, n := range it.Names {
		ref, err := reference.ParseNormalizedNamed(n)
		if err != nil {
			return err
		}
		// No pod can do without pause.
		if path.Base(reference.Path(ref)) == "pause" {
			it.labels[pinnedLabel] = pinned
		}
		for _, desc := range it.chain {
			if !it.Made {
				add(reference.TrimNamed(ref).Name()+"@"+desc.Digest.String(), desc)
			}
		}
	}
	return nil
}

// documents are indexes, manifests and configs. It implements content.Provider.
type documents map[digest.Digest][]byte

// ReaderAt implements content.Provider.
func (d documents) ReaderAt(_ context.Context, desc ocispec.Descriptor) (content.ReaderAt, error) {
	raw, ok := d[desc.Digest]
	if !ok {
		return nil, errdefs.ErrNotFound
	}
	return document{bytes.NewReader(raw)}, nil
}

type document struct{ *bytes.Reader }

func (document) Close() error { return nil }
