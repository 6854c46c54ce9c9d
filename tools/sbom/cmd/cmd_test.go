package cmd

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/dind-cluster/dind-cluster/image"
	"github.com/dind-cluster/dind-cluster/image/effects"
	"github.com/dind-cluster/dind-cluster/image/imagetest"
	"github.com/dind-cluster/dind-cluster/image/layer"
	"github.com/dind-cluster/dind-cluster/image/tree"
)

// built is an image of the build: one layer with this test's program and a package, over another
// image.
type built struct {
	dir, description, blob, program, modules, lock string
}

func build(t *testing.T) *built {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b := &built{dir: t.TempDir(), program: program}
	info, err := os.Stat(program)
	if err != nil {
		t.Fatal(err)
	}
	entries := []*tree.Entry{
		text(t, "usr/lib/os-release", "ID=debian\nVERSION_CODENAME=trixie\n"),
		text(t, "var/lib/dpkg/status", "Package: a\nVersion: 1\nArchitecture: all\n"),
		{Path: "usr/bin/self", Type: tar.TypeReg, Mode: 0o755, Size: info.Size(), Content: func() (io.ReadCloser, error) { return os.Open(program) }},
	}
	var blob bytes.Buffer
	meta, err := layer.WriteBlob(&blob, entries, &layer.Spec{Name: "the layer"})
	if err != nil {
		t.Fatal(err)
	}
	b.blob = b.write(t, "blob", blob.Bytes())
	own := image.LayerFiles{Metadata: b.json(t, "layer.json", meta), Blob: b.blob}
	base := imagetest.New(t, imagetest.Spec{Name: "base:1", Layers: []string{"one"}})
	config, manifest, err := image.Build(&image.Spec{Base: base, Layers: []image.LayerFiles{own}})
	if err != nil {
		t.Fatal(err)
	}
	b.description = b.json(t, "image.json", &image.Files{
		Name: "upper:1", Config: b.write(t, "config", config), Manifest: b.write(t, "manifest", manifest),
		Layers: append(slices.Clone(base.Layers), own),
	})
	b.modules = b.write(t, "modules", []byte("path\texample.org/m/cmd\nmod\texample.org/m\t(devel)\ndep\texample.org/listed\tv1.0.0\n"))
	b.lock = b.write(t, "lock.json", []byte(`{"packages":[{"name":"a","version":"1","architecture":"all","path":"pool/a_1_all.deb","sha256":"`+strings.Repeat("7", 64)+`"}]}`))
	return b
}

func text(t *testing.T, path, content string) *tree.Entry {
	t.Helper()
	e, err := effects.Text(path, content, 0o644, "test")
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func (b *built) write(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(b.dir, name)
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func (b *built) json(t *testing.T, name string, v any) string {
	t.Helper()
	content, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b.write(t, name, content)
}

func run(args ...string) error {
	c := New()
	c.SetArgs(args)
	return c.Execute()
}

func TestCommand(t *testing.T) {
	b := build(t)
	out := filepath.Join(b.dir, "out")
	if err := run("--image", b.description, "--program", b.program+"="+b.modules, "--lock", b.lock, "--vendor", "v", "--output", out); err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	module := "example.org/listed"
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Path != "" {
		// The program's own list takes precedence.
		module = "github.com/dind-cluster/dind-cluster"
	}
	for _, want := range []string{
		`"name": "upper:1"`, `"created": "1970-01-01T00:00:00Z"`, `"/usr/bin/self"`, `"name": "` + module + `"`,
		"pkg:deb/debian/a@1?arch=all&distro=trixie", strings.Repeat("7", 64), `"a_1_all.deb"`, `"sourceInfo": "the layer"`,
	} {
		if !bytes.Contains(doc, []byte(want)) {
			t.Errorf("no %s in\n%s", want, doc)
		}
	}
}

func TestErrors(t *testing.T) {
	b := build(t)
	other := build(t)
	blob, err := os.ReadFile(other.blob)
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(blob)
	damaged[len(damaged)-1] ^= 1
	other.write(t, "blob", damaged)
	gone := build(t)
	if err := os.Remove(gone.blob); err != nil {
		t.Fatal(err)
	}
	bad := b.write(t, "bad", []byte("no list, no lock"))
	absent := filepath.Join(b.dir, "absent")
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"no image":      {[]string{}, `required flag(s) "image"`},
		"absent image":  {[]string{"--image", absent}, "reading image description: open " + absent},
		"damaged layer": {[]string{"--image", other.description}, "image upper:1: /usr/bin/self of layer 1: CRC check failed"},
		"absent layer":  {[]string{"--image", gone.description}, "image upper:1: layer 1: open " + gone.blob},
		"half a pair":   {[]string{"--image", b.description, "--program", "x"}, "--program x: it must be PROGRAM=MODULES"},
		"absent list":   {[]string{"--image", b.description, "--program", b.program + "=" + absent}, "reading module list: open " + absent},
		"bad list":      {[]string{"--image", b.description, "--program", b.program + "=" + b.write(t, "dep", []byte("mod\tx\n"))}, "reading module list " + b.dir},
		"not a list":    {[]string{"--image", b.description, "--program", b.program + "=" + bad}, "it names no main module"},
		"absent lock":   {[]string{"--image", b.description, "--lock", absent}, "reading lock: open " + absent},
		"bad lock":      {[]string{"--image", b.description, "--lock", bad}, "reading lock " + bad},
	} {
		out := filepath.Join(t.TempDir(), "out")
		err := run(append(c.args, "--output", out)...)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if _, err := os.Stat(out); err == nil {
			t.Errorf("%s: a document was written", name)
		}
	}
}
