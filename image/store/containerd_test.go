package store

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff/apply"
	"github.com/containerd/containerd/v2/core/images"
	imagearchive "github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/unpack"
	"github.com/containerd/containerd/v2/pkg/archive"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay"
	"github.com/containerd/platforms"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/dind-cluster/dind-cluster/image/imagetest"
	"github.com/dind-cluster/dind-cluster/image/layer"
	"github.com/dind-cluster/dind-cluster/image/spool"
	"github.com/dind-cluster/dind-cluster/image/store/database"
	"github.com/dind-cluster/dind-cluster/image/store/layout"
	"github.com/dind-cluster/dind-cluster/image/store/snapshot"
)

// containerd is containerd's own code over a root directory, without the daemon.
type containerd struct {
	*metadata.DB
	snapshots snapshots.Snapshotter
}

// openRoot opens a root directory as containerd does.
func openRoot(ctx context.Context, t *testing.T, root string) *containerd {
	t.Helper()
	for _, name := range []string{layout.Metadata, layout.SnapshotMetadata} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	blobs, err := local.NewStore(filepath.Join(root, layout.Content))
	if err != nil {
		t.Fatal(err)
	}
	sn, err := overlay.NewSnapshotter(filepath.Dir(filepath.Join(root, layout.SnapshotMetadata)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sn.Close() })
	bolt, err := bbolt.Open(filepath.Join(root, layout.Metadata), 0o644, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bolt.Close() })
	db := metadata.NewDB(bolt, blobs, map[string]snapshots.Snapshotter{database.Snapshotter: sn})
	if err := db.Init(ctx); err != nil {
		t.Fatal(err)
	}
	return &containerd{db, db.Snapshotter(database.Snapshotter)}
}

type file = tar.Header

// layerOf makes a layer of headers; a file's content is its name.
func layerOf(t testing.TB, at time.Time, headers ...file) v1.Layer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		h.ModTime = at
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(h.Name))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := w.Write([]byte(h.Name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return static.NewLayer(b.Bytes(), types.DockerUncompressedLayer)
}

// capability is what setcap(8) writes for cap_net_bind_service=ep.
const capability = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// testLayers have all that layers have. The third and the last remove something.
func testLayers(t testing.TB) []v1.Layer {
	at := time.Unix(1_000_000_000, 0)
	return []v1.Layer{
		layerOf(t, at,
			file{Typeflag: tar.TypeDir, Name: "./", Mode: 0o751},
			file{Typeflag: tar.TypeDir, Name: "usr/", Mode: 0o755},
			file{Typeflag: tar.TypeDir, Name: "usr/bin/", Mode: 0o755},
			file{Typeflag: tar.TypeReg, Name: "usr/bin/serve", Mode: 0o755, PAXRecords: map[string]string{"SCHILY.xattr.security.capability": capability}},
			file{Typeflag: tar.TypeReg, Name: "usr/bin/su", Mode: 0o4755, Uid: 1, Gid: 2},
			file{Typeflag: tar.TypeLink, Name: "usr/bin/su-again", Linkname: "usr/bin/su", Mode: 0o4711, Uid: 3, Gid: 2},
			file{Typeflag: tar.TypeSymlink, Name: "bin", Linkname: "usr/bin", Mode: 0o777},
			file{Typeflag: tar.TypeReg, Name: "bin/through-a-link", Mode: 0o644},
			file{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777},
			file{Typeflag: tar.TypeDir, Name: "home/u/", Mode: 0o2700, Uid: 1000, Gid: 1000, PAXRecords: map[string]string{"SCHILY.xattr.user.note": "mine"}},
			file{Typeflag: tar.TypeReg, Name: "home/u/old", Mode: 0o600, Uid: 1000, Gid: 1000},
			file{Typeflag: tar.TypeChar, Name: "dev/null", Mode: 0o666, Devmajor: 1, Devminor: 3},
			file{Typeflag: tar.TypeFifo, Name: "dev/pipe", Mode: 0o600},
			file{Typeflag: tar.TypeReg, Name: "usr/share/" + strings.Repeat("long/", 60) + "file", Mode: 0o644},
		),
		layerOf(t, at.Add(time.Hour),
			file{Typeflag: tar.TypeReg, Name: "home/u/new", Mode: 0o600, Uid: 1000, Gid: 1000},
			file{Typeflag: tar.TypeReg, Name: "usr/bin/serve", Mode: 0o700},
			file{Typeflag: tar.TypeReg, Name: "tmp", Mode: 0o600},
		),
		layerOf(t, at.Add(2*time.Hour),
			file{Typeflag: tar.TypeReg, Name: "home/.wh.u"},
			file{Typeflag: tar.TypeReg, Name: "usr/bin/.wh.su-again"},
			file{Typeflag: tar.TypeReg, Name: "usr/share/.wh..wh..opq"},
			file{Typeflag: tar.TypeReg, Name: "usr/share/instead", Mode: 0o644},
			file{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777},
		),
		layerOf(t, at.Add(3*time.Hour), file{Typeflag: tar.TypeReg, Name: "home/u/again", Mode: 0o644}),
	}
}

func testImage(t testing.TB, layers ...v1.Layer) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config.Architecture, config.OS = "amd64", "linux"
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	return img
}

// save writes images as docker save does.
func save(t testing.TB, all map[string]v1.Image) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "images.tar")
	if err := os.WriteFile(path, imagetest.Save(t, all), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// group unpacks archives with our code.
func group(t testing.TB, path string, below, own []string, databases bool) *Group {
	t.Helper()
	content, err := spool.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { content.Close() })
	g, err := NewGroup(path, "/store", content)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.AddImages(t.Context(), database.CRINamespace, openAll(t, below), openAll(t, own), databases); err != nil {
		t.Fatal(err)
	}
	return g
}

func openAll(t testing.TB, paths []string) (all []*Image) {
	t.Helper()
	for _, path := range paths {
		images, closer, err := Archive(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { closer.Close() })
		all = append(all, images...)
	}
	return all
}

// extract unpacks a tree with containerd's code, through a layer.
func extract(t *testing.T, dir string, tree snapshot.Tree) {
	t.Helper()
	var b bytes.Buffer
	if err := layer.WriteTar(&b, tree.Sorted()); err != nil {
		t.Fatal(err)
	}
	if _, err := archive.Apply(t.Context(), dir, &b); err != nil {
		t.Fatal(err)
	}
}

// importReal imports an archive into a root directory with containerd's code.
func importReal(ctx context.Context, t *testing.T, c *containerd, path string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	desc, err := imagearchive.ImportIndex(ctx, c.ContentStore(), f)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := content.ReadBlob(ctx, c.ContentStore(), desc)
	if err != nil {
		t.Fatal(err)
	}
	var index ocispec.Index
	if err := json.Unmarshal(raw, &index); err != nil {
		t.Fatal(err)
	}
	store := metadata.NewImageStore(c.DB)
	for _, m := range index.Manifests {
		unpacker, err := unpack.NewUnpacker(ctx, c.ContentStore(), unpack.WithUnpackPlatform(unpack.Platform{
			Platform: platforms.All, SnapshotterKey: database.Snapshotter, Snapshotter: c.snapshots, Applier: apply.NewFileSystemApplier(c.ContentStore()),
		}))
		if err != nil {
			t.Fatal(err)
		}
		if err := images.Dispatch(ctx, unpacker.Unpack(images.ChildrenHandler(c.ContentStore())), nil, m); err != nil {
			t.Fatal(err)
		}
		if _, err := unpacker.Wait(); err != nil {
			t.Fatal(err)
		}
		if _, err := store.Create(ctx, images.Image{Name: m.Annotations[images.AnnotationImageName], Target: m}); err != nil {
			t.Fatal(err)
		}
	}
}

// listing returns what a mounted snapshot has: path to attributes.
func listing(ctx context.Context, t *testing.T, c *containerd, chainID string) map[string]string {
	t.Helper()
	key := "view-" + chainID
	mounts, err := c.snapshots.View(ctx, key, chainID)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	if err := mount.WithReadonlyTempMount(ctx, mounts, func(root string) error {
		inodes := map[uint64][]string{}
		err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			stat := info.Sys().(*syscall.Stat_t)
			line := fmt.Sprintf("%v %d:%d %d", info.Mode(), stat.Uid, stat.Gid, stat.Rdev)
			if !d.IsDir() {
				// Of directories, the time at which containerd unpacked something into them.
				line += fmt.Sprintf(" %d %d", info.Size(), info.ModTime().UnixNano())
			}
			rel := strings.TrimPrefix(p, root)
			switch {
			case d.Type()&fs.ModeSymlink != 0:
				to, err := os.Readlink(p)
				if err != nil {
					return err
				}
				line += " " + to
			case info.Mode().IsRegular():
				b, err := os.ReadFile(p)
				if err != nil {
					return err
				}
				sum := sha256.Sum256(b)
				line += " " + hex.EncodeToString(sum[:4])
				inodes[stat.Ino] = append(inodes[stat.Ino], rel)
			}
			if d.Type()&fs.ModeSymlink == 0 {
				names := make([]byte, 4096)
				n, err := unix.Llistxattr(p, names)
				if err != nil {
					return err
				}
				list := strings.Split(string(names[:n]), "\x00")
				slices.Sort(list)
				for _, name := range list {
					if name == "" {
						continue
					}
					value := make([]byte, 4096)
					n, err := unix.Lgetxattr(p, name, value)
					if err != nil {
						return err
					}
					line += fmt.Sprintf(" %s=%x", name, value[:n])
				}
			}
			all[rel] = line
			return nil
		})
		for _, same := range inodes {
			for _, p := range same {
				all[p] += fmt.Sprintf(" %q", same)
			}
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := c.snapshots.Remove(ctx, key); err != nil {
		t.Fatal(err)
	}
	return all
}

// TestContainerd unpacks images with our code and with containerd's, and compares what containerd's
// code then finds.
func TestContainerd(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may give files away and mount an overlay")
	}
	layers := testLayers(t)
	all := map[string]v1.Image{
		"registry.example/base:1":    testImage(t, layers[:1]...),
		"registry.example/upper:1":   testImage(t, layers[:2]...),
		"registry.example/removes:1": testImage(t, layers...),
		"registry.example/pause:1":   testImage(t, layers[1]),
	}
	ctx := namespaces.WithNamespace(t.Context(), database.CRINamespace)

	first := save(t, map[string]v1.Image{"registry.example/base:1": all["registry.example/base:1"]})
	rest := maps.Clone(all)
	delete(rest, "registry.example/base:1")
	second := save(t, rest)
	image := t.TempDir()
	extract(t, image, group(t, "/store/a", nil, []string{first}, false).Entries())
	extract(t, image, group(t, "/store/b", []string{first}, []string{second}, true).Entries())
	root := t.TempDir()
	for _, part := range []string{"a", "b"} {
		for _, dir := range []string{layout.Snapshots, layout.Blobs} {
			if err := os.MkdirAll(filepath.Join(root, dir), 0o700); err != nil {
				t.Fatal(err)
			}
			entries, err := os.ReadDir(filepath.Join(image, "store", part, dir))
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				if err := os.Symlink(filepath.Join(image, "store", part, dir, e.Name()), filepath.Join(root, dir, e.Name())); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for _, name := range []string{layout.Metadata, layout.SnapshotMetadata} {
		b, err := os.ReadFile(filepath.Join(image, "store/b", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ours := openRoot(ctx, t, root)
	real := openRoot(ctx, t, t.TempDir())
	importReal(ctx, t, real, save(t, all))

	// Nothing that we wrote is garbage to containerd.
	if _, err := ours.GarbageCollect(ctx); err != nil {
		t.Fatal(err)
	}
	wantImages, err := metadata.NewImageStore(real.DB).List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	store := metadata.NewImageStore(ours.DB)
	for _, want := range wantImages {
		got, err := store.Get(ctx, want.Name)
		if err != nil {
			t.Fatal(err)
		}
		labels := map[string]string{"io.cri-containerd.image": "managed", "io.cri-containerd.pinned": "pinned"}
		if !maps.Equal(got.Labels, labels) {
			t.Errorf("%s has the labels %v, want %v", want.Name, got.Labels, labels)
		}
		config, err := got.Config(ctx, ours.ContentStore(), platforms.All)
		if err != nil {
			t.Fatal(err)
		}
		// The manifests are written by different code.
		if realConfig, err := images.Config(ctx, real.ContentStore(), want.Target, platforms.All); err != nil || realConfig.Digest != config.Digest {
			t.Errorf("%s has the config %s, want %s, %v", want.Name, config.Digest, realConfig.Digest, err)
		}
		if byID, err := store.Get(ctx, config.Digest.String()); err != nil || byID.Target.Digest != got.Target.Digest {
			t.Errorf("%s by its ID: %v, %v", want.Name, byID, err)
		}
		info, err := ours.ContentStore().Info(ctx, config.Digest)
		if err != nil {
			t.Fatal(err)
		}
		realInfo, err := real.ContentStore().Info(ctx, config.Digest)
		if err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(info.Labels, realInfo.Labels) {
			t.Errorf("%s: its config has the labels %v, want %v", want.Name, info.Labels, realInfo.Labels)
		}
		chainID := realInfo.Labels["containerd.io/gc.ref.snapshot.overlayfs"]
		wantFiles, gotFiles := listing(ctx, t, real, chainID), listing(ctx, t, ours, chainID)
		if len(wantFiles) < 3 {
			t.Fatalf("%s has only %v", want.Name, wantFiles)
		}
		for p := range maps.Keys(wantFiles) {
			if gotFiles[p] != wantFiles[p] {
				t.Errorf("%s: %s is %q, want %q", want.Name, p, gotFiles[p], wantFiles[p])
			}
		}
		for p := range gotFiles {
			if wantFiles[p] == "" {
				t.Errorf("%s: %s is there, and should not be", want.Name, p)
			}
		}
	}
	// All snapshots are as containerd's, but those below one that removes something, which are
	// missing.
	count := 0
	if err := ours.snapshots.Walk(ctx, func(ctx context.Context, got snapshots.Info) error {
		count++
		want, err := real.snapshots.Stat(ctx, got.Name)
		if err != nil {
			return err
		}
		usage, err := ours.snapshots.Usage(ctx, got.Name)
		if err != nil {
			return err
		}
		realUsage, err := real.snapshots.Usage(ctx, got.Name)
		if err != nil {
			return err
		}
		if got.Parent == "" && want.Parent != "" {
			delete(want.Labels, "containerd.io/snapshot/parent-chain-id")
			want.Parent = ""
		} else if usage.Inodes != realUsage.Inodes || usage.Size == 0 {
			t.Errorf("%s takes %+v, want %+v", got.Name, usage, realUsage)
		}
		if got.Kind != want.Kind || got.Parent != want.Parent || !maps.Equal(got.Labels, want.Labels) {
			t.Errorf("snapshot %+v, want %+v", got, want)
		}
		if !got.Created.Equal(time.Unix(0, 0)) {
			t.Errorf("snapshot %s is of %v", got.Name, got.Created)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if count != 5 {
		t.Errorf("%d snapshots", count)
	}

	// More can come: the next snapshot's number is a new one.
	if _, err := ours.snapshots.Prepare(ctx, "more", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, layout.Snapshots, "6", "fs")); err != nil {
		t.Error(err)
	}
	if err := ours.snapshots.Remove(ctx, "more"); err != nil {
		t.Fatal(err)
	}
	// And all of it can go, which leaves the image as it was.
	left, err := store.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range left {
		if err := store.Delete(ctx, i.Name); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := ours.GarbageCollect(ctx); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{layout.Snapshots, layout.Blobs} {
		if entries, err := os.ReadDir(filepath.Join(root, dir)); err != nil || len(entries) > 0 {
			t.Errorf("%s still has %v, %v", dir, entries, err)
		}
	}
	if _, err := os.Stat(filepath.Join(image, "store/a", layout.Snapshots, "1/fs/usr/bin/su")); err != nil {
		t.Error(err)
	}
}
