package imagefiles

import (
	"archive/tar"
	"bytes"
	"testing"
)

func TestResolve(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []*tar.Header{
		{Name: "./usr/bin/", Typeflag: tar.TypeDir},
		{Name: "usr/bin/a", Typeflag: tar.TypeReg, Size: 1},
		{Name: "bin", Typeflag: tar.TypeSymlink, Linkname: "usr/bin"},
		{Name: "usr/bin/b", Typeflag: tar.TypeSymlink, Linkname: "/bin/a"},
		{Name: "usr/c", Typeflag: tar.TypeSymlink, Linkname: "../bin/./b"},
		{Name: "loop", Typeflag: tar.TypeSymlink, Linkname: "loop"},
		{Name: "x", Typeflag: tar.TypeSymlink, Linkname: "gone"},
	} {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := w.Write([]byte("a")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := ReadLayer(bytes.NewReader(b.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]string{
		"usr/bin/a": "usr/bin/a", "bin/a": "usr/bin/a", "usr/bin/b": "usr/bin/a", "usr/c": "usr/bin/a", "bin/b": "usr/bin/a",
		"bin": "./usr/bin/", "loop": "", "x": "", "x/y": "", "bin/d": "", "bin/d/e": "", "": "",
	} {
		got := ""
		if f := files.Resolve(p); f != nil {
			got = f.Name
		}
		if got != want {
			t.Errorf("%s is %q, want %q", p, got, want)
		}
	}
	if string(files["usr/bin/a"].Content) != "a" {
		t.Errorf("content is %q", files["usr/bin/a"].Content)
	}
	if _, err := ReadLayer(bytes.NewReader([]byte("no archive, but long enough to be taken for the beginning of one"))); err == nil {
		t.Error("an archive that is none is read")
	}
}
