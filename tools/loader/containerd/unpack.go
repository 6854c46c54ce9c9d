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
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/dind-cluster/dind-cluster/image/archive"
	"github.com/dind-cluster/dind-cluster/image/archive/room"
)

// unpack makes the image's chain of snapshots.
func (r *Runtime) unpack(ctx context.Context, it *item) error {
	g, ctx := errgroup.WithContext(ctx)
	ready := make(chan struct{}) // the snapshot below is
	close(ready)
	var chain []digest.Digest
	for _, l := range it.Blobs() {
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
	if there, err := r.hold(ctx, s.chainID); there || err != nil {
		return err
	}
	a := &applier{layer: s.layer, guard: r.guard}
	err := r.apply(ctx, s, a, len(s.below) > 0 && r.rebase && s.layer.SelfContained())
	if err == nil || ctx.Err() != nil {
		return err
	}
	if a.err != nil {
		err = a.err // without the wrapping that names the layer once more
	}
	var damaged *archive.DigestError
	if !errors.As(err, &damaged) && !errors.Is(err, unix.ENOSPC) {
		// Damage can break the tar before it shows in the digest; the digest says more.
		if verr := s.layer.Verify(ctx); verr != nil {
			return verr
		}
	}
	return err
}

// hold puts a snapshot under our lease and reports whether it is there. One that we find may be
// another loader's, and go with that one's lease at any time before.
func (r *Runtime) hold(ctx context.Context, name string) (bool, error) {
	if _, err := r.sn.Stat(ctx, name); err != nil {
		return false, ignoreNotFound(err)
	}
	id, _ := leases.FromContext(ctx)
	resource := leases.Resource{ID: name, Type: "snapshots/" + snapshotter}
	if err := r.client.LeasesService().AddResource(ctx, leases.Lease{ID: id}, resource); err != nil {
		return false, fmt.Errorf("keeping a snapshot: %w", err)
	}
	_, err := r.sn.Stat(ctx, name)
	return err == nil, ignoreNotFound(err)
}

// apply unpacks a layer: on the snapshot below, or aside, at the same time as the layers below, to
// put it on top of them afterwards, as containerd does after a pull. Unlike containerd, we first
// make sure that both give the same.
func (r *Runtime) apply(ctx context.Context, s *layerSnapshot, a *applier, aside bool) (err error) {
	parent := identity.ChainID(slices.Clone(s.below)).String()
	base := parent
	if aside {
		base = ""
	} else if err := wait(ctx, s.belowReady); err != nil {
		return err
	}
	if err := r.slot(ctx); err != nil {
		return err
	}
	key := unpackKey(s.chainID)
	err = func() error {
		defer r.free()
		mounts, err := r.sn.Prepare(ctx, key, base)
		if err != nil {
			return fmt.Errorf("preparing a snapshot: %w", err)
		}
		if aside {
			mounts = asOverlay(mounts)
		}
		_, err = a.Apply(ctx, descriptor(s.layer), mounts)
		return err
	}()
	committed := false
	defer func() {
		if !committed {
			err = errors.Join(err, r.remove(ctx, key))
		}
	}()
	if err != nil {
		return err
	}
	var opts []snapshots.Opt
	if aside {
		if err := wait(ctx, s.belowReady); err != nil {
			return err
		}
		opts = append(opts, snapshots.WithParent(parent))
	}
	err = r.sn.Commit(ctx, s.chainID, key, opts...)
	if errdefs.IsAlreadyExists(err) {
		return nil // another program, a pull perhaps, was faster; it is under our lease now
	} else if err != nil {
		return fmt.Errorf("committing a snapshot: %w", err)
	}
	committed = true
	return nil
}

func unpackKey(chainID string) string {
	return fmt.Sprintf(snapshots.UnpackKeyFormat, rand.Text(), chainID)
}

// remove removes a snapshot that is in use no more, although ctx may have ended.
func (r *Runtime) remove(ctx context.Context, key string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTime)
	defer cancel()
	if err := ignoreNotFound(r.sn.Remove(ctx, key)); err != nil {
		return fmt.Errorf("removing a snapshot: %w", err)
	}
	return nil
}

// manyLayers is a number of layers that can be mounted wherever containerd has them. How many more
// depends on the length of their paths, which the mount's options, 4096 bytes at most, are full of.
const manyLayers = 100

// mountable makes sure that a container could have the image as its root: it mounts it as
// containerd would.
func (r *Runtime) mountable(ctx context.Context, it *item) error {
	n := len(it.Blobs())
	if n <= manyLayers {
		return nil
	}
	key := unpackKey(it.snapshot)
	mounts, err := r.sn.Prepare(ctx, key, it.snapshot)
	if err != nil {
		return fmt.Errorf("preparing a snapshot: %w", err)
	}
	err = mount.WithTempMount(ctx, mounts, func(string) error { return nil })
	if err != nil {
		err = fmt.Errorf("no container could start from its %d layers, which are too many to be mounted: build it with fewer, or squash it (%w)", n, err)
	}
	return errors.Join(err, r.remove(ctx, key))
}

// asOverlay makes the mount of a snapshot without a parent look like one with a parent, so that the
// applier leaves whiteouts for overlayfs instead of removing what is not there yet.
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

// descriptor describes a layer to the applier: as uncompressed, whatever the blob is, for the
// archive decompresses.
func descriptor(l *archive.Layer) ocispec.Descriptor {
	blob, _ := l.Digest()
	size, _ := l.Size()
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.Digest(blob.String()), Size: size}
}

// applier runs containerd's own applier, here instead of in containerd, on a layer of an archive.
type applier struct {
	layer *archive.Layer
	guard *room.Guard
	err   error
}

var _ diff.Applier = (*applier)(nil)

// Apply implements diff.Applier.
func (a *applier) Apply(ctx context.Context, desc ocispec.Descriptor, mounts []mount.Mount, opts ...diff.ApplyOpt) (ocispec.Descriptor, error) {
	out, err := apply.NewFileSystemApplier(provider{a.layer, a.guard}).Apply(ctx, desc, mounts, opts...)
	if err == nil {
		err = a.layer.CheckDiffID(toHash(out.Digest))
	}
	a.err = err
	return out, err
}

// provider hands out the one layer.
type provider struct {
	layer *archive.Layer
	guard *room.Guard
}

// ReaderAt implements content.Provider.
func (p provider) ReaderAt(_ context.Context, desc ocispec.Descriptor) (content.ReaderAt, error) {
	rc, err := p.layer.Tar()
	if err != nil {
		return nil, err
	}
	return &stream{r: p.guard.Reader(rc), c: rc, size: desc.Size}, nil
}

// stream is a content.ReaderAt that is only ever read from its start to its end, through Reader.
type stream struct {
	r    io.Reader
	c    io.Closer
	size int64
}

func (s *stream) ReadAt([]byte, int64) (int, error) {
	return 0, errors.New("a layer is read as a stream")
}
func (s *stream) Size() int64       { return s.size }
func (s *stream) Reader() io.Reader { return s.r }
func (s *stream) Close() error      { return s.c.Close() }
