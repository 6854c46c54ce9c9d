package containerd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/diff/apply"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/rootfs"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/dind-cluster/dind-cluster/tools/loader/archive"
)

// unpack makes the image's chain of snapshots.
func (r *Runtime) unpack(ctx context.Context, img *archive.Image) error {
	g, ctx := errgroup.WithContext(ctx)
	ready := make(chan struct{}) // the snapshot below is
	close(ready)
	var chain []digest.Digest
	for _, l := range img.Blobs() {
		h, _ := l.DiffID()
		s := &layerSnapshot{layer: l, below: slices.Clip(chain), belowReady: ready}
		chain = append(slices.Clip(chain), digest.Digest(h.String()))
		s.chainID = identity.ChainID(slices.Clone(chain)).String()
		done := make(chan struct{})
		g.Go(func() error {
			if err := r.once(s.chainID, func() error { return r.make(ctx, s) }); err != nil {
				return err
			}
			close(done)
			return nil
		})
		ready = done
	}
	return g.Wait()
}

// layerSnapshot is a snapshot to make.
type layerSnapshot struct {
	layer      *archive.Layer
	chainID    string
	below      []digest.Digest // the diff IDs of the layers below
	belowReady <-chan struct{}
}

// make makes the snapshot, unless it is there.
func (r *Runtime) make(ctx context.Context, s *layerSnapshot) error {
	if _, err := r.sn.Stat(ctx, s.chainID); !errdefs.IsNotFound(err) {
		return err
	}
	a := &applier{layer: s.layer}
	var err error
	if len(s.below) > 0 && r.rebase && s.layer.SelfContained() {
		err = r.applyAside(ctx, s, a)
	} else {
		err = r.applyOnTop(ctx, s, a)
	}
	if err == nil || ctx.Err() != nil {
		return err
	}
	if a.err != nil {
		err = a.err // without the wrapping that names the layer once more
	}
	var damaged *archive.DigestError
	if !errors.As(err, &damaged) {
		// Damage can break the tar before it shows in the digest; the digest says more.
		if verr := s.layer.Verify(ctx); verr != nil {
			return verr
		}
	}
	return err
}

// applyOnTop unpacks a layer on the snapshot below.
func (r *Runtime) applyOnTop(ctx context.Context, s *layerSnapshot, a *applier) error {
	if err := wait(ctx, s.belowReady); err != nil {
		return err
	}
	if err := r.slot(ctx); err != nil {
		return err
	}
	defer r.free()
	diffID, _ := s.layer.DiffID()
	layer := rootfs.Layer{
		Diff: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.Digest(diffID.String())},
		Blob: descriptor(s.layer),
	}
	_, err := rootfs.ApplyLayerWithOpts(ctx, layer, s.below, r.sn, a, nil, nil)
	return err
}

// applyAside unpacks a layer at the same time as the layers below, and puts it on top of them afterwards, as containerd does
// after a pull. Unlike containerd, we first make sure that this gives the same as one after the other.
func (r *Runtime) applyAside(ctx context.Context, s *layerSnapshot, a *applier) (err error) {
	key := fmt.Sprintf(snapshots.UnpackKeyFormat, rand.Text(), s.chainID)
	committed := false
	if err := r.slot(ctx); err != nil {
		return err
	}
	err = func() error {
		defer r.free()
		mounts, err := r.sn.Prepare(ctx, key, "")
		if err != nil {
			return fmt.Errorf("preparing a snapshot: %w", err)
		}
		_, err = a.Apply(ctx, descriptor(s.layer), asOverlay(mounts))
		return err
	}()
	defer func() {
		if !committed {
			clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTime)
			defer cancel()
			if rerr := ignoreNotFound(r.sn.Remove(clean, key)); rerr != nil {
				err = errors.Join(err, fmt.Errorf("removing a snapshot: %w", rerr))
			}
		}
	}()
	if err != nil {
		return err
	}
	if err := wait(ctx, s.belowReady); err != nil {
		return err
	}
	parent := identity.ChainID(slices.Clone(s.below)).String()
	err = r.sn.Commit(ctx, s.chainID, key, snapshots.WithParent(parent))
	if errdefs.IsAlreadyExists(err) {
		return nil // somebody else, a pull perhaps, was faster
	} else if err != nil {
		return fmt.Errorf("committing a snapshot: %w", err)
	}
	committed = true
	return nil
}

// asOverlay makes the mount of a snapshot without a parent look like one with a parent, so that the applier leaves
// whiteouts for overlayfs instead of removing what is not there yet.
func asOverlay(mounts []mount.Mount) []mount.Mount {
	if len(mounts) != 1 || mounts[0].Type != "bind" {
		return mounts
	}
	return []mount.Mount{{Type: "overlay", Source: "overlay", Options: []string{"upperdir=" + mounts[0].Source}}}
}

func wait(ctx context.Context, c <-chan struct{}) error {
	select {
	case <-c:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// descriptor describes a layer to the applier: as uncompressed, whatever the blob is, for the archive decompresses.
func descriptor(l *archive.Layer) ocispec.Descriptor {
	blob, _ := l.Digest()
	size, _ := l.Size()
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.Digest(blob.String()), Size: size}
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
