// Package containerd loads images into a containerd on this machine, as its CRI plugin would have
// after a pull: named, labelled and unpacked, so that a pod can start from them at once.
//
// The layers are unpacked by this process, straight from the archive into containerd's snapshots:
// reading, hashing and writing are one pass, and nothing goes through containerd but the
// book-keeping. The layers' blobs are not kept, as with containerd's own discard_unpacked_layers: a
// node only runs images.
package containerd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/plugins"
	"github.com/containerd/errdefs"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"
	"golang.org/x/sys/unix"

	"github.com/dind-cluster/dind-cluster/image/archive"
	"github.com/dind-cluster/dind-cluster/image/archive/room"
	"github.com/dind-cluster/dind-cluster/internal/progress"
)

// Where a node's containerd is, and what its CRI plugin uses.
const (
	defaultAddress = "/run/containerd/containerd.sock"
	namespace      = "k8s.io"
	snapshotter    = "overlayfs"
)

// The labels by which the CRI plugin recognises its images. The kubelet's image garbage collection
// spares pinned ones.
const (
	managedLabel = "io.cri-containerd.image"
	managed      = "managed"
	pinnedLabel  = "io.cri-containerd.pinned"
	pinned       = "pinned"
)

const cleanUpTime = 30 * time.Second

// Options of a Runtime.
type Options struct {
	// Address is containerd's socket; a node's if empty.
	Address string
	// Wait is how long containerd may take to answer.
	Wait time.Duration
	// Progress receives a line per image; nil for silence.
	Progress *progress.Printer
}

// Runtime is a connection to a containerd.
type Runtime struct {
	o      Options
	client *client.Client
	sn     snapshots.Snapshotter

	// Two images with a layer in common wait for each other rather than unpack it twice.
	chains singleflight.Group
	slots  chan struct{}

	rebase bool        // a snapshot can get its parent when it is committed
	guard  *room.Guard // of the disk that snapshots lie on

	mu     sync.Mutex
	lease  leases.Lease
	failed atomic.Bool
}

// New connects to containerd, waiting until it listens.
func New(ctx context.Context, o Options) (*Runtime, error) {
	if o.Address == "" {
		o.Address = defaultAddress
	}
	if err := waitForSocket(ctx, o.Address, o.Wait); err != nil {
		return nil, fmt.Errorf("containerd: %w", err)
	}
	c, err := client.New(o.Address, client.WithDefaultNamespace(namespace))
	if err != nil {
		return nil, fmt.Errorf("connecting to containerd at %s: %w", o.Address, err)
	}
	// Unpacking is bound by the CPU (hashing) and the disk by turns: a few at once, whatever the
	// number of images.
	slots := make(chan struct{}, max(2, runtime.GOMAXPROCS(0)))
	r := &Runtime{o: o, client: c, sn: c.SnapshotService(snapshotter), slots: slots}
	if err := r.lookAtSnapshotter(ctx); err != nil {
		c.Close()
		return nil, fmt.Errorf("asking containerd at %s about its snapshotter %s: %w", o.Address, snapshotter, err)
	}
	return r, nil
}

func (r *Runtime) lookAtSnapshotter(ctx context.Context) error {
	found, err := r.client.IntrospectionService().Plugins(ctx, fmt.Sprintf("type==%s, id==%s", plugins.SnapshotPlugin, snapshotter))
	if err != nil {
		return err
	}
	if len(found.Plugins) == 0 {
		return errors.New("it has none of that name")
	}
	plugin := found.Plugins[0]
	r.rebase = slices.Contains(plugin.Capabilities, "rebase")
	root := plugin.Exports[plugins.SnapshotterRootDir]
	if root == "" {
		return errors.New("it does not say where its files are")
	}
	r.guard = room.New(root)
	return nil
}

// Load puts all images of an archive into containerd, or none.
func (r *Runtime) Load(ctx context.Context, a *archive.Archive) error {
	ctx = namespaces.WithNamespace(ctx, namespace)
	var todo []*item
	for _, img := range a.Images {
		if len(img.Names) == 0 {
			return fmt.Errorf("%s: image %s has no name: give it one with --name", a.Name, img)
		}
		it, err := describe(ctx, img)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", a.Name, img, err)
		}
		there, err := r.present(ctx, it)
		if err != nil {
			return fmt.Errorf("asking containerd for %s: %w", img, err)
		}
		if there {
			r.o.Progress.Step("%s", img).Done("already there")
			continue
		}
		todo = append(todo, it)
	}
	if len(todo) == 0 {
		return nil
	}

	if err := r.guard.Check(0); err != nil {
		return fmt.Errorf("%s: %w", a.Name, err)
	}
	ctx, stop := r.guard.Watch(ctx)
	defer stop()
	lctx, err := r.underLease(ctx)
	if err != nil {
		return fmt.Errorf("creating a lease in containerd: %w", err)
	}
	if err := r.loadAll(lctx, a, todo); err != nil {
		r.failed.Store(true)
		if ctx.Err() != nil && errors.Is(context.Cause(ctx), unix.ENOSPC) {
			return fmt.Errorf("%s: %w", a.Name, context.Cause(ctx))
		}
		return err
	}
	return nil
}

// underLease puts what ctx's calls create under our lease: it goes with the lease, unless an
// image's name refers to it. All archives share the lease, as they share layers: that one of them
// fails must not take a layer from another.
func (r *Runtime) underLease(ctx context.Context) (context.Context, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lease.ID == "" {
		// Should this process be killed, the lease ends after it would have.
		life := time.Hour
		if end, ok := ctx.Deadline(); ok {
			life = time.Until(end) + 2*cleanUpTime
		}
		l, err := r.client.LeasesService().Create(ctx, leases.WithRandomID(), leases.WithExpiration(life))
		if err != nil {
			return nil, err
		}
		r.lease = l
	}
	return leases.WithLease(ctx, r.lease.ID), nil
}

// Close removes what failed loads have left and ends the connection.
func (r *Runtime) Close() error {
	defer r.client.Close()
	if r.lease.ID == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(namespaces.WithNamespace(context.Background(), namespace), cleanUpTime)
	defer cancel()
	var opts []leases.DeleteOpt
	if r.failed.Load() {
		opts = append(opts, leases.SynchronousDelete) // it is gone before the error says that nothing was loaded
	}
	if err := r.client.LeasesService().Delete(ctx, r.lease, opts...); err != nil {
		return fmt.Errorf("deleting the lease %s in containerd, which now ends by itself: %w", r.lease.ID, err)
	}
	return nil
}

// loadAll unpacks the images, side by side, and names them when all are complete.
func (r *Runtime) loadAll(ctx context.Context, a *archive.Archive, todo []*item) error {
	// The small blobs go first: once layers are being written, every sync of a small file waits for
	// their data.
	for _, img := range todo {
		if err := r.writeContent(ctx, img); err != nil {
			return fmt.Errorf("%s: %s: %w", a.Name, img, err)
		}
	}
	g, gctx := errgroup.WithContext(ctx)
	steps := make([]*progress.Step, len(todo))
	for i, img := range todo {
		steps[i] = r.o.Progress.Step("%s", img)
		g.Go(func() error {
			if err := r.unpack(gctx, img); err != nil {
				if !errors.Is(err, context.Canceled) {
					steps[i].Fail("failed")
				}
				return fmt.Errorf("unpacking %s: %w", img, err)
			}
			if err := r.mountable(gctx, img); err != nil {
				steps[i].Fail("failed")
				return fmt.Errorf("%s: %w", img, err)
			}
			steps[i].Done("%s in %d layers, %s", progress.Size(img.LayerSize()), len(img.Blobs()), img.Pinned())
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, img := range todo {
		if err := r.name(ctx, img); err != nil {
			return fmt.Errorf("naming %s in containerd: %w", img, err)
		}
	}
	return nil
}

// present reports whether the image is there under all its names, complete and unpacked.
func (r *Runtime) present(ctx context.Context, it *item) (bool, error) {
	for _, n := range it.names {
		have, err := r.client.ImageService().Get(ctx, n.name)
		// An ID stands for any of the manifests that have this config.
		if err != nil || have.Target.Digest != n.target.Digest && n.name != it.id.String() {
			return false, ignoreNotFound(err)
		}
		for k, v := range it.labels {
			if have.Labels[k] != v {
				return false, nil
			}
		}
	}
	for _, d := range append(slices.Clone(it.chain), ocispec.Descriptor{Digest: it.id}) {
		if _, err := r.client.ContentStore().Info(ctx, d.Digest); err != nil {
			return false, ignoreNotFound(err)
		}
	}
	if it.snapshot != "" {
		if _, err := r.sn.Stat(ctx, it.snapshot); err != nil {
			return false, ignoreNotFound(err)
		}
	}
	return true, nil
}

func ignoreNotFound(err error) error {
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

// writeContent stores the config and the chain to it, with the labels by which containerd's garbage
// collection finds from an image's name to its snapshots.
func (r *Runtime) writeContent(ctx context.Context, it *item) error {
	labels := map[string]string{}
	if it.snapshot != "" {
		labels["containerd.io/gc.ref.snapshot."+snapshotter] = it.snapshot
	}
	config := ocispec.Descriptor{Digest: it.id, Size: int64(len(it.blobs[it.id]))}
	if err := r.write(ctx, config, it.blobs, labels); err != nil {
		return fmt.Errorf("storing the config: %w", err)
	}
	label, below := "containerd.io/gc.ref.content.config", it.id
	for _, desc := range slices.Backward(it.chain) {
		if err := r.write(ctx, desc, it.blobs, map[string]string{label: below.String()}); err != nil {
			return fmt.Errorf("storing %s: %w", desc.MediaType, err)
		}
		// Other than containerd's own, which are numbered, for an index that is there already may
		// have those.
		label, below = "containerd.io/gc.ref.content.loader", desc.Digest
	}
	return nil
}

func (r *Runtime) write(ctx context.Context, desc ocispec.Descriptor, blobs documents, labels map[string]string) error {
	cs := r.client.ContentStore()
	// Also puts a blob that is there already under our lease.
	blob := bytes.NewReader(blobs[desc.Digest])
	err := content.WriteBlob(ctx, cs, "loader-"+desc.Digest.String(), blob, desc, content.WithLabels(labels))
	if err != nil {
		return err
	}
	// A blob that another program has stored has no labels of ours, or other ones, and may have
	// come just now.
	have, err := cs.Info(ctx, desc.Digest)
	if err != nil {
		return err
	}
	var fields []string
	for k, v := range labels {
		if have.Labels[k] != v {
			fields = append(fields, "labels."+k)
		}
	}
	if len(fields) > 0 {
		_, err = cs.Update(ctx, content.Info{Digest: desc.Digest, Labels: labels}, fields...)
	}
	return err
}

// once does the work, unless another goroutine is doing it: then it waits, and does it only if that
// one failed, whose archive may be damaged where ours is not.
func (r *Runtime) once(key string, work func() error) error {
	for {
		mine := false
		_, err, _ := r.chains.Do(key, func() (any, error) {
			mine = true
			return nil, work()
		})
		if err == nil || mine {
			return err
		}
	}
}

func (r *Runtime) slot(ctx context.Context) error {
	select {
	case r.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (r *Runtime) free() { <-r.slots }

// name gives the image its names.
func (r *Runtime) name(ctx context.Context, it *item) error {
	fields := []string{"target"}
	for k := range it.labels {
		fields = append(fields, "labels."+k)
	}
	for _, n := range it.names {
		i := images.Image{Name: n.name, Target: n.target, Labels: it.labels}
		_, err := r.client.ImageService().Create(ctx, i)
		if errdefs.IsAlreadyExists(err) {
			_, err = r.client.ImageService().Update(ctx, i, fields...)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func toDigest(h v1.Hash) digest.Digest { return digest.Digest(h.String()) }

func toHash(d digest.Digest) v1.Hash {
	return v1.Hash{Algorithm: d.Algorithm().String(), Hex: d.Encoded()}
}
