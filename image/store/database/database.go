// Package database writes containerd's two databases of what is in its root directory, with
// containerd's own packages. Their bytes depend on the content alone.
package database

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/snapshots/storage"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.etcd.io/bbolt"

	"github.com/dind-cluster/dind-cluster/image/store/layout"
	"github.com/dind-cluster/dind-cluster/image/store/snapshot"
)

// CRINamespace is containerd's namespace for Kubernetes' images. Its CRI plugin expects the names
// and labels that it gives them itself:
// https://github.com/containerd/containerd/blob/v2.3.7/internal/cri/server/images/image_pull.go
const CRINamespace = "k8s.io"

// Snapshotter is the snapshotter that the snapshots are for.
const Snapshotter = "overlayfs"

// Image is an image to be recorded.
type Image struct {
	// Names are full references: registry.k8s.io/pause:3.10.2.
	Names []string
	// Target describes the manifest.
	Target           ocispec.Descriptor
	Manifest, Config []byte
	// ChainID names the image's topmost snapshot; it is empty for an image without layers.
	ChainID digest.Digest
}

// Snapshot is an unpacked layer to be recorded. Its number in containerd is its place in the list,
// from 1.
type Snapshot struct {
	ChainID digest.Digest
	// Parent names the snapshot below; it is empty for the lowest.
	Parent digest.Digest
	// DiffID is the layer's.
	DiffID digest.Digest
	Usage  snapshot.Usage
}

// Content is what the databases will record.
type Content struct {
	// Namespace is containerd's: k8s.io for the CRI plugin, moby for Docker.
	Namespace string
	Images    []Image
	// Snapshots come after those that they are based on.
	Snapshots []Snapshot
}

// Write makes the databases under root, at the paths of layout. They must not exist.
func Write(ctx context.Context, root string, c *Content) error {
	work, err := os.MkdirTemp("", "store-database-")
	if err != nil {
		return fmt.Errorf("making a temporary directory: %w", err)
	}
	defer os.RemoveAll(work)
	for _, name := range []string{layout.Metadata, layout.SnapshotMetadata} {
		for _, dir := range []string{work, root} {
			if err := os.MkdirAll(filepath.Join(dir, path.Dir(name)), 0o755); err != nil {
				return fmt.Errorf("writing databases: %w", err)
			}
		}
	}
	if err := fill(namespaces.WithNamespace(ctx, c.Namespace), work, c); err != nil {
		return fmt.Errorf("writing databases: %w", err)
	}
	for _, name := range []string{layout.Metadata, layout.SnapshotMetadata} {
		if err := settle(filepath.Join(work, name), filepath.Join(root, name)); err != nil {
			return fmt.Errorf("writing databases: %s: %w", name, err)
		}
	}
	return nil
}

// options makes databases that need not survive a crash of the machine.
func options() *bbolt.Options {
	// The default page size is this machine's.
	return &bbolt.Options{Timeout: time.Second, NoSync: true, NoGrowSync: true, NoFreelistSync: false, PageSize: 4096, FreelistType: bbolt.FreelistArrayType}
}

func fill(ctx context.Context, root string, c *Content) (err error) {
	blobs, err := local.NewStore(filepath.Join(root, "content"))
	if err != nil {
		return err
	}
	store, err := storage.NewMetaStore(filepath.Join(root, layout.SnapshotMetadata), func(o *bbolt.Options) error {
		*o = *options()
		return nil
	})
	if err != nil {
		return err
	}
	defer closeInto(&err, store)
	bolt, err := bbolt.Open(filepath.Join(root, layout.Metadata), 0o600, options())
	if err != nil {
		return err
	}
	defer closeInto(&err, bolt)
	recorder := &recorder{store: store}
	db := metadata.NewDB(bolt, blobs, map[string]snapshots.Snapshotter{Snapshotter: recorder})
	if err := db.Init(ctx); err != nil {
		return err
	}
	for i, s := range c.Snapshots {
		recorder.usage = snapshots.Usage{Inodes: s.Usage.Inodes, Size: s.Usage.Size}
		if err := commit(ctx, db.Snapshotter(Snapshotter), s); err != nil {
			return fmt.Errorf("snapshot %s: %w", s.ChainID, err)
		}
		if want := strconv.Itoa(i + 1); recorder.id != want {
			return fmt.Errorf("snapshot %s: containerd gave it the number %s, not %s", s.ChainID, recorder.id, want)
		}
	}
	for _, i := range c.Images {
		if err := name(ctx, db, c.Namespace, i); err != nil {
			return fmt.Errorf("image %v: %w", i.Names, err)
		}
	}
	return nil
}

func closeInto(err *error, c interface{ Close() error }) {
	if cerr := c.Close(); *err == nil {
		*err = cerr
	}
}

// commit records a snapshot as containerd does after unpacking a layer.
func commit(ctx context.Context, sn snapshots.Snapshotter, s Snapshot) error {
	labels := map[string]string{
		"containerd.io/snapshot.ref":     s.ChainID.String(),
		"containerd.io/snapshot/diff-id": s.DiffID.String(),
	}
	if s.Parent != "" {
		labels["containerd.io/snapshot/parent-chain-id"] = s.Parent.String()
	}
	key := "extract " + s.ChainID.String()
	if _, err := sn.Prepare(ctx, key, s.Parent.String(), snapshots.WithLabels(labels)); err != nil {
		return err
	}
	return sn.Commit(ctx, s.ChainID.String(), key, snapshots.WithLabels(labels))
}

// name records an image: its manifest and config, with the labels by which garbage collection finds
// from its names to its snapshots, and the names.
func name(ctx context.Context, db *metadata.DB, namespace string, i Image) error {
	var manifest ocispec.Manifest
	if err := json.Unmarshal(i.Manifest, &manifest); err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	labels := map[string]string{}
	if i.ChainID != "" {
		labels["containerd.io/gc.ref.snapshot."+Snapshotter] = i.ChainID.String()
	}
	id := manifest.Config.Digest
	if err := write(ctx, db.ContentStore(), manifest.Config, i.Config, labels); err != nil {
		return fmt.Errorf("config: %w", err)
	}
	// The content store has no layers to refer to: unpacked ones are enough to run an image.
	labels = map[string]string{"containerd.io/gc.ref.content.config": id.String()}
	if err := write(ctx, db.ContentStore(), i.Target, i.Manifest, labels); err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	names, labels := slices.Clone(i.Names), nil
	if namespace == CRINamespace {
		// Pinned, so that the kubelet does not remove them when the disk is full
		// (https://kubernetes.io/docs/concepts/architecture/garbage-collection/#container-image-lifecycle):
		// it would free no space, and a node without a network could not pull them again.
		names, labels = append(names, id.String()), map[string]string{"io.cri-containerd.image": "managed", "io.cri-containerd.pinned": "pinned"}
	}
	is := metadata.NewImageStore(db)
	for _, name := range names {
		if _, err := is.Create(ctx, images.Image{Name: name, Target: i.Target, Labels: maps.Clone(labels)}); err != nil {
			return err
		}
	}
	return nil
}

func write(ctx context.Context, cs content.Store, desc ocispec.Descriptor, raw []byte, labels map[string]string) error {
	return content.WriteBlob(ctx, cs, desc.Digest.String(), bytes.NewReader(raw), desc, content.WithLabels(labels))
}

// recorder is an overlay snapshotter without files: it only writes the database.
type recorder struct {
	snapshots.Snapshotter // for the methods that nothing here calls
	store                 *storage.MetaStore
	usage                 snapshots.Usage
	id                    string
}

// Prepare implements snapshots.Snapshotter.
func (r *recorder) Prepare(ctx context.Context, key, parent string, opts ...snapshots.Opt) ([]mount.Mount, error) {
	return nil, r.store.WithTransaction(ctx, true, func(ctx context.Context) error {
		_, err := storage.CreateSnapshot(ctx, snapshots.KindActive, key, parent, opts...)
		return err
	})
}

// Commit implements snapshots.Snapshotter.
func (r *recorder) Commit(ctx context.Context, name, key string, opts ...snapshots.Opt) error {
	return r.store.WithTransaction(ctx, true, func(ctx context.Context) (err error) {
		r.id, err = storage.CommitActive(ctx, key, name, r.usage, opts...)
		return err
	})
}

// settle copies a database in the order of its keys, with one time for all, so that its bytes
// depend on the content alone.
func settle(from, to string) (err error) {
	src, err := bbolt.Open(from, 0o600, options())
	if err != nil {
		return err
	}
	defer closeInto(&err, src)
	if err := src.Update(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error { return setTimes(b) })
	}); err != nil {
		return err
	}
	if _, err := os.Stat(to); err == nil {
		return os.ErrExist
	}
	dst, err := bbolt.Open(to, 0o644, options())
	if err != nil {
		return err
	}
	defer closeInto(&err, dst)
	// One key for each transaction: in a larger one, the pages of several buckets are written in
	// random order.
	return bbolt.Compact(dst, src, 1)
}

// setTimes sets all times in a bucket to that of all files in our images.
func setTimes(b *bbolt.Bucket) error {
	at, err := time.Unix(0, 0).UTC().MarshalBinary()
	if err != nil {
		return err
	}
	var times [][]byte
	if err := b.ForEach(func(k, v []byte) error {
		switch {
		case v == nil:
			return setTimes(b.Bucket(k))
		case string(k) == "createdat", string(k) == "updatedat":
			times = append(times, slices.Clone(k))
		}
		return nil
	}); err != nil {
		return err
	}
	for _, k := range times {
		if err := b.Put(k, at); err != nil {
			return err
		}
	}
	return nil
}
