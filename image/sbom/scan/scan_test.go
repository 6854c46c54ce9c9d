package scan

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"os"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/dind-cluster/dind-cluster/image/rootfs"
	"github.com/dind-cluster/dind-cluster/internal/compression/compresstest"
)

type entry struct {
	name, content string
	kind          byte
	link          string
}

func archive(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: e.name, Size: int64(len(e.content)), Mode: 0o755, Linkname: e.link}
		if e.kind != 0 {
			h.Typeflag = e.kind
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// self returns this test's program, which is written in Go.
func self(t testing.TB) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func sum(s string) string {
	b := sha256.Sum256([]byte(s))
	return hex.EncodeToString(b[:])
}

func TestBlob(t *testing.T) {
	program := self(t)
	const digest = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	status := "Package: a\nVersion: 1\n"
	layer := archive(t,
		entry{name: "./", kind: tar.TypeDir},
		entry{name: "./usr/bin/self", content: program},
		entry{name: "./usr/bin/again", kind: tar.TypeLink, link: "./usr/bin/self"},
		entry{name: "usr/bin/link", kind: tar.TypeSymlink, link: "self"},
		entry{name: "usr/bin/script", content: "#!/bin/sh\n"},
		entry{name: "var/lib/dpkg/status", content: status},
		entry{name: "etc/.wh.gone"},
		entry{name: "opt/.wh..wh..opq"},
		entry{name: "dev/null", kind: tar.TypeChar},
		entry{name: "blobs/" + digest, content: "neither this nor that"},
		entry{name: "blobs/" + digest + ".json", content: ` {"a":1}`},
		entry{name: "empty.tar", content: string(archive(t))},
		entry{name: "inner.tar", content: string(archive(t,
			entry{name: digest + ".tar.gz", content: string(compresstest.Gzip(t, archive(t, entry{name: "deep", content: program})))},
			entry{name: "other.gz", content: string(compresstest.Gzip(t, archive(t, entry{name: "unseen"})))},
		))},
	)
	for name, blob := range map[string][]byte{"plain": layer, "gzip": compresstest.Gzip(t, layer), "zstd": compresstest.Zstd(t, layer)} {
		t.Run(name, func(t *testing.T) {
			a, err := Blob(context.Background(), "layer", bytes.NewReader(blob))
			if err != nil {
				t.Fatal(err)
			}
			want := []string{
				"blobs/" + digest, "blobs/" + digest + ".json", "dev/null", "empty.tar", "inner.tar", "usr/bin/again",
				"usr/bin/link", "usr/bin/script", "usr/bin/self", "var/lib/dpkg/status",
			}
			if got := slices.Sorted(maps.Keys(a.Files)); !slices.Equal(got, want) {
				t.Errorf("files %v\nwant  %v", got, want)
			}
			if !slices.Equal(a.Whiteouts, []string{"etc/gone"}) || !slices.Equal(a.Opaque, []string{"opt"}) {
				t.Errorf("whiteouts %v, opaque %v", a.Whiteouts, a.Opaque)
			}
			checkSelf(t, a.Files["usr/bin/self"], program)
			if a.Files["usr/bin/again"] != a.Files["usr/bin/self"] {
				t.Error("the hard link is not the file")
			}
			if f := a.Files["usr/bin/link"]; f.Link != "self" {
				t.Errorf("link %+v", f)
			}
			if f := a.Files["var/lib/dpkg/status"]; string(f.Text) != status || f.SHA256 != sum(status) {
				t.Errorf("status %+v", f)
			}
			if f := a.Files["blobs/"+digest]; f.SHA256 != sum("neither this nor that") || f.Text != nil {
				t.Errorf("blob %+v", f)
			}
			if f := a.Files["blobs/"+digest+".json"]; string(f.Text) != ` {"a":1}` {
				t.Errorf("document %+v", f)
			}
			if f := a.Files["usr/bin/script"]; f.SHA256 != "" || f.Program != nil {
				t.Errorf("script %+v", f)
			}
			if f := a.Files["empty.tar"]; f.Archive == nil || len(f.Archive.Files) != 0 {
				t.Errorf("empty archive %+v", f)
			}
			inner := a.Files["inner.tar"].Archive
			if inner == nil || inner.Files["other.gz"].Archive != nil || inner.Files[digest+".tar.gz"].Archive == nil {
				t.Fatalf("inner archive %+v", inner)
			}
			checkSelf(t, inner.Files[digest+".tar.gz"].Archive.Files["deep"], program)
		})
	}
}

func checkSelf(t *testing.T, f *File, program string) {
	t.Helper()
	if f == nil || f.Program == nil || f.Program.Go == nil {
		t.Fatalf("this test is no Go program: %+v", f)
	}
	if f.SHA256 != sum(program) || f.Size != int64(len(program)) {
		t.Errorf("%d bytes, sha256 %s", f.Size, f.SHA256)
	}
	// Under Bazel the list of modules is empty in both.
	if want, ok := debug.ReadBuildInfo(); ok && !reflect.DeepEqual(f.Program.Go.Deps, want.Deps) {
		t.Errorf("modules %v, want %v", f.Program.Go.Deps, want.Deps)
	}
}

func TestNotGo(t *testing.T) {
	for name, content := range map[string]string{
		"only the magic number": elfMagicText,
		// The machine's loader, of which there is one wherever tests run.
		"C": read(t, "/lib64/ld-linux-x86-64.so.2"),
	} {
		a, err := Blob(context.Background(), "layer", bytes.NewReader(archive(t, entry{name: "bin/x", content: content})))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if f := a.Files["bin/x"]; f.Program == nil || f.Program.Go != nil || f.SHA256 != sum(content) {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

const elfMagicText = "\x7fELF"

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestDamaged(t *testing.T) {
	layer := archive(t, entry{name: "usr/bin/self", content: self(t)}, entry{name: "x", content: strings.Repeat("x", 600)})
	noGo := strings.ReplaceAll(self(t), "\xff Go buildinf:", "\xff Go buildinX:")
	nested := archive(t, entry{name: "x", content: "x"})
	for range 8 {
		nested = archive(t, entry{name: "x.tar", content: string(nested)})
	}
	for name, c := range map[string]struct {
		blob []byte
		want string
	}{
		"text":             {[]byte("hello"), "not a tar archive"},
		"nothing":          {nil, "not a tar archive"},
		"cut in a file":    {layer[:len(layer)/2], "/usr/bin/self of the layer: it is cut off"},
		"cut in a header":  {layer[:len(layer)-2100], "cut off"},
		"cut gzip":         {compresstest.Gzip(t, layer)[:5000], "cut off"},
		"gzip only once":   {[]byte{0x1f, 0x8b}, "the layer"},
		"damaged records":  {archive(t, entry{name: "bin/go", content: noGo}), "/bin/go of the layer is a Go program, but"},
		"too deep":         {nested, "more than 6 deep"},
		"sparse":           {sparseArchive(t), "/hole of the layer is a sparse file"},
		"an empty promise": {promise(t), "/bin/x of the layer: it is cut off"},
	} {
		_, err := Blob(context.Background(), "the layer", bytes.NewReader(c.blob))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Blob(ctx, "the layer", bytes.NewReader(layer)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// sparseArchive has a file that is said to be of 1 TB and has none of its bytes.
func sparseArchive(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	const tail = "1\n0\n0\n"
	content := tail + strings.Repeat("\x00", 512-len(tail))
	// The writer refuses these records, so they get their names afterwards.
	h := &tar.Header{Name: "GNUSparseFile.0/hole", Size: 512, Format: tar.FormatPAX, PAXRecords: map[string]string{
		"XNU.sparse.major": "1", "XNU.sparse.minor": "0", "XNU.sparse.name": "hole", "XNU.sparse.realsize": "1000000000000",
	}}
	if err := w.WriteHeader(h); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return bytes.ReplaceAll(b.Bytes(), []byte("XNU.sparse"), []byte("GNU.sparse"))
}

// promise begins a program of 2 GiB and ends after 4 KiB.
func promise(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "bin/x", Size: programLimit - 1, Mode: 0o755}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(append([]byte(elfMagicText), make([]byte, 4096)...)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestSquash(t *testing.T) {
	layer := func(whiteouts, opaque []string, files ...string) *Archive {
		a := &Archive{Files: map[string]*File{}, Whiteouts: whiteouts, Opaque: opaque}
		for _, f := range files {
			a.Files[f] = &File{Text: []byte(f)}
		}
		return a
	}
	all := Squash([]*Archive{
		layer(nil, nil, "a", "dir/one", "dir/sub/two", "opaque/old", "opaque/sub/old", "gone/x", "replaced/y", "dirty"),
		layer([]string{"gone", "dir/one"}, []string{"opaque"}, "opaque/new", "replaced"),
	})
	want := []string{"a", "dir/sub/two", "dirty", "opaque/new", "replaced"}
	if got := slices.Sorted(maps.Keys(all)); !slices.Equal(got, want) {
		t.Errorf("files %v, want %v", got, want)
	}
	if all := Squash([]*Archive{layer(nil, nil, "a/b"), layer(nil, []string{""}, "c")}); len(all) != 1 || all["c"] == nil {
		t.Errorf("an opaque root leaves %v", all)
	}
}

func FuzzBlob(f *testing.F) {
	f.Add(archive(f, entry{name: "var/lib/dpkg/status", content: "Package: a\n"}, entry{name: "b/.wh.c"}))
	f.Add(archive(f, entry{name: "x.tar", content: string(archive(f, entry{name: "bin/y", content: elfMagicText + "\x02\x01\x01"}))}))
	f.Add(compresstest.Gzip(f, archive(f, entry{name: "manifest.json", content: "[]"}, entry{name: "l", kind: tar.TypeLink, link: "l"})))
	f.Fuzz(func(t *testing.T, blob []byte) {
		a, err := Blob(context.Background(), "layer", bytes.NewReader(blob))
		if (a == nil) == (err == nil) {
			t.Fatalf("%v, %v", a, err)
		}
		if err != nil {
			return
		}
		for p := range a.Files {
			if p == "" || rootfs.Clean(p) != p {
				t.Errorf("a file is at %q", p)
			}
		}
		// A layer over itself changes nothing, whatever it deletes.
		if twice := Squash([]*Archive{a, a}); !maps.Equal(twice, a.Files) {
			t.Errorf("twice: %v, once: %v", twice, a.Files)
		}
	})
}
