package containerd

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/platforms"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/dind-cluster/dind-cluster/image/archive"
	"github.com/dind-cluster/dind-cluster/image/archive/room"
)

// TestTwoLoaders lets two loaders, each with a lease of its own as two processes have, load
// archives that share layers. One is damaged, and the other finds the layers that this one has just
// unpacked: it must not lose them when they are taken back.
func TestTwoLoaders(t *testing.T) {
	dir := small(t, "500m") // which of them is faster must not depend on the disk
	d := startOn(t, filepath.Join(dir, "containerd"), 0)
	t.Cleanup(d.stop) // before dir goes
	ctx := context.Background()
	for round := range 5 {
		var shared []v1.Layer
		var ids []digest.Digest
		for i := range 4 {
			l := layer(t, map[string]string{"shared": fmt.Sprint(round, i)})
			id, _ := l.DiffID()
			shared, ids = append(shared, l), append(ids, toDigest(id))
		}
		name := fmt.Sprintf("docker.io/library/good:%d", round)
		own := layer(t, map[string]string{"large": strings.Repeat("g", 40<<20), "own": name})
		good := saveIn(t, subdir(t, dir, "good"), map[string]v1.Image{name: image(t, append(shared, own)...)})
		last := layer(t, map[string]string{"damaged": strings.Repeat("d", 10<<20)})
		raw, err := os.ReadFile(saveIn(t, dir, map[string]v1.Image{"damaged:1": image(t, append(shared, last)...)}))
		if err != nil {
			t.Fatal(err)
		}
		raw[bytes.Index(raw, []byte(strings.Repeat("d", 1000)))+9<<20] ^= 1
		bad := filepath.Join(dir, "bad.tar")
		if err := os.WriteFile(bad, raw, 0o644); err != nil {
			t.Fatal(err)
		}
		badErr := make(chan error, 1)
		go func() {
			_, err := d.load(t, ctx, Options{}, bad)
			badErr <- err
		}()
		for sn := d.client.SnapshotService(snapshotter); len(badErr) == 0; {
			if _, err := sn.Stat(d.ctx, chainID(slices.Clone(ids))); err == nil {
				break
			}
		}
		_, goodErr := d.load(t, ctx, Options{}, good)
		var damaged *archive.DigestError
		if err := <-badErr; !errors.As(err, &damaged) {
			t.Errorf("round %d: the damaged one: %v", round, err)
		}
		if goodErr != nil {
			t.Fatalf("round %d: the good one: %v", round, goodErr)
		}
		d.collect(t)
		if got, err := d.file(t, name, "own"); err != nil || string(got) != name {
			t.Fatalf("round %d: %q, %v", round, got, err)
		}
		if state := d.state(t); strings.Contains(state, "lease") || strings.Contains(state, "damaged:1") {
			t.Fatalf("round %d: left behind:\n%s", round, state)
		}
		d.removeAll(t)
	}
}

func subdir(t *testing.T, dir, name string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// indexed writes a layout with an image for two platforms, of which the other one's blobs are not
// there, as docker save and others leave it.
func indexed(t *testing.T, name string, img v1.Image) (dir string, index, manifest v1.Hash) {
	t.Helper()
	other := image(t, layer(t, map[string]string{"other": name}))
	on := func(img v1.Image, variant string) mutate.IndexAddendum {
		return mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64", Variant: variant}}}
	}
	idx := mutate.AppendManifests(empty.Index, on(other, "v2"), on(img, ""))
	dir = t.TempDir()
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.AppendIndex(idx, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": name})); err != nil {
		t.Fatal(err)
	}
	gone, _ := other.Digest()
	if err := os.Remove(filepath.Join(dir, "blobs", "sha256", gone.Hex)); err != nil {
		t.Fatal(err)
	}
	index, _ = idx.Digest()
	manifest, _ = img.Digest()
	return dir, index, manifest
}

// TestDigests loads images and asks for them by their digests, as the CRI plugin does.
func TestDigests(t *testing.T) {
	if platforms.DefaultSpec().Architecture != "amd64" {
		t.Skip("the images are for amd64")
	}
	d := start(t, 0)
	ctx := context.Background()
	img := image(t, layer(t, map[string]string{"file": "content"}))
	dir, index, manifest := indexed(t, "example.org/app:1", img)
	old := save(t, map[string]v1.Image{"example.org/old:1": image(t, layer(t, map[string]string{"old": "old"}))})
	out, err := d.load(t, ctx, Options{}, dir, old)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out, "example.org/app:1@"+index.String()) || !strings.Contains(out, "example.org/old:1, by name only") {
		t.Errorf("the output does not tell the digests:\n%s", out)
	}
	d.collect(t)
	id, _ := img.ConfigName()
	for name, want := range map[string]v1.Hash{
		"example.org/app:1":                    index,
		"example.org/app@" + index.String():    index,
		"example.org/app@" + manifest.String(): manifest,
		id.String():                            index,
	} {
		got, err := d.client.ImageService().Get(d.ctx, name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got.Target.Digest.String() != want.String() || got.Labels[managedLabel] != managed {
			t.Errorf("%s is %s, %v, want %s", name, got.Target.Digest, got.Labels, want)
		}
		// What the CRI plugin reads of an image before it takes it.
		config, err := got.Config(d.ctx, d.client.ContentStore(), platforms.Default())
		if err != nil || config.Digest.String() != id.String() {
			t.Errorf("%s: config %s, %v", name, config.Digest, err)
		}
		if _, err := content.ReadBlob(d.ctx, d.client.ContentStore(), config); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got, err := d.file(t, name, "file"); err != nil || string(got) != "content" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	state := d.state(t)
	if strings.Contains(state, "example.org/old@") {
		t.Errorf("an image whose manifest was made here has a digest:\n%s", state)
	}
	if out, err := d.load(t, ctx, Options{}, dir, old); err != nil || strings.Count(out, "already there") != 2 {
		t.Errorf("%v\n%s", err, out)
	}
	if again := d.state(t); again != state {
		t.Errorf("before:\n%s\nafter:\n%s", state, again)
	}
	// Each name alone keeps what it needs.
	for _, name := range []string{"example.org/app:1", id.String(), "example.org/app@" + index.String()} {
		if err := d.client.ImageService().Delete(d.ctx, name); err != nil {
			t.Fatal(err)
		}
	}
	d.collect(t)
	if got, err := d.file(t, "example.org/app@"+manifest.String(), "file"); err != nil || string(got) != "content" {
		t.Errorf("%q, %v", got, err)
	}
	d.removeAll(t)
}

// TestManyLayers loads images of more and more layers. One that no container could start from is
// refused, and leaves nothing.
func TestManyLayers(t *testing.T) {
	root := t.TempDir()
	d := startOn(t, root, 0)
	d.stop()
	// Snapshots are numbered on and on. The numbers' digits take room among the mount's options, so
	// begin with a node's that has been in use for long.
	db, err := bbolt.Open(filepath.Join(root, "io.containerd.snapshotter.v1.overlayfs", "metadata.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		v1, err := tx.CreateBucketIfNotExists([]byte("v1"))
		if err != nil {
			return err
		}
		b, err := v1.CreateBucketIfNotExists([]byte("snapshots"))
		if err != nil {
			return err
		}
		return b.SetSequence(1_000_000_000)
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	d = startOn(t, root, 0)
	var layers []v1.Layer
	for i := range 320 {
		layers = append(layers, layer(t, map[string]string{"dir/": "", fmt.Sprintf("dir/%d", i): ""}))
	}
	ctx := context.Background()
	if _, err := d.load(t, ctx, Options{}, save(t, map[string]v1.Image{"few:1": image(t, layers[:110]...)})); err != nil {
		t.Fatal(err)
	}
	if _, err := d.file(t, "docker.io/library/few:1", "dir/109"); err != nil {
		t.Error(err)
	}
	before := d.state(t)
	_, err = d.load(t, ctx, Options{}, save(t, map[string]v1.Image{"many:1": image(t, layers...)}))
	if err == nil || !strings.Contains(err.Error(), "docker.io/library/many:1: no container could start from its 320 layers") {
		t.Errorf("got %v", err)
	}
	if after := d.state(t); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// small mounts a small file system of memory.
func small(t *testing.T, size string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func free(t *testing.T, dir string) int64 {
	t.Helper()
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		t.Fatal(err)
	}
	return int64(s.Bavail) * s.Bsize
}

// bomb is a gzip-compressed tar archive with a file of zeros; with sparse, it is one of a hole.
func bomb(t *testing.T, size int64, sparse bool) []byte {
	t.Helper()
	var buf bytes.Buffer
	zw := gzip.NewWriter(&buf)
	if sparse {
		zw.Write(hole(size))
	} else {
		tw := tar.NewWriter(zw)
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "bomb", Size: size, Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(tw, zeros{}, size); err != nil {
			t.Fatal(err)
		}
		tw.Close()
	}
	zw.Close()
	return buf.Bytes()
}

// hole is an archive in GNU's sparse format 1.0, in which a file of any size takes a few blocks.
func hole(size int64) []byte {
	var out []byte
	block := func(name string, kind byte, content string) {
		b := make([]byte, 512)
		copy(b, name)
		copy(b[100:], "0000644\x000000000\x000000000\x00")
		copy(b[124:], fmt.Sprintf("%011o\x0000000000000\x00        ", len(content)))
		b[156] = kind
		copy(b[257:], "ustar\x0000")
		sum := 0
		for _, c := range b {
			sum += int(c)
		}
		copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
		out = append(append(out, b...), content...)
		out = append(out, make([]byte, (512-len(content)%512)%512)...)
	}
	var records string
	for _, r := range []string{"GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.name=bomb", fmt.Sprint("GNU.sparse.realsize=", size)} {
		records += fmt.Sprintf("%d %s\n", len(r)+4, r)
	}
	block("pax", tar.TypeXHeader, records)
	fragments := fmt.Sprintf("1\n%d\n0\n", size)
	block("bomb", tar.TypeReg, fragments+strings.Repeat("\x00", 512-len(fragments)))
	return append(out, make([]byte, 1024)...)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// TestBombs loads what does not fit. It must end before the disk is full, say so, and leave
// nothing.
func TestBombs(t *testing.T) {
	const large = 400 << 20
	ctx := context.Background()
	t.Run("spool", func(t *testing.T) {
		dir := small(t, "100m")
		_, err := archive.Read(ctx, "standard input", bytes.NewReader(bomb(t, large, false)), archive.Options{SpoolDir: dir})
		if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "spooling standard input: it needs 419 MB in "+dir+", where 105 MB are free") {
			t.Errorf("got %v", err)
		}
		if n := free(t, dir); n < 99<<20 {
			t.Errorf("%d bytes are left", n)
		}
	})
	for what, sparse := range map[string]bool{"layer": false, "sparse layer": true} {
		t.Run(what, func(t *testing.T) {
			root := small(t, "300m")
			d := startOn(t, root, 0)
			t.Cleanup(d.stop) // before root goes
			d.collect(t)
			before, had := d.state(t), free(t, root)
			dir := t.TempDir()
			p, err := layout.Write(dir, empty.Index)
			if err != nil {
				t.Fatal(err)
			}
			base := layer(t, map[string]string{"base": "base"})
			bad := static.NewLayer(bomb(t, large, sparse), types.OCILayer)
			img := image(t, base, diffIDLayer{bad, bomb(t, large, sparse)})
			if err := p.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "bomb:1"})); err != nil {
				t.Fatal(err)
			}
			least := had
			done := make(chan struct{})
			var watch sync.WaitGroup
			watch.Go(func() {
				for {
					select {
					case <-done:
						return
					default:
						least = min(least, free(t, root))
					}
				}
			})
			_, err = d.load(t, ctx, Options{}, dir)
			close(done)
			watch.Wait()
			// What a stream unpacks to is known before it is written, but for holes: there, whoever
			// watches the disk may be too late for one that is so small and fast.
			var full *room.FullError
			if !errors.Is(err, unix.ENOSPC) || !sparse && (!errors.As(err, &full) || !strings.Contains(err.Error(), "it needs more than")) {
				t.Errorf("got %v", err)
			}
			if least == 0 && !sparse {
				t.Error("the disk was full for a while")
			}
			t.Logf("%v; at least %d of %d bytes stayed free", err, least, had)
			if after := d.state(t); after != before {
				t.Errorf("before:\n%s\nafter:\n%s", before, after)
			}
			if n := free(t, root); n < had-(1<<20) {
				t.Errorf("%d of %d bytes are left", n, had)
			}
		})
	}
}

// diffIDLayer is a compressed layer with its true diff ID.
type diffIDLayer struct {
	v1.Layer
	packed []byte
}

func (l diffIDLayer) DiffID() (v1.Hash, error) {
	r, err := l.Uncompressed()
	if err != nil {
		return v1.Hash{}, err
	}
	h, _, err := v1.SHA256(r)
	return h, err
}

func (l diffIDLayer) Uncompressed() (io.ReadCloser, error) {
	return gzip.NewReader(bytes.NewReader(l.packed))
}
