package containerd

import (
	"bytes"
	"context"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/dind-cluster/dind-cluster/image/archive"
)

// named is a name in containerd and what it stands for.
type named struct {
	name   string
	target ocispec.Descriptor
}

// references are the image's names in containerd: its ID, the references, and, as after a pull of the CRI plugin, each
// repository with the digest of what it stands for: the plugin looks up both repo@digest and repo:tag@digest as
// repo@digest. A pull gives the outermost digest only; here no registry can be asked for the others.
// https://github.com/containerd/containerd/blob/v2.3.7/internal/cri/server/images/service.go
func (r *Runtime) references(ctx context.Context, img *archive.Image) ([]named, error) {
	chain, err := r.chain(ctx, img)
	if err != nil {
		return nil, err
	}
	top := chain[0]
	var out []named
	seen := map[string]bool{}
	add := func(name string, target ocispec.Descriptor) {
		if !seen[name] {
			seen[name] = true
			out = append(out, named{name, target})
		}
	}
	id, err := imageID(img)
	if err != nil {
		return nil, err
	}
	add(id.String(), top)
	for _, n := range img.Names {
		target := top
		if _, d, ok := strings.Cut(n, "@"); ok {
			for _, desc := range chain {
				if desc.Digest.String() == d {
					target = desc
				}
			}
		}
		add(n, target)
	}
	if img.Made {
		return out, nil
	}
	for _, n := range img.Names {
		ref, err := reference.ParseNormalizedNamed(n)
		if err != nil {
			return nil, err
		}
		for _, desc := range chain {
			add(reference.TrimNamed(ref).Name()+"@"+desc.Digest.String(), desc)
		}
	}
	return out, nil
}

// chain are the descriptors that lead to the image, its manifest the last. Its indexes are left out if containerd would not
// find this image in them: of several manifests without a platform, it looks at the first only.
func (r *Runtime) chain(ctx context.Context, img *archive.Image) ([]ocispec.Descriptor, error) {
	manifest, err := target(img)
	if err != nil {
		return nil, err
	}
	id, err := imageID(img)
	if err != nil || len(img.Indexes) == 0 {
		return []ocispec.Descriptor{manifest}, err
	}
	raw, err := img.RawManifest()
	if err != nil {
		return nil, err
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return nil, err
	}
	blobs := documents{manifest.Digest: raw, id: config}
	var chain []ocispec.Descriptor
	for _, x := range img.Indexes {
		d := toDigest(x.Digest)
		blobs[d] = x.Raw
		chain = append(chain, ocispec.Descriptor{MediaType: string(x.MediaType), Digest: d, Size: int64(len(x.Raw))})
	}
	found, err := images.Manifest(ctx, blobs, chain[0], platforms.Default())
	if err != nil || found.Config.Digest != id {
		return []ocispec.Descriptor{manifest}, nil
	}
	return append(chain, manifest), nil
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
