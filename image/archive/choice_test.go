package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/platforms"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sys/unix"

	"github.com/dind-cluster/dind-cluster/image/imagetest"
	"github.com/dind-cluster/dind-cluster/internal/ocilayout"
)

// set is an OCI layout in the making: files by path.
type set map[string][]byte

func newSet() set { return set{"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`)} }

// blob adds a blob and describes it.
func (s set) blob(mt types.MediaType, content any) v1.Descriptor {
	raw, ok := content.([]byte)
	if !ok {
		var err error
		if raw, err = json.Marshal(content); err != nil {
			panic(err)
		}
	}
	h, n, _ := v1.SHA256(bytes.NewReader(raw))
	s[ocilayout.Blob(h)] = raw
	return v1.Descriptor{MediaType: mt, Digest: h, Size: n}
}

// image adds an image of one layer for a platform, as its config has it.
func (s set) image(t testing.TB, content string, platform v1.Platform) v1.Descriptor {
	t.Helper()
	var layer bytes.Buffer
	tw := tar.NewWriter(&layer)
	writeFile(t, tw, "file", []byte(content))
	tw.Close()
	l := s.blob(types.OCIUncompressedLayer, layer.Bytes())
	config := s.blob(types.OCIConfigJSON, v1.ConfigFile{
		OS: platform.OS, Architecture: platform.Architecture, Variant: platform.Variant,
		RootFS: v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{l.Digest}},
	})
	return s.blob(types.OCIManifestSchema1, v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Config: config, Layers: []v1.Descriptor{l}})
}

// index adds an index.
func (s set) index(manifests ...v1.Descriptor) v1.Descriptor {
	return s.blob(types.OCIImageIndex, v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: manifests})
}

// top writes index.json.
func (s set) top(manifests ...v1.Descriptor) {
	raw, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, Manifests: manifests})
	if err != nil {
		panic(err)
	}
	s["index.json"] = raw
}

// without removes an image's layer, config and manifest.
func (s set) without(desc v1.Descriptor) {
	m, _ := v1.ParseManifest(bytes.NewReader(s[ocilayout.Blob(desc.Digest)]))
	for _, d := range append(m.Layers, m.Config, desc) {
		delete(s, ocilayout.Blob(d.Digest))
	}
}

func (s set) write(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range s {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func as(desc v1.Descriptor, name string) v1.Descriptor {
	desc.Annotations = map[string]string{annotationRefName: name}
	return desc
}

func on(desc v1.Descriptor, p v1.Platform) v1.Descriptor {
	desc.Platform = &p
	return desc
}

var (
	amd64   = v1.Platform{OS: "linux", Architecture: "amd64"}
	amd64v1 = v1.Platform{OS: "linux", Architecture: "amd64", Variant: "v1"}
	amd64v2 = v1.Platform{OS: "linux", Architecture: "amd64", Variant: "v2"}
	i386    = v1.Platform{OS: "linux", Architecture: "386"}
	arm64   = v1.Platform{OS: "linux", Architecture: "arm64"}
	nobody  = v1.Platform{OS: "unknown", Architecture: "unknown"}
)

func openSet(t testing.TB, s set) (*Archive, error) {
	t.Helper()
	a, err := Open(context.Background(), s.write(t), Options{Name: "test", Platform: &amd64})
	if err == nil {
		t.Cleanup(func() { a.Close() })
	}
	return a, err
}

// TestSeveralPlatforms opens archives with several images of which one fits best.
func TestSeveralPlatforms(t *testing.T) {
	tests := []struct {
		name string
		// make returns the image that is to be found, or what the error says.
		make    func(s set) v1.Descriptor
		err     string
		indexes int
	}{
		{"two variants", func(s set) v1.Descriptor {
			want, other := s.image(t, "one", amd64), s.image(t, "two", amd64v2)
			s.top(as(s.index(on(other, amd64v2), on(want, amd64)), "a:1"))
			return want
		}, "", 1},
		{"two variants, the other one first and v1 written out", func(s set) v1.Descriptor {
			want, other := s.image(t, "one", amd64v1), s.image(t, "two", amd64v2)
			s.top(as(s.index(on(want, amd64v1), on(other, amd64v2)), "a:1"))
			return want
		}, "", 1},
		{"the other variant's blobs are missing", func(s set) v1.Descriptor {
			want, other := s.image(t, "one", amd64), s.image(t, "two", amd64v2)
			s.top(as(s.index(on(want, amd64), on(other, amd64v2)), "a:1"))
			s.without(other)
			return want
		}, "", 1},
		{"all other blobs are missing, without platforms", func(s set) v1.Descriptor {
			want, other := s.image(t, "one", amd64), s.image(t, "two", arm64)
			s.top(as(s.index(other, want), "a:1"))
			s.without(other)
			return want
		}, "", 1},
		{"side by side in index.json, with one name", func(s set) v1.Descriptor {
			want, other := s.image(t, "one", amd64), s.image(t, "two", i386)
			s.top(as(on(other, i386), "a:1"), as(on(want, amd64), "a:1"))
			return want
		}, "", 0},
		{"the platform is in the config only", func(s set) v1.Descriptor {
			want, other := s.image(t, "one", amd64), s.image(t, "two", arm64)
			s.top(as(s.index(other, want), "a:1"))
			return want
		}, "", 1},
		{"32 bits, for want of 64", func(s set) v1.Descriptor {
			want := s.image(t, "one", i386)
			s.top(as(s.index(on(want, i386), on(s.image(t, "two", arm64), arm64)), "a:1"))
			return want
		}, "", 1},
		{"an attestation", func(s set) v1.Descriptor {
			want := s.image(t, "one", amd64)
			s.top(as(s.index(on(s.image(t, "two", nobody), nobody), on(want, amd64)), "a:1"))
			return want
		}, "", 1},
		{"an index in an index", func(s set) v1.Descriptor {
			want := s.image(t, "one", amd64)
			s.top(as(s.index(s.index(on(want, amd64))), "a:1"))
			return want
		}, "", 2},
		{"another machine's", func(s set) v1.Descriptor {
			s.top(as(s.image(t, "one", arm64), "a:1"))
			return v1.Descriptor{}
		}, "test: docker.io/library/a:1 has no image for linux/amd64, only for linux/arm64", 0},
		{"another machine's, among good ones", func(s set) v1.Descriptor {
			s.top(as(s.image(t, "one", amd64), "a:1"), as(s.image(t, "two", arm64), "b:1"))
			return v1.Descriptor{}
		}, "docker.io/library/b:1 has no image for linux/amd64, only for linux/arm64", 0},
		{"a level that this platform does not have", func(s set) v1.Descriptor {
			s.top(as(s.index(on(s.image(t, "one", amd64v2), amd64v2)), "a:1"))
			return v1.Descriptor{}
		}, "has no image for linux/amd64, only for linux/amd64/v2", 0},
		{"the only one is missing", func(s set) v1.Descriptor {
			img := s.image(t, "one", amd64)
			s.top(as(s.index(on(img, amd64)), "a:1"))
			s.without(img)
			return v1.Descriptor{}
		}, "is incomplete", 0},
		{"two of one name", func(s set) v1.Descriptor {
			s.top(as(s.image(t, "one", amd64), "a:1"), as(s.image(t, "two", amd64), "a:1"))
			return v1.Descriptor{}
		}, "two images for linux/amd64 that are named docker.io/library/a:1", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSet()
			want := tt.make(s)
			a, err := openSet(t, s)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(a.Images) != 1 || len(a.Images[0].Indexes) != tt.indexes {
				t.Fatalf("images %v", a.Images)
			}
			if got, _ := a.Images[0].Digest(); got != want.Digest {
				t.Errorf("got %s, want %s", got, want.Digest)
			}
			if err := a.Verify(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestLevels chooses among the levels of amd64: containerd's choice first, a higher one that the
// CPU has else.
func TestLevels(t *testing.T) {
	if platforms.DefaultSpec().Architecture != "amd64" {
		t.Skip("this machine has none")
	}
	if l := amd64Level(); l < 1 || l > 4 {
		t.Errorf("level %d", l)
	}
	level := func(n int) v1.Platform {
		return v1.Platform{OS: "linux", Architecture: "amd64", Variant: fmt.Sprint("v", n)}
	}
	for _, tt := range []struct {
		cpu  int
		have []v1.Platform
		want int // among them, -1 for none
	}{
		{3, []v1.Platform{level(3), level(2), amd64}, 2},
		{3, []v1.Platform{level(4), level(2), level(3)}, 2},
		{3, []v1.Platform{level(3), i386}, 1}, // as containerd does
		{2, []v1.Platform{level(3)}, -1},
		{1, []v1.Platform{level(2), level(1)}, 1},
		{4, []v1.Platform{arm64}, -1},
	} {
		s := newSet()
		var all []v1.Descriptor
		for i, p := range tt.have {
			all = append(all, on(s.image(t, fmt.Sprint(i), p), p))
		}
		s.top(as(s.index(all...), "a:1"))
		images, err := (&reader{archive: "test", files: memory(s), platform: platformOf(&amd64), matches: machine(tt.cpu)}).images()
		if tt.want < 0 {
			if err == nil || !strings.Contains(err.Error(), "has no image for linux/amd64, only for") {
				t.Errorf("%v: got %v, %v", tt, images, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%v: %v", tt, err)
			continue
		}
		if got, _ := images[0].Digest(); got != all[tt.want].Digest {
			t.Errorf("%v: got %s", tt, got)
		}
	}
}

// TestOtherMachine opens an archive of docker save of old.
func TestOtherMachine(t *testing.T) {
	s := newSet()
	old := oldSave(t, s, s.image(t, "one", arm64), "a:1")
	_, err := Read(context.Background(), "test", bytes.NewReader(old), Options{SpoolDir: t.TempDir(), Platform: &amd64})
	if err == nil || !strings.Contains(err.Error(), "docker.io/library/a:1 has no image for linux/amd64, only for linux/arm64") {
		t.Errorf("got %v", err)
	}
}

// TestContradictions opens archives that say two things of the same.
func TestContradictions(t *testing.T) {
	tests := []struct {
		name string
		make func(s set)
		err  string
	}{
		{"a manifest of another type", func(s set) {
			img := s.image(t, "one", amd64)
			img.MediaType = types.DockerManifestSchema2
			s.top(as(img, "a:1"))
		}, "says that it is of type \"application/vnd.oci.image.manifest.v1+json\", but what refers to it says application/vnd.docker.distribution.manifest.v2+json"},
		{"a manifest that is said to be an index", func(s set) {
			img := s.image(t, "one", amd64)
			img.MediaType = types.OCIImageIndex
			s.top(as(img, "a:1"))
		}, "but what refers to it says application/vnd.oci.image.index"},
		{"an index that is said to be a manifest", func(s set) {
			idx := s.index(on(s.image(t, "one", amd64), amd64))
			idx.MediaType = types.OCIManifestSchema1
			s.top(as(idx, "a:1"))
		}, "but what refers to it says application/vnd.oci.image.manifest"},
		{"an index without a type that is said to be a manifest", func(s set) {
			idx := s.blob(types.OCIManifestSchema1, v1.IndexManifest{SchemaVersion: 2, Manifests: []v1.Descriptor{s.image(t, "one", amd64)}})
			s.top(as(idx, "a:1"))
		}, "is an index, but"},
		{"a manifest without a type that is said to be an index", func(s set) {
			m, _ := v1.ParseManifest(bytes.NewReader(s[ocilayout.Blob(s.image(t, "one", amd64).Digest)]))
			m.MediaType = ""
			s.top(as(s.blob(types.OCIImageIndex, m), "a:1"))
		}, "is the manifest of an image, but"},
		{"a manifest of another size", func(s set) {
			img := s.image(t, "one", amd64)
			img.Size++
			s.top(as(img, "a:1"))
		}, "bytes, but what refers to it says"},
		{"index.json", func(s set) {
			s.top(as(s.image(t, "one", amd64), "a:1"))
			s["index.json"] = bytes.Replace(s["index.json"], []byte(`{`), []byte(`{"mediaType":"application/vnd.oci.image.manifest.v1+json",`), 1)
		}, "index.json says that it is of type"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSet()
			tt.make(s)
			if a, err := openSet(t, s); err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got %v, %v, want %q", a, err, tt.err)
			}
		})
	}
}

// TestDigestInName opens archives whose names have digests.
func TestDigestInName(t *testing.T) {
	s := newSet()
	img := s.image(t, "one", amd64)
	idx := s.index(on(img, amd64))
	other := "sha256:" + strings.Repeat("a", 64)
	for name, good := range map[string]bool{
		"a@" + idx.Digest.String():                      true,
		"a@" + img.Digest.String():                      true,
		"example.org/a:1@" + idx.Digest.String():        true,
		"example.org/a:1@" + other:                      false,
		"a@" + other:                                    false,
		"a@" + blobOf(t, s, img).Config.Digest.String(): false, // an ID is no manifest
	} {
		s.top(as(idx, name))
		a, err := openSet(t, s)
		if !good {
			_, d, _ := strings.Cut(name, "@")
			if err == nil || !strings.Contains(err.Error(), "says "+d+", but the content is "+idx.Digest.String()+" in "+img.Digest.String()) {
				t.Errorf("%s: got %v", name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := fmt.Sprint(a.Images[0].Digests()); got != fmt.Sprint([]v1.Hash{idx.Digest, img.Digest}) {
			t.Errorf("%s: digests %s", name, got)
		}
	}

	// docker save of old: there is no manifest that a digest could be of.
	a, err := load(t, imagetest.Save(t, map[string]v1.Image{"a:1": plain(t, 1)}))
	if err != nil {
		t.Fatal(err)
	}
	if d := a.Images[0].Digests(); !a.Images[0].Made || len(d) > 0 {
		t.Errorf("digests %v", d)
	}
	made, _ := a.Images[0].Digest()
	for _, name := range []string{"a@" + other, "a@" + made.String()} {
		if err := a.Images[0].CheckNames([]string{name}); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	if _, err := load(t, oldSave(t, s, img, "a@"+other)); err == nil || !strings.Contains(err.Error(), "says "+other) {
		t.Errorf("got %v", err)
	}
}

// oldSave returns an archive as docker save of old made it, of an image of a layout.
func oldSave(t testing.TB, s set, img v1.Descriptor, name string) []byte {
	t.Helper()
	m := blobOf(t, s, img)
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	writeFile(t, tw, "layer.tar", s[ocilayout.Blob(m.Layers[0].Digest)])
	writeFile(t, tw, "config.json", s[ocilayout.Blob(m.Config.Digest)])
	writeFile(t, tw, "manifest.json", fmt.Appendf(nil, `[{"Config":"config.json","RepoTags":[%q],"Layers":["layer.tar"]}]`, name))
	tw.Close()
	return buf.Bytes()
}

func blobOf(t testing.TB, s set, desc v1.Descriptor) *v1.Manifest {
	t.Helper()
	m, err := v1.ParseManifest(bytes.NewReader(s[ocilayout.Blob(desc.Digest)]))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestLinks opens layouts with links. None may lead out, and no error may tell what is there.
func TestLinks(t *testing.T) {
	const secret = `{"imageLayoutVersion":"a secret","manifests":"a secret","config":"a secret"}`
	outside := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newSet()
	img := s.image(t, "one", amd64)
	s.top(as(img, "a:1"))
	m := blobOf(t, s, img)
	for _, name := range []string{"oci-layout", "index.json", ocilayout.Blob(img.Digest), ocilayout.Blob(m.Config.Digest), ocilayout.Blob(m.Layers[0].Digest), "blobs/sha256", "blobs"} {
		for what, link := range map[string]func(path string) error{
			"a link":           func(path string) error { return os.Symlink(outside, path) },
			"a relative link":  func(path string) error { return os.Symlink(strings.Repeat("../", 30)+outside[1:], path) },
			"a link to itself": func(path string) error { return os.Symlink(filepath.Base(path), path) },
			"a pipe":           func(path string) error { return unix.Mkfifo(path, 0o600) },
			"a device":         func(path string) error { return unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5))) },
		} {
			dir := s.write(t)
			path := filepath.Join(dir, name)
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
			if err := link(path); err != nil {
				if what == "a device" {
					continue // not root
				}
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() {
				a, err := Open(context.Background(), dir, Options{Platform: &amd64})
				if err == nil {
					a.Close()
				}
				done <- err
			}()
			select {
			case err := <-done:
				if err == nil || strings.Contains(err.Error(), "secret\"") || strings.Contains(err.Error(), "a secret") {
					t.Errorf("%s is %s: %v", name, what, err)
				}
			case <-time.After(10 * time.Second):
				t.Fatalf("%s is %s: it hangs", name, what)
			}
		}
	}

	// A link to a file beside it is as good as the file.
	dir := s.write(t)
	path := filepath.Join(dir, ocilayout.Blob(m.Layers[0].Digest))
	if err := os.Rename(path, filepath.Join(dir, "layer")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../layer", path); err != nil {
		t.Fatal(err)
	}
	a, err := Open(context.Background(), dir, Options{Platform: &amd64})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := a.Verify(context.Background()); err != nil {
		t.Error(err)
	}
}

// memory is a layout in memory.
type memory set

func (m memory) Blob(name string) (*Blob, error) {
	content, ok := m[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return &Blob{Name: name, Size: int64(len(content)), Open: func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content)), nil
	}}, nil
}

func FuzzIndex(f *testing.F) {
	s := newSet()
	one, two := s.image(f, "one", amd64), s.image(f, "two", arm64)
	idx := s.index(on(one, amd64), on(two, arm64))
	for _, top := range [][]v1.Descriptor{
		{as(idx, "a:1")}, {one, two}, {as(one, "a:1"), as(two, "a:1")}, {as(idx, "a@"+idx.Digest.String())},
		{as(idx, "a@sha256:"+strings.Repeat("a", 64))},
	} {
		s.top(top...)
		f.Add(s["index.json"])
	}
	f.Fuzz(func(t *testing.T, index []byte) {
		files := memory(maps.Clone(s))
		files["index.json"] = index
		platform := platformOf(&amd64)
		images, err := (&reader{archive: "fuzz", files: files, platform: platform, matches: platforms.Only(platform)}).images()
		if err != nil {
			return
		}
		a := Archive{Images: images}
		names := map[string]bool{}
		for _, img := range a.Images {
			// Whatever the index says, what was opened is one of the two, under names that are true
			// and its own.
			if d, err := img.Digest(); err != nil || d != one.Digest && d != two.Digest {
				t.Errorf("image %s, %v", d, err)
			}
			if err := img.CheckNames(img.Names); err != nil {
				t.Error(err)
			}
			for _, n := range img.Names {
				if names[n] {
					t.Errorf("two images are named %s", n)
				}
				names[n] = true
			}
		}
		if err := a.Verify(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// TestBounds opens archives that would fill the memory.
func TestBounds(t *testing.T) {
	huge := strings.Repeat(" ", jsonLimit)
	big := newSet()
	big.top(as(big.image(t, "one", amd64), "a:1"))
	big["index.json"] = append(big["index.json"], huge...)
	many := newSet()
	var entries []v1.Descriptor
	for i := range jsonTotal/jsonLimit + 2 {
		entries = append(entries, many.blob(types.OCIImageIndex, []byte(`{"schemaVersion":2,"manifests":[]}`+huge[100+i:])))
	}
	many.top(entries...)
	layers := newSet()
	l := layers.blob(types.OCIUncompressedLayer, make([]byte, 1024))
	config, manifest := v1.ConfigFile{Architecture: "amd64"}, v1.Manifest{SchemaVersion: 2}
	for range layersLimit + 1 {
		config.RootFS.DiffIDs, manifest.Layers = append(config.RootFS.DiffIDs, l.Digest), append(manifest.Layers, l)
	}
	manifest.Config = layers.blob(types.OCIConfigJSON, config)
	layers.top(as(layers.blob(types.OCIManifestSchema1, manifest), "a:1"))
	for want, s := range map[string]set{
		"index.json has":                       big,
		"bytes together":                       many,
		"501 layers, and overlayfs stacks 500": layers,
	} {
		if _, err := openSet(t, s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}

	files := func(n int, name string) []byte {
		var buf bytes.Buffer
		tw := tar.NewWriter(&buf)
		for i := range n {
			writeFile(t, tw, fmt.Sprint(name, i), nil)
		}
		tw.Close()
		return buf.Bytes()
	}
	for want, b := range map[string][]byte{
		"more than 65536 files":        files(entriesLimit+1, "f"),
		"name is longer than 1024 byt": files(1, strings.Repeat("n", nameLimit)),
	} {
		if _, err := load(t, b); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
