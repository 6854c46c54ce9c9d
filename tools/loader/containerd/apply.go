package containerd

import (
	"context"
	"errors"
	"io"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/diff/apply"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/rootfs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/dind-cluster/dind-cluster/tools/loader/archive"
)

// applyLayer makes the snapshot of one layer on top of the chain below, unless it is there.
func (r *Runtime) applyLayer(ctx context.Context, l *archive.Layer, below []digest.Digest) error {
	if err := r.slot(ctx); err != nil {
		return err
	}
	defer r.free()
	diffID, _ := l.DiffID()
	blob, _ := l.Digest()
	size, _ := l.Size()
	layer := rootfs.Layer{
		Diff: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.Digest(diffID.String())},
		// Uncompressed, whatever the blob is: the archive decompresses.
		Blob: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.Digest(blob.String()), Size: size},
	}
	a := &applier{layer: l}
	_, err := rootfs.ApplyLayerWithOpts(ctx, layer, below, r.sn, a, nil, nil)
	if err == nil {
		return nil
	}
	if a.err != nil {
		err = a.err // without rootfs's wrapping, which names the layer once more
	}
	var damaged *archive.DigestError
	if ctx.Err() == nil && !errors.As(err, &damaged) {
		// Damage can break the tar before it shows in the digest; the digest says more.
		if verr := l.Verify(ctx); verr != nil {
			return verr
		}
	}
	return err
}

// applier runs containerd's own applier, here instead of in containerd, on a layer of an archive.
type applier struct {
	layer *archive.Layer
	err   error
}

var _ diff.Applier = (*applier)(nil)

// Apply implements diff.Applier.
func (a *applier) Apply(ctx context.Context, desc ocispec.Descriptor, mounts []mount.Mount, opts ...diff.ApplyOpt) (ocispec.Descriptor, error) {
	out, err := apply.NewFileSystemApplier(provider{a.layer}).Apply(ctx, desc, mounts, opts...)
	if err == nil {
		err = a.layer.CheckDiffID(toHash(out.Digest))
	}
	a.err = err
	return out, err
}

// provider hands out the one layer.
type provider struct{ layer *archive.Layer }

// ReaderAt implements content.Provider.
func (p provider) ReaderAt(_ context.Context, desc ocispec.Descriptor) (content.ReaderAt, error) {
	rc, err := p.layer.Tar()
	if err != nil {
		return nil, err
	}
	return &stream{ReadCloser: rc, size: desc.Size}, nil
}

// stream is a content.ReaderAt that is only ever read from its start to its end, through Reader.
type stream struct {
	io.ReadCloser
	size int64
}

func (s *stream) ReadAt([]byte, int64) (int, error) {
	return 0, errors.New("a layer is read as a stream")
}
func (s *stream) Size() int64       { return s.size }
func (s *stream) Reader() io.Reader { return s.ReadCloser }
