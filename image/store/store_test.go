package store

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/dind-cluster/dind-cluster/image"
	"github.com/dind-cluster/dind-cluster/image/imagetest"
	"github.com/dind-cluster/dind-cluster/image/layer"
	"github.com/dind-cluster/dind-cluster/image/spool"
	"github.com/dind-cluster/dind-cluster/image/store/database"
	"github.com/dind-cluster/dind-cluster/image/store/layout"
	"github.com/dind-cluster/dind-cluster/image/store/snapshot"
	"github.com/dind-cluster/dind-cluster/image/tree"
)

// TestReproducible writes the same store twice.
func TestReproducible(t *testing.T) {
	layers := testLayers(t)
	archive := save(t, map[string]v1.Image{
		"registry.example/a:1": testImage(t, layers[0]), "registry.example/b:1": testImage(t, layers...), "registry.example/pause:1": testImage(t),
	})
	var blobs [2]bytes.Buffer
	for i := range blobs {
		m, err := layer.WriteBlob(&blobs[i], group(t, "/store/a", nil, []string{archive}, true).Entries().Sorted(), &layer.Spec{Name: "test"})
		if err != nil {
			t.Fatal(err)
		}
		if m.Size != int64(blobs[i].Len()) || !strings.HasPrefix(m.DiffID, "sha256:") || m.DiffID == m.Digest {
			t.Errorf("metadata %+v", m)
		}
	}
	if !bytes.Equal(blobs[0].Bytes(), blobs[1].Bytes()) {
		t.Error("two stores of the same images differ")
	}
}

func newGroup(t testing.TB) *Group {
	t.Helper()
	content, err := spool.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { content.Close() })
	g, err := NewGroup("/usr/lib/x/store/node", "/usr/lib/x", content)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func regular(p, content string, inode string) *tree.Entry {
	return &tree.Entry{
		Path: p, Type: tar.TypeReg, Mode: 0o644, Size: int64(len(content)), SHA256: content, Inode: inode,
		Content: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil },
		ModTime: time.Unix(0, 0),
	}
}

func directory(p string) *tree.Entry {
	return &tree.Entry{Path: p, Type: tar.TypeDir, Mode: 0o755, ModTime: time.Unix(0, 0)}
}

func treeOf(entries ...*tree.Entry) snapshot.Tree {
	t := snapshot.Tree{}
	for _, e := range entries {
		t[e.Path] = e
	}
	return t
}

// TestShare looks at which files become one.
func TestShare(t *testing.T) {
	later := regular("usr/later", "same", "")
	later.ModTime = time.Unix(1, 0)
	private := regular("usr/private", "same", "")
	private.Mode = 0o600
	own := treeOf(
		directory("usr"), regular("usr/same", "same", ""), regular("usr/other", "own", ""), regular("etc/same", "same", ""), later, private,
		regular("usr/linked", "linked", "own-1"), regular("usr/linked-too", "linked", "own-1"),
		regular("opt/half", "half", ""), regular("usr/apart-1", "apart", ""), regular("usr/apart-2", "apart", ""),
	)
	g := newGroup(t)
	g.addTree(3, treeOf(
		directory(""), directory("usr"), regular("usr/same", "same", ""), regular("usr/other", "other", ""), regular("etc/same", "same", ""),
		regular("usr/later", "same", ""), regular("usr/private", "same", ""), regular("usr/only", "same", ""),
		regular("usr/linked", "linked", "1"), regular("usr/linked-too", "linked", "1"),
		regular("opt/half", "half", "2"), regular("opt/half-too", "half", "2"),
		regular("usr/apart-1", "apart", "3"), regular("usr/apart-2", "apart", "3"),
	))
	all, err := g.Share(g.root(3), own)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := layer.WriteTar(&b, all.Sorted()); err != nil {
		t.Fatal(err)
	}
	links := map[string]string{}
	tr := tar.NewReader(&b)
	for h, err := tr.Next(); err != io.EOF; h, err = tr.Next() {
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeLink {
			links[h.Name] = h.Linkname
		}
	}
	root := g.root(3) + "/"
	want := map[string]string{
		// In the order of the archive: the store is in usr/lib.
		"usr/same": root + "usr/same", "usr/linked-too": root + "usr/linked", "usr/linked": root + "usr/linked",
		root + "usr/linked-too": root + "usr/linked",
		// These are one file in the image, and stay apart from those of the layer.
		root + "opt/half-too": root + "opt/half", root + "usr/apart-2": root + "usr/apart-1",
	}
	if fmt.Sprint(links) != fmt.Sprint(want) {
		t.Errorf("links\n%v\nwant\n%v", links, want)
	}
	if all["usr/lib/x/store"] == nil || all["usr/lib"] != nil || all[path.Dir(g.root(3))].Mode != 0o700 {
		t.Errorf("%v", slices.Collect(func(yield func(string) bool) {
			for p := range all {
				if !yield(p) {
					return
				}
			}
		}))
	}
	for _, e := range []*tree.Entry{regular("usr/lib/x/store", "file", ""), regular(root+"usr", "file", "")} {
		if _, err := g.Share(g.root(3), treeOf(e)); err == nil || !strings.Contains(err.Error(), e.Path) {
			t.Errorf("a file at %s: %v", e.Path, err)
		}
	}
}

// TestLayers unpacks an image layer by layer, as dind-cluster has it.
func TestLayers(t *testing.T) {
	base := imagetest.New(t, imagetest.Spec{Name: "base:1", Layers: []string{"one"}})
	files := imagetest.New(t, imagetest.Spec{Name: "node:1", Base: base, Layers: []string{"dir/two", "dir/three"}, Config: image.Config{Cmd: []string{"x"}}})
	var layers []*snapshot.Layer
	var usage []snapshot.Usage
	g := newGroup(t)
	for n, l := range files.Layers {
		read, err := ReadBlob(l.Blob, l.Metadata, g.Content)
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, read)
		unpacked, root, err := g.AddLayer(n, read, layers[:n])
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("usr/lib/x/store/node/%s/%d/fs", layout.Snapshots, n+1); root != want {
			t.Errorf("layer %d is at %s, want %s", n, root, want)
		}
		file := filepath.Join(t.TempDir(), "usage")
		if err := WriteUsage(file, unpacked.Usage()); err != nil {
			t.Fatal(err)
		}
		u, err := ReadUsage(file)
		if err != nil || u != unpacked.Usage() || u.Inodes < 2 {
			t.Errorf("usage %+v, %v", u, err)
		}
		usage = append(usage, u)
	}
	i, err := Files(files)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.AddImage(t.Context(), "moby", i, usage[1:]); err == nil || !strings.Contains(err.Error(), "usage of 2") {
		t.Errorf("with the usage of some layers: %v", err)
	}
	if err := g.AddImage(t.Context(), "moby", i, usage); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{layout.Snapshots + "/2/fs/dir/two", layout.Metadata, layout.SnapshotMetadata, "index.json"} {
		if e := g.Entries()["usr/lib/x/store/node/"+p]; e == nil || e.Type != tar.TypeReg || e.Size == 0 {
			t.Errorf("%s is %+v", p, e)
		}
	}
	r, err := g.Entries()["usr/lib/x/store/node/index.json"].Content()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if b, err := io.ReadAll(r); err != nil || !bytes.Contains(b, []byte(`"dind-cluster.snapshots":"1 2 3","io.containerd.image.name":"docker.io/library/node:1"`)) {
		t.Errorf("index %s, %v", b, err)
	}
	removes := &snapshot.Layer{Tree: snapshot.Tree{}, Whiteouts: []string{"one"}}
	if _, _, err := g.AddLayer(1, removes, layers[:1]); err == nil || !strings.Contains(err.Error(), "removes files") {
		t.Errorf("a layer that removes something: %v", err)
	}
	if _, _, err := g.AddLayer(2, layers[2], layers[:1]); err == nil {
		t.Error("a layer without one below it was taken")
	}
}

func TestErrors(t *testing.T) {
	one := testImage(t, testLayers(t)[0])
	archive := save(t, map[string]v1.Image{"registry.example/a:1": one})
	g := newGroup(t)
	if err := g.AddImages(t.Context(), database.CRINamespace, openAll(t, []string{archive}), openAll(t, []string{archive}), true); err == nil || !strings.Contains(err.Error(), "two images have the name registry.example/a:1") {
		t.Errorf("one image twice: %v", err)
	}
	raw, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(raw, []byte("usr/bin/su-again"))
	raw[at] = 'U'
	damaged := filepath.Join(t.TempDir(), "damaged.tar")
	if err := os.WriteFile(damaged, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	all, closer, err := Archive(t.Context(), damaged)
	if err == nil {
		defer closer.Close()
		err = newGroup(t).AddImages(t.Context(), database.CRINamespace, nil, all, true)
	}
	if err == nil {
		t.Error("a damaged archive was taken")
	}
	for _, p := range []string{damaged + ".not", t.TempDir()} {
		if _, _, err := Archive(t.Context(), p); err == nil || !strings.Contains(err.Error(), p) {
			t.Errorf("%s: %v", p, err)
		}
	}
	for _, c := range [][2]string{{"/a", "/b"}, {"/", "/"}, {"/ab/c", "/a"}, {"/a/../..", "/a"}, {"/a", "/.."}, {"", ""}} {
		if _, err := NewGroup(c[0], c[1], nil); err == nil {
			t.Errorf("a group at %q under %q", c[0], c[1])
		}
	}
	files := imagetest.New(t, imagetest.Spec{Name: "node:1", Layers: []string{"one"}})
	blob := files.Layers[0].Blob
	if err := os.Truncate(blob, 30); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadBlob(blob, files.Layers[0].Metadata, nil); err == nil || !strings.Contains(err.Error(), "layer one") {
		t.Errorf("a layer that is cut off: %v", err)
	}
	if _, err := ReadUsage(blob); err == nil || !strings.Contains(err.Error(), blob) {
		t.Errorf("usage that is none: %v", err)
	}
	files.Name = "Not A Name"
	if _, err := Files(files); err == nil {
		t.Error("an image without a good name was taken")
	}
}
