package docker

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/dind-cluster/dind-cluster/image/archive"
	"github.com/dind-cluster/dind-cluster/internal/progress"
)

// layoutDir is an OCI layout of an image with uncompressed layers, as the cluster's image has one, and one compressed layer.
func layoutDir(t *testing.T, name string) string {
	t.Helper()
	var layers []v1.Layer
	for i := range 3 {
		var buf bytes.Buffer
		tw := tar.NewWriter(&buf)
		content := make([]byte, 100_000)
		rand.Read(content)
		tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("file%d", i), Size: int64(len(content)), Mode: 0o644})
		tw.Write(content)
		tw.Close()
		layers = append(layers, static.NewLayer(buf.Bytes(), types.OCIUncompressedLayer))
	}
	packed, err := random.Layer(10_000, types.OCILayer)
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(mutate.MediaType(empty.Image, types.OCIManifestSchema1), append(layers, packed)...)
	if err != nil {
		t.Fatal(err)
	}
	cf, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cf = cf.DeepCopy()
	cf.OS, cf.Architecture = "linux", "amd64"
	if img, err = mutate.ConfigFile(img, cf); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": name})); err != nil {
		t.Fatal(err)
	}
	return dir
}

func open(t *testing.T, dir string) *archive.Archive {
	t.Helper()
	a, err := archive.Open(context.Background(), dir, archive.Options{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

// tamper changes a byte in the largest blob of a layout.
func tamper(t *testing.T, dir string) {
	t.Helper()
	paths, _ := filepath.Glob(filepath.Join(dir, "blobs/sha256/*"))
	var largest string
	var size int64
	for _, p := range paths {
		if info, err := os.Stat(p); err == nil && info.Size() > size {
			largest, size = p, info.Size()
		}
	}
	content, err := os.ReadFile(largest)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/2] ^= 1
	if err := os.WriteFile(largest, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

// engine is a Docker engine as far as the loader sees one.
type engine struct {
	images map[string]string // by name and ID, the ID
	tagged []string
	loads  [][]byte
	answer string // to a load
	info   string
	status int
	early  bool // answers before it has read the archive
}

func (e *engine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/_ping":
	case r.URL.Path == "/info":
		io.WriteString(w, e.info)
	case strings.HasSuffix(r.URL.Path, "/json"):
		id, ok := e.images[strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, "/images/"), "/json")]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			io.WriteString(w, `{"message":"No such image"}`)
			return
		}
		json.NewEncoder(w).Encode(map[string]string{"Id": id})
	case strings.HasSuffix(r.URL.Path, "/tag"):
		e.tagged = append(e.tagged, r.URL.Query().Get("repo")+":"+r.URL.Query().Get("tag"))
		w.WriteHeader(http.StatusCreated)
	case r.URL.Path == "/images/load":
		var body []byte
		if !e.early {
			var err error
			if body, err = io.ReadAll(r.Body); err != nil {
				return // the loader broke off
			}
		}
		e.loads = append(e.loads, body)
		w.Header().Set("Content-Type", "application/json")
		if e.status != 0 {
			w.WriteHeader(e.status)
		}
		io.WriteString(w, e.answer)
	default:
		http.NotFound(w, r)
	}
}

func (e *engine) start(t *testing.T) Options {
	t.Helper()
	dir, err := os.MkdirTemp("", "engine")
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "d.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: e}
	go s.Serve(l)
	t.Cleanup(func() { s.Close(); os.RemoveAll(dir) })
	return Options{Socket: socket, Wait: time.Second}
}

func TestLoad(t *testing.T) {
	const loaded = `{"stream":"Loaded image: x\n"}`
	tests := []struct {
		name   string
		engine engine
		tamper bool
		has    string // "image": the engine has the image, "all": its name too
		want   string // in the error
		loads  int
		tagged int
	}{
		{name: "new", engine: engine{answer: loaded}, loads: 1},
		{name: "there", has: "all"},
		{name: "there without its name", has: "image", tagged: 1},
		{name: "error in the stream", engine: engine{answer: `{"stream":"x"}{"errorDetail":{"message":"no space left on device"},"error":"no space"}`}, want: "no space left on device", loads: 1},
		{name: "error status", engine: engine{status: 500, answer: `{"message":"the engine is ill"}`}, want: "the engine is ill", loads: 1},
		{name: "error without JSON", engine: engine{status: 502, answer: `bad gateway`}, want: "502 Bad Gateway bad gateway", loads: 1},
		{name: "error before the end", engine: engine{early: true, status: 500, answer: `{"message":"refused"}`}, loads: 1, want: "loading"},
		{name: "broken answer", engine: engine{answer: `{"stream":`}, want: "reading Docker's answer", loads: 1},
		{name: "damaged", tamper: true, engine: engine{answer: loaded}, want: "is damaged: its digest is sha256:"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := layoutDir(t, "dind-node:v1")
			a := open(t, dir)
			if tt.tamper {
				tamper(t, dir)
			}
			id, _ := a.Images[0].ConfigName()
			if tt.has != "" {
				tt.engine.images = map[string]string{id.String(): id.String()}
			}
			if tt.has == "all" {
				tt.engine.images[a.Images[0].Names[0]] = id.String()
			}
			r, err := New(context.Background(), tt.engine.start(t))
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			err = r.Load(context.Background(), a)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			if err != nil && !strings.Contains(err.Error(), dir) {
				t.Errorf("the error does not name the archive: %v", err)
			}
			if len(tt.engine.loads) != tt.loads || len(tt.engine.tagged) != tt.tagged {
				t.Errorf("%d loads, tagged %v", len(tt.engine.loads), tt.engine.tagged)
			}
			var digest *archive.DigestError
			if tt.tamper && !errors.As(err, &digest) {
				t.Errorf("not a DigestError: %v", err)
			}
		})
	}
}

func TestSnapshotter(t *testing.T) {
	for info, want := range map[string]string{
		`{"Driver":"overlay2","DriverStatus":[["Backing Filesystem","extfs"],["Supports d_type","true"]]}`: "",
		`{"Driver":"overlayfs","DriverStatus":[["driver-type","io.containerd.snapshotter.v1"]]}`:           "overlayfs",
	} {
		e := engine{info: info}
		r, err := New(context.Background(), e.start(t))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := r.Snapshotter(context.Background()); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", info, got, err, want)
		}
	}
}

func TestNoEngine(t *testing.T) {
	_, err := New(context.Background(), Options{Socket: filepath.Join(t.TempDir(), "none"), Wait: time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), "no Docker engine answers at") {
		t.Errorf("got %v", err)
	}
}

// TestEngine loads into the Docker engine of this machine, if there is one.
func TestEngine(t *testing.T) {
	if _, err := net.Dial("unix", DefaultSocket); err != nil {
		t.Skip("no Docker engine here:", err)
	}
	ctx := context.Background()
	var out bytes.Buffer
	r, err := New(ctx, Options{Wait: 5 * time.Second, Progress: progress.New(&out)})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	name := fmt.Sprintf("docker.io/library/loader-test-%d:1", time.Now().UnixNano())
	id := func(name string) string {
		t.Helper()
		id, err := r.imageID(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	t.Cleanup(func() {
		for _, n := range []string{name, name + "-too"} {
			r.call(ctx, http.MethodDelete, "/images/"+n, nil, nil)
		}
		if id(name) != "" || id(name+"-too") != "" {
			t.Error("the test's images are still there")
		}
	})

	dir := layoutDir(t, name)
	damaged := open(t, dir)
	tamper(t, dir)
	var digest *archive.DigestError
	if err := r.Load(ctx, damaged); !errors.As(err, &digest) {
		t.Errorf("a damaged image: %v", err)
	}
	if got := id(name); got != "" {
		t.Fatalf("the damaged image was loaded: %s", got)
	}

	a := open(t, layoutDir(t, name))
	if err := r.Load(ctx, a); err != nil {
		t.Fatal(err)
	}
	config, _ := a.Images[0].ConfigName()
	manifest, _ := a.Images[0].Digest()
	if got := id(name); got != config.String() && got != manifest.String() {
		t.Errorf("the engine has %s, want %s or %s", got, config, manifest)
	}
	a.Images[0].Names = append(a.Images[0].Names, name+"-too")
	out.Reset()
	if err := r.Load(ctx, a); err != nil || !strings.Contains(out.String(), "already there") {
		t.Errorf("%v, %s", err, out.String())
	}
	if id(name+"-too") != id(name) {
		t.Error("the second name was not given")
	}
}
