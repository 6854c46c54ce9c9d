package load

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/dind-cluster/dind-cluster/image/archive"
)

// fake is a Runtime that remembers names.
type fake struct {
	mu    sync.Mutex
	names []string
}

func (f *fake) Load(ctx context.Context, a *archive.Archive) error {
	if err := a.Verify(ctx); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, img := range a.Images {
		f.names = append(f.names, img.Names...)
	}
	slices.Sort(f.names)
	return nil
}

func (f *fake) Close() error { return nil }

func (f *fake) connect(context.Context) (Runtime, error) { return f, nil }

func image(t *testing.T) v1.Image {
	t.Helper()
	img, err := random.Image(1000, 2)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func save(t *testing.T, path string, tags ...string) {
	t.Helper()
	images := map[name.Tag]v1.Image{}
	for _, n := range tags {
		tag, err := name.NewTag(n)
		if err != nil {
			t.Fatal(err)
		}
		images[tag] = image(t)
	}
	if err := tarball.MultiWriteToFile(path, images); err != nil {
		t.Fatal(err)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	in := func(n string) string { return filepath.Join(dir, n) }
	for _, d := range []string{"many", "none", "layout", "linked"} {
		if err := os.Mkdir(in(d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	save(t, in("one.tar"), "k8s.io/one:1")
	save(t, in("two.tar"), "k8s.io/two:1", "k8s.io/three:1")
	save(t, in("many/a.tar"), "k8s.io/a:1")
	save(t, in("many/b.tar"), "k8s.io/b:1")
	for _, n := range []string{"many/README", "bad.tar"} {
		if err := os.WriteFile(in(n), []byte("no archive"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	inLayout := image(t)
	if p, err := layout.Write(in("layout"), empty.Index); err != nil {
		t.Fatal(err)
	} else if err := p.AppendImage(inLayout); err != nil {
		t.Fatal(err)
	}
	digest, err := inLayout.Digest()
	if err != nil {
		t.Fatal(err)
	}
	other := "sha256:" + strings.Repeat("a", 64)
	if err := os.Symlink("/none", in("linked/oci-layout")); err != nil {
		t.Fatal(err)
	}
	one, err := os.ReadFile(in("one.tar"))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name    string
		sources []string
		as      string
		stdin   io.Reader
		want    string
		errs    []string
	}{
		{name: "file", sources: []string{in("one.tar")}, want: "k8s.io/one:1"},
		{name: "two files", sources: []string{in("one.tar"), in("two.tar")}, want: "k8s.io/one:1 k8s.io/three:1 k8s.io/two:1"},
		{name: "directory", sources: []string{in("many")}, want: "k8s.io/a:1 k8s.io/b:1"},
		{name: "stdin", sources: []string{"-"}, stdin: bytes.NewReader(one), want: "k8s.io/one:1"},
		{name: "empty stdin", sources: []string{"-"}, stdin: strings.NewReader(""), errs: []string{"standard input is empty", "with -i"}},
		{name: "stdin twice", sources: []string{"-", "-"}, errs: []string{"only once"}},
		{name: "a bad one and a good one", sources: []string{in("bad.tar"), in("one.tar")}, want: "k8s.io/one:1", errs: []string{"bad.tar"}},
		{name: "two bad ones", sources: []string{in("bad.tar"), in("many/README")}, errs: []string{"bad.tar", "README"}},
		{name: "missing", sources: []string{in("gone.tar")}, errs: []string{"gone.tar: no such file"}},
		{name: "empty directory", sources: []string{in("none")}, errs: []string{"neither an OCI layout"}},
		{name: "layout with a name", sources: []string{in("layout")}, as: "app", want: "docker.io/library/app:latest"},
		{name: "another name", sources: []string{in("one.tar")}, as: "k8s.io/uno:1", want: "k8s.io/uno:1"},
		{name: "one name for two images", sources: []string{in("two.tar")}, as: "app", errs: []string{"has 2 images"}},
		{name: "one name for two files", sources: []string{in("many")}, as: "app", errs: []string{"one name"}},
		{name: "another name with a digest", sources: []string{in("layout")}, as: "app:1@" + digest.String(), want: "docker.io/library/app@" + digest.String()},
		{name: "another name with another digest", sources: []string{in("layout")}, as: "app@" + other, errs: []string{"says " + other + ", but the content is " + digest.String()}},
		{name: "a digest of what has none", sources: []string{in("one.tar")}, as: "app@" + other, errs: []string{"no manifest whose digest that could be"}},
		{name: "a link for a layout's marker", sources: []string{in("linked")}, errs: []string{"oci-layout"}},
		{name: "bad name", sources: []string{in("one.tar")}, as: "a//b", errs: []string{`"a//b"`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var rt fake
			err := Load(context.Background(), rt.connect, tt.sources, Options{Name: tt.as, Stdin: tt.stdin, Archive: archive.Options{SpoolDir: t.TempDir()}})
			if (err == nil) != (tt.errs == nil) {
				t.Errorf("got %v, want %q", err, tt.errs)
			}
			for _, want := range tt.errs {
				if err != nil && !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %q", err, want)
				}
			}
			if got := strings.Join(rt.names, " "); got != tt.want {
				t.Errorf("loaded %q, want %q", got, tt.want)
			}
		})
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	cause := errors.New("the user's signal")
	cancel(cause)
	if err := Load(ctx, new(fake).connect, []string{"-"}, Options{Stdin: bytes.NewReader(one)}); !errors.Is(err, cause) {
		t.Errorf("cancelled: %v", err)
	}
}
