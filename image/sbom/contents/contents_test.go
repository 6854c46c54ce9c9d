package contents

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/dind-cluster/dind-cluster/image/imagetest"
	"github.com/dind-cluster/dind-cluster/image/rootfs"
	"github.com/dind-cluster/dind-cluster/image/sbom/scan"
)

// files are the content of a layer: path to content; a link's begins with an arrow.
type files map[string]string

func (f files) tar(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, p := range slices.Sorted(maps.Keys(f)) {
		h := &tar.Header{Name: p, Mode: 0o755, Size: int64(len(f[p]))}
		if link, ok := strings.CutPrefix(f[p], "→"); ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, link, 0
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := w.Write([]byte(f[p])); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// image makes an image of uncompressed layers.
func image(t testing.TB, kind types.MediaType, layers ...files) v1.Image {
	t.Helper()
	img := empty.Image
	for i, f := range layers {
		var err error
		if img, err = mutate.Append(img, mutate.Addendum{
			Layer:   static.NewLayer(f.tar(t), kind),
			History: v1.History{CreatedBy: fmt.Sprintf("layer %d", i)},
		}); err != nil {
			t.Fatal(err)
		}
	}
	return img
}

func read(t testing.TB, o Options, layers ...files) (*Image, error) {
	t.Helper()
	img := image(t, types.DockerUncompressedLayer, layers...)
	archives, err := scan.Layers(context.Background(), img)
	if err != nil {
		t.Fatal(err)
	}
	return Read("test:1", img, archives, o)
}

// self returns this test's program.
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

// modules returns what this test's program is said to be made of: go test puts a list into it,
// Bazel does not.
func modules(t testing.TB) Options {
	t.Helper()
	h, _, err := v1.SHA256(strings.NewReader(self(t)))
	if err != nil {
		t.Fatal(err)
	}
	return Options{Modules: map[string]*debug.BuildInfo{h.Hex: {
		Path: "example.org/m/cmd", Main: debug.Module{Path: "example.org/m"}, Deps: []*debug.Module{{Path: "example.org/d", Version: "v1.0.0"}},
	}}}
}

const status = `Package: libfoo1
Status: install ok installed
Maintainer: Foo Team <foo@lists.example.org>
Architecture: amd64
Source: foo (1:2.0-1)
Version: 1:2.0-1+b2
Built-Using: golang-1.24 (= 1.24.4-1),
 bar (= 2)
Static-Built-Using: bar (= 2), baz:amd64 (= 3)
Description: library
 with a text
Homepage: https://example.org/foo

Package: bash
Status: install ok installed
Maintainer: Matthias <m@example.org>
Architecture: amd64
Version: 5.2

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1
`

func TestPackages(t *testing.T) {
	i, err := read(t, Options{}, files{
		"var/lib/dpkg/status":                      status,
		"var/lib/dpkg/info/libfoo1:amd64.list":     "/.\n/usr\n/lib/libfoo.so.1\n/usr/bin/foo\n",
		"var/lib/dpkg/info/bash.list":              "/usr/bin/bash\n",
		"usr/lib/libfoo.so.1":                      "\x7fELF no program",
		"usr/bin/bash":                             "\x7fELF no program",
		"usr/bin/foo":                              self(t),
		"usr/bin/other":                            "\x7fELF of nobody",
		"usr/share/doc/bash":                       "→bash-common",
		"usr/share/doc/bash-common/copyright":      "→../../common/copyright",
		"usr/share/common/copyright":               "the wrong place",
		"usr/share/doc/common/copyright":           "licence of something else",
		"usr/share/doc/libfoo1/copyright":          "licence of foo",
		"usr/lib/os-release":                       "ID=debian\nVERSION_ID=\"13\"\nPRETTY_NAME='Debian 13'\nVERSION_CODENAME=trixie\n# comment\n",
		"etc/os-release":                           "→../usr/lib/os-release",
		"usr/share/doc/unrelated/copyright.gz.txt": "",
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := (&OS{ID: "debian", Name: "Debian 13", VersionID: "13", Codename: "trixie"}); !reflect.DeepEqual(i.OS, want) {
		t.Errorf("operating system %+v", i.OS)
	}
	want := []*Package{
		{
			Name: "bash", Version: "5.2", Architecture: "amd64", Maintainer: "Matthias <m@example.org>", Source: SourcePackage{"bash", "5.2"},
		},
		{
			Name: "libfoo1", Version: "1:2.0-1+b2", Architecture: "amd64", Maintainer: "Foo Team <foo@lists.example.org>",
			Homepage: "https://example.org/foo", Summary: "library", Source: SourcePackage{"foo", "1:2.0-1"},
			BuiltUsing: []SourcePackage{{"golang-1.24", "1.24.4-1"}, {"bar", "2"}, {"baz", "3"}}, Copyright: []byte("licence of foo"),
		},
	}
	if !reflect.DeepEqual(i.Packages, want) {
		t.Errorf("packages\n%+v, %+v\nwant\n%+v, %+v", i.Packages[0], i.Packages[1], want[0], want[1])
	}
	var programs []string
	for _, p := range i.Programs {
		line := p.Path
		if p.Package != nil {
			line += " of " + p.Package.Name
		}
		programs = append(programs, line)
	}
	// What a package brought and Go did not make is the package's own business.
	if want := []string{"/usr/bin/foo of libfoo1", "/usr/bin/other"}; !slices.Equal(programs, want) {
		t.Errorf("programs %q, want %q", programs, want)
	}
	if len(i.Layers) != 1 || i.Layers[0].CreatedBy != "layer 0" {
		t.Errorf("layers %+v", i.Layers)
	}
}

// TestDistroless reads the records of images without dpkg.
func TestDistroless(t *testing.T) {
	i, err := read(t, modules(t), files{
		"var/lib/dpkg/status.d/base":         "Package: base\nVersion: 1\nArchitecture: all\n",
		"var/lib/dpkg/status.d/base.md5sums": "0123  usr/bin/x\n",
		"usr/bin/x":                          "\x7fELF",
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(i.Packages) != 1 || i.Packages[0].Name != "base" || len(i.Programs) != 0 {
		t.Errorf("packages %+v, programs %+v", i.Packages, i.Programs)
	}
}

func TestLayers(t *testing.T) {
	i, err := read(t, modules(t),
		files{"usr/bin/a": self(t), "usr/bin/b": self(t), "var/lib/dpkg/status": "Package: old\nVersion: 1\nArchitecture: all\n"},
		files{"usr/bin/.wh.a": "", "usr/bin/b": "text now", "usr/bin/c": self(t), "var/lib/dpkg/status": "Package: new\nVersion: 1\nArchitecture: all\n"},
	)
	if err != nil {
		t.Fatal(err)
	}
	if len(i.Programs) != 1 || i.Programs[0].Path != "/usr/bin/c" || len(i.Packages) != 1 || i.Packages[0].Name != "new" {
		t.Errorf("programs %+v, packages %+v", i.Programs, i.Packages)
	}
}

// TestModules has programs whose modules are not known.
func TestModules(t *testing.T) {
	hasList := false
	if info, ok := debug.ReadBuildInfo(); ok {
		hasList = info.Main.Path != "" || len(info.Deps) > 0
	}
	_, err := read(t, Options{}, files{"usr/bin/self": self(t)})
	var unknown *UnknownModulesError
	if errors.As(err, &unknown) == hasList {
		t.Errorf("a program with a list: %v, and the error is: %v", hasList, err)
	}
	if unknown != nil && (unknown.Path != "/usr/bin/self" || !strings.Contains(err.Error(), "programs of the image_sbom")) {
		t.Error(err)
	}
	if hasList {
		return
	}
	i, err := read(t, modules(t), files{"usr/bin/self": self(t)})
	if err != nil {
		t.Fatal(err)
	}
	if p := i.Programs[0]; p.Go.Main.Path != "example.org/m" || len(p.Go.Deps) != 1 || !strings.HasPrefix(p.Go.GoVersion, "go1.") {
		t.Errorf("%+v", p.Go)
	}
}

// inner returns an image to put into another one.
func inner(t testing.TB, kind types.MediaType) v1.Image {
	return image(t, kind,
		files{"var/lib/dpkg/status": "Package: base\nVersion: 1\nArchitecture: all\n", "usr/bin/lost": self(t)},
		files{"usr/bin/inner": self(t), "usr/bin/.wh.lost": ""},
	)
}

func checkInner(t *testing.T, i *Image, at, name string, isID bool) {
	t.Helper()
	if i.Path != at || i.Name != name || i.IsID != isID || len(i.Layers) != 2 {
		t.Errorf("image %s at %s, by ID: %v, layers %+v", i.Name, i.Path, i.IsID, i.Layers)
	}
	if len(i.Packages) != 1 || i.Packages[0].Name != "base" || len(i.Programs) != 1 || i.Programs[0].Path != "/usr/bin/inner" {
		t.Errorf("%s: packages %+v, programs %+v", name, i.Packages, i.Programs)
	}
}

// layoutFiles returns an OCI layout, by paths under dir.
func layoutFiles(t testing.TB, dir, name string, img v1.Image) files {
	t.Helper()
	tmp := t.TempDir()
	p, err := layout.Write(tmp, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": name})); err != nil {
		t.Fatal(err)
	}
	f := files{}
	for _, sub := range []string{".", "blobs/sha256"} {
		entries, err := os.ReadDir(tmp + "/" + sub)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.IsDir() {
				continue
			}
			b, err := os.ReadFile(tmp + "/" + sub + "/" + e.Name())
			if err != nil {
				t.Fatal(err)
			}
			f[rootfs.Clean(dir+"/"+sub+"/"+e.Name())] = string(b)
		}
	}
	return f
}

func TestNestedImages(t *testing.T) {
	saved := inner(t, types.DockerUncompressedLayer)
	id, err := saved.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	laid := inner(t, types.OCIUncompressedLayer)
	digest, err := laid.Digest()
	if err != nil {
		t.Fatal(err)
	}
	all := layoutFiles(t, "srv/node-image", "dind-node:v1", laid)
	all["opt/images.tar"] = string(imagetest.Save(t, map[string]v1.Image{"registry.k8s.io/a:1": saved, "registry.k8s.io/a:2": saved}))
	all["opt/layout.tar"] = string(layoutFiles(t, ".", "example.org/c:1", laid).tar(t))
	all["opt/other.tar"] = string(files{"a": "b"}.tar(t))
	i, err := read(t, modules(t), all)
	if err != nil {
		t.Fatal(err)
	}
	if len(i.Images) != 3 || len(i.Programs) != 0 {
		t.Fatalf("%d images %+v, programs %+v", len(i.Images), i.Images, i.Programs)
	}
	checkInner(t, i.Images[0], "/opt/images.tar", "registry.k8s.io/a:1", true)
	checkInner(t, i.Images[1], "/opt/layout.tar", "example.org/c:1", false)
	checkInner(t, i.Images[2], "/srv/node-image", "dind-node:v1", false)
	if i.Images[0].Digest != id || i.Images[1].Digest != digest || i.Images[2].Digest != digest {
		t.Errorf("digests %s, %s, %s", i.Images[0].Digest, i.Images[1].Digest, i.Images[2].Digest)
	}
}

func TestBadNestedImages(t *testing.T) {
	good := layoutFiles(t, ".", "x:1", inner(t, types.OCIUncompressedLayer))
	without := func(part string) files {
		f := maps.Clone(good)
		for p, content := range f {
			if strings.HasPrefix(p, "blobs/") && strings.Contains(content, part) {
				delete(f, p)
				return f
			}
		}
		t.Fatalf("no blob has %q", part)
		return nil
	}
	saved := func(edit func(files)) files {
		f := files{}
		tr := tar.NewReader(bytes.NewReader(imagetest.Save(t, map[string]v1.Image{"x:1": inner(t, types.DockerUncompressedLayer)})))
		for h, err := tr.Next(); err == nil; h, err = tr.Next() {
			var b bytes.Buffer
			if _, err := b.ReadFrom(tr); err != nil {
				t.Fatal(err)
			}
			f[h.Name] = b.String()
		}
		edit(f)
		return f
	}
	layerOf := func(f files) string {
		for p := range f {
			if strings.HasSuffix(p, ".tar") {
				return p
			}
		}
		t.Fatal("the archive has no layer")
		return ""
	}
	for name, c := range map[string]struct {
		content files
		want    string
	}{
		"layout: no index":      {files{"oci-layout": good["oci-layout"]}, "index.json is missing"},
		"layout: bad index":     {files{"oci-layout": good["oci-layout"], "index.json": "[1"}, "index.json: "},
		"layout: no manifest":   {without(`"layers"`), "is missing"},
		"layout: no config":     {without(`"rootfs"`), "is missing"},
		"layout: no layer":      {without("dpkg/status"), "is missing"},
		"save: bad manifest":    {files{"manifest.json": "[1"}, "manifest.json"},
		"save: no config":       {files{"manifest.json": `[{"Config":"c.json","Layers":[]}]`}, "c.json is missing"},
		"save: layer missing":   {saved(func(f files) { delete(f, layerOf(f)) }), "is missing"},
		"save: no layer at all": {saved(func(f files) { f[layerOf(f)] = "text" }), "not a tar archive"},
		"save: another layer":   {saved(func(f files) { f[layerOf(f)] = string(files{"x": "y"}.tar(t)) }), "is damaged"},
	} {
		_, err := read(t, modules(t), files{"opt/image.tar": string(c.content.tar(t))})
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "/opt/image.tar") {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// storeFiles returns a store of an image unpacked, in two parts, as another image holds it. The
// image's layers remove nothing.
func storeFiles(t testing.TB, dir, name string, img v1.Image) files {
	t.Helper()
	f := files{}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	var numbers []string
	for n, l := range layers {
		numbers = append(numbers, fmt.Sprint(n+1))
		r, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		part := []string{"a", "b"}[min(n, 1)]
		tr := tar.NewReader(r)
		for h, err := tr.Next(); err == nil; h, err = tr.Next() {
			var b bytes.Buffer
			if _, err := b.ReadFrom(tr); err != nil {
				t.Fatal(err)
			}
			f[fmt.Sprintf("%s/%s%s%d/fs/%s", dir, part, storeTrees, n+1, h.Name)] = b.String()
		}
	}
	config, err := img.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	id, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := img.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	f[dir+"/b"+storeBlobs+"blobs/sha256/"+id.Hex] = string(config)
	f[dir+"/b"+storeBlobs+"blobs/sha256/"+digest.Hex] = string(manifest)
	f[dir+"/b"+storeDatabase] = "database"
	one := fmt.Sprintf(`{"mediaType":"%s","digest":"%s","size":1,"annotations":{"io.containerd.image.name":"%%s","%s":"%s"}}`,
		types.OCIManifestSchema1, digest, storeSnapshots, strings.Join(numbers, " "))
	f[dir+"/b/index.json"] = fmt.Sprintf(`{"schemaVersion":2,"manifests":[`+one+`,`+one+`]}`, name, name+"-again")
	return f
}

// unpackable returns an image whose layers remove nothing, with another one in it if there is one.
func unpackable(t testing.TB, inside files) v1.Image {
	upper := files{"usr/bin/inner": self(t)}
	maps.Copy(upper, inside)
	return image(t, types.OCIUncompressedLayer, files{
		"var/lib/dpkg/status": "Package: base\nVersion: 1\nArchitecture: all\n", "usr/bin/inner": "of the lower layer",
	}, upper)
}

func TestUnpackedImages(t *testing.T) {
	innermost := storeFiles(t, "var/store", "registry.example/innermost:1", unpackable(t, nil))
	all := storeFiles(t, "srv/store", "docker.io/library/node:v1", unpackable(t, innermost))
	all["usr/bin/own"] = self(t)
	i, err := read(t, modules(t), all)
	if err != nil {
		t.Fatal(err)
	}
	if len(i.Images) != 1 || len(i.Programs) != 1 || len(i.Packages) != 0 {
		t.Fatalf("%d images %+v, programs %+v, packages %+v", len(i.Images), i.Images, i.Programs, i.Packages)
	}
	checkInner(t, i.Images[0], "/srv/store/b", "node:v1", false)
	if len(i.Images[0].Images) != 1 {
		t.Fatalf("images in the image: %+v", i.Images[0].Images)
	}
	checkInner(t, i.Images[0].Images[0], "/var/store/b", "registry.example/innermost:1", false)
}

func TestBadUnpackedImages(t *testing.T) {
	good := storeFiles(t, "srv/store", "registry.example/x:1", unpackable(t, nil))
	index := "srv/store/b/index.json"
	without := func(part string) files {
		f := maps.Clone(good)
		maps.DeleteFunc(f, func(p, content string) bool {
			return strings.Contains(p, part) || strings.Contains(content, part) && strings.Contains(p, "/blobs/")
		})
		if len(f) == len(good) {
			t.Fatalf("nothing has %q", part)
		}
		return f
	}
	with := func(p, content string) files {
		f := maps.Clone(good)
		f[p] = content
		return f
	}
	for name, c := range map[string]struct {
		content files
		want    string
	}{
		"no index":          {without("index.json"), "no index.json"},
		"bad index":         {with(index, "[1"), "index.json"},
		"no manifest":       {without(`"layers"`), "is missing"},
		"no config":         {without(`"rootfs"`), "is missing"},
		"no snapshot":       {without("/snapshots/2/"), "snapshot 2 is missing"},
		"no numbers":        {with(index, strings.ReplaceAll(good[index], `"1 2"`, `""`)), "names no snapshot"},
		"bad numbers":       {with(index, strings.ReplaceAll(good[index], `"1 2"`, `"one"`)), "is to be numbers"},
		"not in a snapshot": {with("srv/store/a"+storeTrees+"x/fs/a", "b"), "is in no snapshot"},
		"beside a snapshot": {with("srv/store/a"+storeTrees+"1/work", "b"), "is in no snapshot"},
		"bad packages":      {with("srv/store/a"+storeTrees+"2/fs/var/lib/dpkg/status", "Package: a\nnonsense\n"), "is no field"},
	} {
		_, err := read(t, modules(t), c.content)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "/srv/store/b") {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestBadPackages(t *testing.T) {
	for text, want := range map[string]string{
		"Package: a\nnonsense\n":                                             "line 2 is no field",
		"Package: a\nArchitecture: all\n":                                    "field Version is \"\"",
		"Package: a b\nVersion: 1\n":                                         "field Package is \"a b\"",
		"Version: 1\nArchitecture: all\n\n":                                  "package 1: field Package",
		"Package: a\nVersion: 1\nArchitecture: all\nBuilt-Using: b (>= 1)\n": "field Built-Using of a",
	} {
		_, err := read(t, Options{}, files{"var/lib/dpkg/status": text})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "/var/lib/dpkg/status") {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestLookup(t *testing.T) {
	file := &scan.File{}
	f := tree{
		"a": file, "link": {Link: "a"}, "abs": {Link: "/dir/b"}, "dir/b": file, "dir/up": {Link: "../a"},
		"dirlink": {Link: "dir"}, "loop": {Link: "loop"}, "to": {Link: "nowhere"}, "deep": {Link: "dirlink/up"},
		"far/away": {Link: "/dir"}, "beside": {Link: "far/away/../a"},
	}
	for p, want := range map[string]bool{
		"a": true, "link": true, "abs": true, "dir/up": true, "dirlink/b": true, "dirlink/up": true, "deep": true, "far/away/b": true,
		// The directory above dir is the root, not far.
		"far/away/../a": true, "beside": true,
		"loop": false, "to": false, "nothing": false, "loop/x": false, "a/b": false,
	} {
		if got := f.lookup(p) != nil; got != want {
			t.Errorf("%s: found %v", p, got)
		}
	}
}

// FuzzRecords takes the records of a package manager and the documents of an image from outside.
func FuzzRecords(f *testing.F) {
	f.Add(status, `[{"Config":"c.json","RepoTags":["a:1"],"Layers":["l/layer.tar"]}]`, `{"schemaVersion":2,"manifests":[]}`, "ID=debian\n")
	f.Fuzz(func(t *testing.T, status, manifest, index, os string) {
		document := func(text string) *scan.File {
			h, _, _ := v1.SHA256(strings.NewReader(text))
			return &scan.File{Text: []byte(text), Size: int64(len(text)), SHA256: h.Hex}
		}
		config := document(`{"rootfs":{"type":"layers","diff_ids":[]}}`)
		files := tree{
			"var/lib/dpkg/status": {Text: []byte(status)},
			"usr/lib/os-release":  {Text: []byte(os)},
			"a.tar":               {Archive: &scan.Archive{Files: tree{"manifest.json": document(manifest), "c.json": config}}},
			"l/oci-layout":        document(`{"imageLayoutVersion":"1.0.0"}`),
			"l/index.json":        document(index),
			// A store of unpacked images, with the same index.
			"s/a" + storeDatabase:         {},
			"s/a/index.json":              {Text: []byte(index)},
			"s/a" + storeTrees + "1/fs/f": {},
		}
		// A bill of materials is the same each time, and says where things are in the image.
		var once, twice Image
		err, again := once.fill(files, Options{}), twice.fill(files, Options{})
		if (err == nil) != (again == nil) || err == nil && !reflect.DeepEqual(once, twice) {
			t.Fatalf("%+v, %v, then %+v, %v", once, err, twice, again)
		}
		for _, p := range once.Packages {
			if p.Name == "" {
				t.Errorf("a package without a name: %+v", p)
			}
		}
		for _, inner := range once.Images {
			if !strings.HasPrefix(inner.Path, "/") {
				t.Errorf("an image is at %q", inner.Path)
			}
		}
	})
}
