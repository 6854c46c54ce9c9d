package image_test

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/dind-cluster/dind-cluster/image"
	"github.com/dind-cluster/dind-cluster/image/imagetest"
	"github.com/dind-cluster/dind-cluster/image/layer"
	"github.com/dind-cluster/dind-cluster/image/state"
)

func TestBuild(t *testing.T) {
	base := imagetest.New(t, imagetest.Spec{
		Name: "base:1", Layers: []string{"one", "two"},
		Config: image.Config{
			Entrypoint: []string{"/init"}, Cmd: []string{"--flag"}, StopSignal: "SIGRTMIN+3", Volumes: []string{"/a"},
			Env: map[string]string{"PATH": "/bin", "container": "docker"}, Labels: map[string]string{"x": "1"},
		},
	})
	files := imagetest.New(t, imagetest.Spec{
		Name: "upper:1", Base: base, Layers: []string{"three"},
		Config: image.Config{
			Entrypoint: []string{"/run", "<it>"}, Env: map[string]string{"PATH": "/sbin", "B": "2"}, Labels: map[string]string{"y": "2"},
			Volumes: []string{"/b"}, ExposedPorts: []string{"6443", "53/udp"}, WorkingDir: "/w", User: "1",
			Healthcheck: &image.Healthcheck{Command: []string{"/check"}, Interval: "5s", StartInterval: "500ms", StartPeriod: "1m", Timeout: "2s", Retries: 3},
		},
	})
	img := open(t, files)
	if err := imagetest.Validate(img); err != nil {
		t.Error(err)
	}
	cf, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(cf.Config)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"Healthcheck":{"Test":["CMD","/check"],"Interval":5000000000,"Timeout":2000000000,"StartPeriod":60000000000,"Retries":3},` +
		`"Entrypoint":["/run","\u003cit\u003e"],"Env":["PATH=/sbin","container=docker","B=2"],"Labels":{"x":"1","y":"2"},"User":"1",` +
		`"Volumes":{"/a":{},"/b":{}},"WorkingDir":"/w","ExposedPorts":{"53/udp":{},"6443/tcp":{}},"StopSignal":"SIGRTMIN+3"}`
	if string(got) != want {
		t.Errorf("config %s\nwant   %s", got, want)
	}
	raw, err := img.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(raw, []byte(`"StartInterval":500000000`)) || !bytes.Contains(raw, []byte("<it>")) {
		t.Errorf("raw config %s", raw)
	}
	if len(cf.RootFS.DiffIDs) != 3 || len(cf.History) != 3 || cf.History[2].CreatedBy != "three" || cf.Created.Unix() != 0 {
		t.Errorf("config file %+v", cf)
	}

	again := open(t, imagetest.New(t, imagetest.Spec{Name: "base:1", Layers: []string{"one", "two"}, Config: image.Config{Entrypoint: []string{"/init"}}}))
	other := open(t, imagetest.New(t, imagetest.Spec{Name: "other:1", Layers: []string{"one", "two"}, Config: image.Config{Entrypoint: []string{"/init"}}}))
	if digest(t, again) != digest(t, other) {
		t.Error("the same image has two digests")
	}
}

// TestAnnotations looks at what manifests say.
func TestAnnotations(t *testing.T) {
	below := state.New()
	below.Packages = map[string]string{"zlib1g": "1:1.3", "bash": "5.2-2+b10"}
	file := filepath.Join(t.TempDir(), "state")
	if err := below.Write(file); err != nil {
		t.Fatal(err)
	}
	base := imagetest.New(t, imagetest.Spec{Name: "base:1", Layers: []string{"one"}, Annotations: map[string]string{"x": "1"}})
	upper := imagetest.New(t, imagetest.Spec{Name: "upper:1", Base: base, Layers: []string{"two"}, Annotations: map[string]string{"y": "<2>"}, State: file})
	for _, c := range []struct {
		files *image.Files
		want  map[string]string
	}{
		{base, map[string]string{"x": "1"}},
		{upper, map[string]string{
			"y": "<2>", image.BaseName: "base:1", image.BaseDigest: digest(t, open(t, base)).String(), image.Packages: "bash=5.2-2+b10 zlib1g=1:1.3",
		}},
	} {
		img := open(t, c.files)
		m, err := img.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(m.Annotations, c.want) {
			t.Errorf("%s has annotations %q, want %q", c.files.Name, m.Annotations, c.want)
		}
		// Annotations are OCI's; a manifest of Docker's has none.
		media, err := img.MediaType()
		if err != nil || media != types.OCIManifestSchema1 || m.MediaType != media || m.Config.MediaType != types.OCIConfigJSON {
			t.Errorf("%s is %s with manifest %s and config %s, %v", c.files.Name, media, m.MediaType, m.Config.MediaType, err)
		}
		for _, l := range m.Layers {
			if l.MediaType != types.OCILayerZStd {
				t.Errorf("%s has a layer of the type %s", c.files.Name, l.MediaType)
			}
		}
	}
}

func TestBuildErrors(t *testing.T) {
	for name, c := range map[string]struct {
		spec image.Spec
		want string
	}{
		"bad duration": {image.Spec{Config: image.Config{Healthcheck: &image.Healthcheck{Interval: "5"}}}, "health check"},
		"no layer":     {image.Spec{Layers: []image.LayerFiles{{Metadata: "/nonexistent"}}}, "reading layer metadata"},
		"no state":     {image.Spec{State: "/nonexistent"}, "/nonexistent"},
		"no base":      {image.Spec{Base: &image.Files{Config: "/nonexistent"}}, "reading base image"},
	} {
		_, _, err := image.Build(&c.spec)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, c.want)
		}
	}
}

func TestArchive(t *testing.T) {
	img := open(t, imagetest.New(t, imagetest.Spec{Name: "a:1", Layers: []string{"one", "two", "one"}}))
	var b bytes.Buffer
	if err := image.WriteArchive(&b, img, "name:tag", 0); err != nil {
		t.Fatal(err)
	}
	read, err := tarball.Image(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil }, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := imagetest.Validate(read); err != nil {
		t.Error(err)
	}
	want, _ := img.ConfigName()
	if got, err := read.ConfigName(); err != nil || got != want {
		t.Errorf("the archive's image is %s (%v), want %s", got, err, want)
	}
	manifest, err := tarball.LoadManifest(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil || !slices.Equal(manifest[0].RepoTags, []string{"name:tag"}) {
		t.Errorf("manifest %+v, %v", manifest, err)
	}
}

// TestArchiveIsLayout: an engine that keeps its images in containerd has the image under its true
// digest, with zstd's layers.
func TestArchiveIsLayout(t *testing.T) {
	img := open(t, imagetest.New(t, imagetest.Spec{Name: "a:1", Layers: []string{"one", "two"}}))
	archive, err := os.Create(filepath.Join(t.TempDir(), "a.tar"))
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	if err := image.WriteArchive(archive, img, "a:1", 0); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if out, err := exec.Command("tar", "--extract", "--file", archive.Name(), "--directory", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	m, err := index.IndexManifest()
	if err != nil || len(m.Manifests) != 1 || m.Manifests[0].Digest != digest(t, img) || m.Manifests[0].Annotations["io.containerd.image.name"] != "docker.io/library/a:1" {
		t.Fatalf("index %+v, %v", m, err)
	}
	read, err := index.Image(m.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := imagetest.Validate(read); err != nil {
		t.Error(err)
	}
	layers, err := read.Layers()
	if err != nil || len(layers) != 2 {
		t.Fatalf("%d layers, %v", len(layers), err)
	}
	for _, l := range layers {
		if media, err := l.MediaType(); err != nil || media != layer.MediaTypeZstd {
			t.Errorf("a layer is %s, %v", media, err)
		}
	}
	if err := image.WriteArchive(io.Discard, img, "Not A Name", 0); err == nil {
		t.Error("an image without a good name was written")
	}
}

func TestLayout(t *testing.T) {
	img := open(t, imagetest.New(t, imagetest.Spec{Name: "a:1", Layers: []string{"one", "two"}}))
	dir := filepath.Join(t.TempDir(), "layout")
	if err := image.WriteLayout(dir, img, "a:1"); err != nil {
		t.Fatal(err)
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := imagetest.ValidateIndex(index); err != nil {
		t.Error(err)
	}
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Manifests) != 1 || m.Manifests[0].Annotations["org.opencontainers.image.ref.name"] != "a:1" {
		t.Errorf("index %+v", m)
	}
}

func TestReadFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "image.json")
	text := `{"name": "a:1", "config": "c", "manifest": "/m", "layers": [{"metadata": "l/m", "blob": "l/b"}]}`
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := image.ReadFiles(path, "/root/of")
	if err != nil {
		t.Fatal(err)
	}
	if f.Config != "/root/of/c" || f.Manifest != "/m" || f.Layers[0].Metadata != "/root/of/l/m" || f.Layers[0].Blob != "/root/of/l/b" {
		t.Errorf("files %+v", f)
	}
	if _, err := image.ReadFiles(path+"x", ""); err == nil {
		t.Error("a missing description is read")
	}
}

func open(t *testing.T, f *image.Files) v1.Image {
	t.Helper()
	img, err := image.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func digest(t *testing.T, img v1.Image) v1.Hash {
	t.Helper()
	d, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d
}
