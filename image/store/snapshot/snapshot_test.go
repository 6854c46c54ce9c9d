package snapshot

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dind-cluster/dind-cluster/image/mtree"
	"github.com/dind-cluster/dind-cluster/image/rootfs"
	"github.com/dind-cluster/dind-cluster/image/spool"
)

type header = tar.Header

func file(name string) header { return header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644} }

func dir(name string, mode int64) header {
	return header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode}
}

func link(name, to string, kind byte) header {
	return header{Typeflag: kind, Name: name, Linkname: to, Mode: 0o777}
}

// archive has headers in their order; a file's content is its name.
func archive(t testing.TB, headers ...header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(h.Name))
		}
		h.ModTime = time.Unix(7, 0)
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
	return b.Bytes()
}

func read(t testing.TB, headers ...header) (*Layer, error) {
	t.Helper()
	content, err := spool.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { content.Close() })
	return Read("test", bytes.NewReader(archive(t, headers...)), content)
}

// list writes a tree in short: path, kind, mode, owner, where a link leads, and what a file says.
func list(t testing.TB, tree Tree) string {
	t.Helper()
	var b strings.Builder
	for _, e := range tree.Sorted() {
		line := fmt.Sprintf("/%s %04o", e.Path, e.Mode)
		if e.UID != 0 || e.GID != 0 {
			line += fmt.Sprintf(" %d:%d", e.UID, e.GID)
		}
		switch e.Type {
		case tar.TypeDir:
			line += " dir"
		case tar.TypeSymlink:
			line += " → " + e.Link
		case tar.TypeReg:
			r, err := e.Content()
			if err != nil {
				t.Fatal(err)
			}
			content, err := io.ReadAll(r)
			r.Close()
			if err != nil {
				t.Fatal(err)
			}
			line += " " + string(content)
		default:
			line += fmt.Sprintf(" %c %d,%d", e.Type, e.Major, e.Minor)
		}
		b.WriteString(line + "\n")
	}
	return b.String()
}

func TestStack(t *testing.T) {
	owned := dir("srv", 0o700)
	owned.Uid, owned.Gid = 3, 4
	base := []header{
		dir(".", 0o755), owned, file("srv/a"), file("srv/b"), dir("srv/sub", 0o711), file("srv/sub/c"),
		link("lib", "srv/sub", tar.TypeSymlink), {Typeflag: tar.TypeChar, Name: "null", Mode: 0o666, Devmajor: 1, Devminor: 3},
	}
	for name, c := range map[string]struct {
		layers [][]header
		first  int
		want   []string
	}{
		"one layer": {[][]header{base}, 0, []string{
			"/ 0755 dir\n/lib 0777 → srv/sub\n/null 0666 3 1,3\n/srv 0700 3:4 dir\n/srv/a 0644 srv/a\n/srv/b 0644 srv/b\n/srv/sub 0711 dir\n/srv/sub/c 0644 srv/sub/c\n",
		}},
		"folders without an entry are as below": {[][]header{{owned}, {file("srv/deep/x")}, {file("srv/y"), file("else/z")}}, 0, []string{
			"/ 0755 dir\n/srv 0700 3:4 dir\n",
			"/ 0755 dir\n/srv 0700 3:4 dir\n/srv/deep 0755 dir\n/srv/deep/x 0644 srv/deep/x\n",
			"/ 0755 dir\n/else 0755 dir\n/else/z 0644 else/z\n/srv 0700 3:4 dir\n/srv/y 0644 srv/y\n",
		}},
		"a folder that is none below has nothing of it": {[][]header{{owned}, {file("srv")}, {file("srv/x")}}, 0, []string{
			"/ 0755 dir\n/srv 0700 3:4 dir\n", "/ 0755 dir\n/srv 0644 srv\n", "/ 0755 dir\n/srv 0755 dir\n/srv/x 0644 srv/x\n",
		}},
		"whiteout": {[][]header{base, {file("srv/.wh.a"), file(".wh.null"), file(".wh.lib"), file(".wh.nothing")}}, 1, []string{
			"/ 0755 dir\n/srv 0700 3:4 dir\n/srv/b 0644 srv/b\n/srv/sub 0711 dir\n/srv/sub/c 0644 srv/sub/c\n",
		}},
		"whiteout of a folder, and a layer above": {[][]header{base, {file(".wh.srv"), file(".wh.lib")}, {file("new")}}, 1, []string{
			"/ 0755 dir\n/null 0666 3 1,3\n", "/ 0755 dir\n/new 0644 new\n",
		}},
		"opaque folder": {[][]header{base, {dir("srv", 0o750), file("srv/new"), file("srv/.wh..wh..opq")}}, 1, []string{
			"/ 0755 dir\n/lib 0777 → srv/sub\n/null 0666 3 1,3\n/srv 0750 dir\n/srv/new 0644 srv/new\n",
		}},
		"opaque root": {[][]header{base, {file(".wh..wh..opq"), file("only")}}, 1, []string{"/ 0755 dir\n/only 0644 only\n"}},
		"a whiteout does not reach its own layer": {[][]header{base, {file("srv/a"), file("srv/.wh.a")}}, 1, []string{
			"/ 0755 dir\n/lib 0777 → srv/sub\n/null 0666 3 1,3\n/srv 0700 3:4 dir\n/srv/a 0644 srv/a\n/srv/b 0644 srv/b\n/srv/sub 0711 dir\n/srv/sub/c 0644 srv/sub/c\n",
		}},
		"kinds change": {[][]header{{file("a"), dir("b", 0o755), file("b/x")}, {file(".wh.z"), dir("a", 0o700), file("a/x"), file("b")}}, 1, []string{
			"/ 0755 dir\n/a 0700 dir\n/a/x 0644 a/x\n/b 0644 b\n",
		}},
		"kinds change in one layer": {[][]header{{file("a"), dir("a", 0o700), file("a/x"), dir("b", 0o755), file("b/x"), file("b")}}, 0, []string{
			"/ 0755 dir\n/a 0700 dir\n/a/x 0644 a/x\n/b 0644 b\n",
		}},
		"links on the way": {[][]header{{
			dir("real", 0o700), link("one", "real", tar.TypeSymlink), link("two", "/one", tar.TypeSymlink), link("real/up", "..", tar.TypeSymlink),
			file("two/x"), file("one/up/y"),
		}}, 0, []string{
			"/ 0755 dir\n/one 0777 → real\n/real 0700 dir\n/real/up 0777 → ..\n/real/x 0644 two/x\n/two 0777 → /one\n/y 0644 one/up/y\n",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var layers []*Layer
			for _, headers := range c.layers {
				l, err := read(t, headers...)
				if err != nil {
					t.Fatal(err)
				}
				layers = append(layers, l)
			}
			first, trees := Stack(layers)
			if first != c.first || len(trees) != len(c.want) {
				t.Fatalf("%d trees from layer %d on, want %d from %d", len(trees), first, len(c.want), c.first)
			}
			for i, tree := range trees {
				if got := list(t, tree); got != c.want[i] {
					t.Errorf("snapshot %d:\n%s\nwant\n%s", i, got, c.want[i])
				}
			}
		})
	}
	if first, trees := Stack(nil); first != 0 || trees != nil {
		t.Errorf("no layers: %d, %v", first, trees)
	}
}

func TestHardLinks(t *testing.T) {
	program := file("bin/a")
	program.Mode, program.PAXRecords = 0o4755, map[string]string{"SCHILY.xattr.security.capability": "\x01\x00"}
	// What the last one says is so.
	last := link("bin/c", "/bin/b", tar.TypeLink)
	last.Mode, last.Uid = 0o4755, 5
	l, err := read(t, program, link("bin/b", "bin/a", tar.TypeLink), last, file("bin/d"))
	if err != nil {
		t.Fatal(err)
	}
	a := l.Tree["bin/a"]
	for _, p := range []string{"bin/b", "bin/c"} {
		e := l.Tree[p]
		if e == nil || e.Inode == "" || e.Inode != a.Inode || !e.Identical(a) || e.Mode != 0o4755 || e.UID != 5 || string(e.Xattrs["security.capability"]) != "\x01\x00" {
			t.Errorf("%s is %+v", p, e)
		}
	}
	if d := l.Tree["bin/d"]; d.Inode != "" || d.Identical(a) {
		t.Errorf("bin/d is %+v", d)
	}
	_, trees := Stack([]*Layer{l})
	// The root, bin, and two files.
	if got, want := trees[0].Usage(), (Usage{Inodes: 4, Size: 4 * 4096}); got != want {
		t.Errorf("usage %+v, want %+v", got, want)
	}
}

func TestBadLayers(t *testing.T) {
	sparse := file("a")
	sparse.PAXRecords = map[string]string{"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "5"}
	loop := []header{link("a", "b", tar.TypeSymlink), link("b", "a", tar.TypeSymlink), file("a/x")}
	for name, c := range map[string]struct {
		headers []header
		want    string
	}{
		"climbs":                    {[]header{file("a/../../b")}, "climbs out"},
		"hard link climbs":          {[]header{link("a", "../b", tar.TypeLink)}, "climbs out"},
		"hard link to nothing":      {[]header{link("a", "b", tar.TypeLink)}, "no file of this layer"},
		"hard link to a folder":     {[]header{dir("b", 0o755), link("a", "b", tar.TypeLink)}, "no file of this layer"},
		"in a file":                 {[]header{file("a"), file("a/b")}, "not a directory"},
		"loop":                      {loop, "symbolic links"},
		"root is a file":            {[]header{file(".")}, "root is not a directory"},
		"whiteout of nothing":       {[]header{file("a/.wh.")}, "not a whiteout"},
		"whiteout of the folder":    {[]header{file("a/.wh...")}, "not a whiteout"},
		"a whiteout's whiteout":     {[]header{file(".wh..wh.aufs")}, "not a whiteout"},
		"a kind that layers lack":   {[]header{{Typeflag: 'Z', Name: "a"}}, "kind"},
		"hard link into a file":     {[]header{file("a"), link("b", "a/c", tar.TypeLink)}, "not a directory"},
		"hard link through a loop":  {append(slices.Clone(loop[:2]), link("c", "a/x", tar.TypeLink)), "symbolic links"},
		"a whiteout through a loop": {append(slices.Clone(loop[:2]), file("a/.wh.x")), "symbolic links"},
	} {
		if _, err := read(t, c.headers...); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "layer test") {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	whole := archive(t, file("some/path"))
	for _, n := range []int{100, 515} {
		if _, err := Read("test", bytes.NewReader(whole[:n]), nil); err == nil || !strings.Contains(err.Error(), "cut off") {
			t.Errorf("%d bytes of an archive: %v", n, err)
		}
	}
}

// FuzzStack takes the archives of two layers from outside. Whatever they hold, no snapshot leaves
// its directory, and each path has a directory to be in.
func FuzzStack(f *testing.F) {
	f.Add(archive(f, dir("a", 0o755), file("a/b"), link("l", "a", tar.TypeSymlink)), archive(f, file("l/.wh.b"), file("l/c")))
	f.Add(archive(f, file("a"), link("b", "a", tar.TypeLink)), archive(f, file(".wh..wh..opq"), file("x/.wh..wh..opq"), dir("x/y", 0o700)))
	f.Add(archive(f, link("a", "..", tar.TypeSymlink), file("a/a/b")), archive(f, file("a")))
	f.Fuzz(func(t *testing.T, lower, upper []byte) {
		var layers []*Layer
		for _, b := range [][]byte{lower, upper} {
			l, err := Read("fuzz", bytes.NewReader(b), nil)
			if err != nil {
				return
			}
			layers = append(layers, l)
		}
		first, trees := Stack(layers)
		if first+len(trees) != len(layers) {
			t.Fatalf("%d snapshots from layer %d on", len(trees), first)
		}
		for _, tree := range trees {
			if tree[""] == nil || tree[""].Type != tar.TypeDir {
				t.Fatal("no root")
			}
			for _, p := range slices.Sorted(maps.Keys(tree)) {
				e := tree[p]
				if e.Path != p || strings.HasPrefix(p, "/") || slices.Contains(strings.Split(p, "/"), "..") {
					t.Fatalf("%q is at %q", e.Path, p)
				}
				if over := tree[rootfs.Dir(p)]; over == nil || over.Type != tar.TypeDir {
					t.Fatalf("/%s is in no folder", p)
				}
				_ = mtree.Line(e)
			}
			tree.Usage()
		}
	})
}
