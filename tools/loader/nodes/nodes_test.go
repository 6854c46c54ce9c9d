package nodes

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/random"

	"github.com/dind-cluster/dind-cluster/tools/internal/progress"
	"github.com/dind-cluster/dind-cluster/tools/loader/archive"
)

// docker stands in for the docker command: it keeps what a node gets. A node named bad-* fails in its own way.
const docker = `#!/bin/sh
case $1 in
ps) [ "$*" = "ps --filter label=dind-cluster.node --format {{.Names}}" ] && cat DIR/ps ;;
exec)
  shift 2
  node=$1
  shift
  echo "$*" >DIR/$node.args
  case $node in
  bad-early) echo "Error: container is not running" >&2; exit 1 ;;
  bad-late) cat >/dev/null; echo "loader: no space left on device" >&2; exit 1 ;;
  *) cat >DIR/$node.tar ;;
  esac ;;
esac
`

func fakeDocker(t *testing.T, ps string) (dir, path string) {
	t.Helper()
	dir = t.TempDir()
	path = filepath.Join(dir, "docker")
	for name, content := range map[string]string{"docker": strings.ReplaceAll(docker, "DIR", dir), "ps": ps} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir, path
}

func open(t *testing.T, size int64) (*archive.Archive, v1.Image, string) {
	t.Helper()
	img, err := random.Image(size, 3)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "app:1"})); err != nil {
		t.Fatal(err)
	}
	a, err := archive.Open(context.Background(), dir, archive.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a, img, dir
}

func TestLoad(t *testing.T) {
	tests := []struct {
		name, ps string
		nodes    []string
		newErr   string
		loadErrs []string
		get      []string // these nodes get the whole archive
	}{
		{name: "all", ps: "b\na\n", get: []string{"a", "b"}},
		{name: "one", ps: "b\na\n", nodes: []string{"b"}, get: []string{"b"}},
		{name: "none", ps: "", newErr: "no node is running yet"},
		{name: "unknown", ps: "a\n", nodes: []string{"c"}, newErr: `no running node "c"; there are: a`},
		{name: "one fails early", ps: "a\nbad-early\n", loadErrs: []string{"bad-early: exit status 1: Error: container is not running"}, get: []string{"a"}},
		{name: "one fails late", ps: "a\nbad-late\n", loadErrs: []string{"bad-late: exit status 1: loader: no space"}, get: []string{"a"}},
		{name: "all fail", ps: "bad-late\nbad-early\n", loadErrs: []string{"bad-late: ", "bad-early: "}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir, path := fakeDocker(t, tt.ps)
			var out bytes.Buffer
			ctx := context.Background()
			r, err := New(ctx, Options{Nodes: tt.nodes, Args: []string{"--pin"}, Docker: path, Progress: progress.New(&out)})
			if tt.newErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.newErr) {
					t.Fatalf("got %v, want %q", err, tt.newErr)
				}
				return
			} else if err != nil {
				t.Fatal(err)
			}
			a, img, _ := open(t, 1<<20)
			err = r.Load(ctx, a)
			if (err == nil) != (tt.loadErrs == nil) {
				t.Errorf("got %v, want %q", err, tt.loadErrs)
			}
			for _, want := range tt.loadErrs {
				if !strings.Contains(fmt.Sprint(err), want) {
					t.Errorf("got %v, want %q", err, want)
				}
			}
			for _, node := range tt.get {
				got, err := archive.Open(ctx, filepath.Join(dir, node+".tar"), archive.Options{})
				if err != nil {
					t.Fatal(err)
				}
				defer got.Close()
				if err := got.Verify(ctx); err != nil {
					t.Error(err)
				}
				want, _ := img.Digest()
				if d, _ := got.Images[0].Digest(); d != want || got.Images[0].String() != "docker.io/library/app:1" {
					t.Errorf("%s got %v", node, got.Images)
				}
				if args, _ := os.ReadFile(filepath.Join(dir, node+".args")); strings.TrimSpace(string(args)) != "loader load --node local --pin -" {
					t.Errorf("%s was called with %s", node, args)
				}
			}
		})
	}
}

// TestDamaged checks that no node gets an archive that it could take for complete.
func TestDamaged(t *testing.T) {
	dir, path := fakeDocker(t, "a\nb\n")
	ctx := context.Background()
	r, err := New(ctx, Options{Docker: path})
	if err != nil {
		t.Fatal(err)
	}
	a, img, layout := open(t, 1<<20)
	layers, _ := img.Layers()
	digest, _ := layers[1].Digest()
	blob := filepath.Join(layout, "blobs/sha256", digest.Hex)
	content, err := os.ReadFile(blob)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/2] ^= 1
	if err := os.WriteFile(blob, content, 0o644); err != nil {
		t.Fatal(err)
	}
	err = r.Load(ctx, a)
	if err == nil || !strings.Contains(err.Error(), digest.String()) || strings.Contains(err.Error(), "exit status") {
		t.Errorf("got %v", err)
	}
	for _, node := range []string{"a", "b"} {
		if got, err := archive.Open(ctx, filepath.Join(dir, node+".tar"), archive.Options{}); err == nil {
			got.Close()
			t.Errorf("%s got an archive with %v", node, got.Images)
		}
	}
}
