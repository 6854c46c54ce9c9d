package nodes

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/random"

	"github.com/dind-cluster/dind-cluster/image/archive"
	"github.com/dind-cluster/dind-cluster/internal/progress"
)

// The two commands that nodes are reached with, as far as we need them. A container's process has
// its name as its ID.
const (
	dockerScript = `#!/bin/sh
case $1 in
ps) [ "$*" = "ps --all --no-trunc --format {{json .}} --filter label=dind-cluster.node --filter status=running" ] && cat DIR/ps ;;
container) for last; do :; done
  if [ "$last" = gone ]; then echo 0; elif [ -e DIR/$last.pid ]; then cat DIR/$last.pid; else echo "$last"; fi ;;
esac
`
	// It runs a command in the process that --target names, with the node's own loader first on the
	// PATH. A node named bad-* fails in its own way.
	nsenter = `#!/bin/sh
case $2 in
bad-silent) exit 3 ;;
bad-slow) exec sleep 60 ;;
bad*)
  echo "[   0.1s] + some other image (10 ms)" >&2
  printf 'loader: no space left on device\nfor layer x\n' >&2
  exit 1 ;;
esac
export NODE=$2 PATH=DIR:$PATH
while [ "$1" != -- ]; do shift; done
shift
exec "$@"
`
	// A node's loader keeps what it gets, a file or a directory's index, and the names for the
	// archive and the image.
	nodeLoader = `#!/bin/sh
while [ $# -gt 1 ]; do
  case $1 in --call | --name | --node) printf '%s=%s ' "$1" "$2" >>DIR/$NODE.names ;; esac
  shift
done
if [ -d "$1" ]; then cat "$1/index.json"; else cat "$1"; fi >DIR/$NODE.got
`
)

// fake makes the two commands, for running nodes.
func fake(t *testing.T, running ...string) (dir string, o Options) {
	t.Helper()
	dir = t.TempDir()
	var list strings.Builder
	for _, name := range running {
		fmt.Fprintf(&list, "{\"ID\":%[1]q,\"Names\":%[1]q}\n", name)
	}
	for name, content := range map[string]string{"docker": dockerScript, "nsenter": nsenter, "loader": nodeLoader, "ps": list.String()} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.ReplaceAll(content, "DIR", dir)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir, Options{Docker: filepath.Join(dir, "docker"), Nsenter: filepath.Join(dir, "nsenter")}
}

// layoutDir is an OCI layout with an image.
func layoutDir(t *testing.T) string {
	t.Helper()
	img, err := random.Image(10_000, 3)
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
	return dir
}

func open(t *testing.T, path string) *archive.Archive {
	t.Helper()
	a, err := archive.Open(context.Background(), path, archive.Options{SpoolDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

func TestLoad(t *testing.T) {
	const full = "no space left on device\nfor layer x"
	tests := []struct {
		name    string
		running []string
		nodes   []string
		newErr  string
		loadErr string
		get     []string // these nodes get the archive
	}{
		{name: "all", running: []string{"b", "a"}, get: []string{"a", "b"}},
		{name: "one", running: []string{"b", "a"}, nodes: []string{"b"}, get: []string{"b"}},
		{name: "none", newErr: "no node is running yet"},
		{name: "unknown", running: []string{"a"}, nodes: []string{"c"}, newErr: `no running node "c"; there are: a`},
		{name: "just stopped", running: []string{"gone", "a"}, loadErr: "gone: the node has stopped", get: []string{"a"}},
		{name: "one fails", running: []string{"a", "bad1"}, loadErr: "bad1: " + full, get: []string{"a"}},
		{name: "two fail alike", running: []string{"a", "bad1", "bad2"}, loadErr: "bad1, bad2: " + full, get: []string{"a"}},
		{name: "two fail differently", running: []string{"bad1", "bad-silent"}, loadErr: "bad-silent: running the node's loader: exit status 3\nbad1: " + full},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir, o := fake(t, tt.running...)
			var out bytes.Buffer
			ctx := context.Background()
			o.Nodes, o.Args, o.Progress = tt.nodes, []string{"--name", "app:2"}, progress.New(&out)
			r, err := New(ctx, o)
			if tt.newErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.newErr) {
					t.Fatalf("got %v, want %q", err, tt.newErr)
				}
				return
			} else if err != nil {
				t.Fatal(err)
			}
			a := open(t, layoutDir(t))
			if err := r.Load(ctx, a); (err == nil) != (tt.loadErr == "") || err != nil && err.Error() != tt.loadErr {
				t.Errorf("got %v, want %q", err, tt.loadErr)
			}
			want, err := os.ReadFile(filepath.Join(a.Name, "index.json"))
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range tt.get {
				if got, err := os.ReadFile(filepath.Join(dir, n+".got")); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s got %q, %v", n, got, err)
				}
				if !strings.Contains(out.String(), n+": "+a.Name+": docker.io/library/app:1") {
					t.Errorf("no progress of %s:\n%s", n, out.String())
				}
				names, _ := os.ReadFile(filepath.Join(dir, n+".names"))
				for _, want := range []string{"--node=local ", "--call=" + a.Name + " ", "--name=app:2 "} {
					if !strings.Contains(string(names), want) {
						t.Errorf("%s got %s, want %s", n, names, want)
					}
				}
			}
		})
	}
}

// TestSpool hands over an archive that has no name.
func TestSpool(t *testing.T) {
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	if err := errors.Join(tw.AddFS(os.DirFS(layoutDir(t))), tw.Close()); err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	a, err := archive.Read(ctx, "standard input", &buf, archive.Options{SpoolDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	dir, o := fake(t, "a", "b")
	r, err := New(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the position in the file is shared, and must not matter
		if err := r.Load(ctx, a); err != nil {
			t.Fatal(err)
		}
	}
	want, _ := a.Images[0].Digest()
	for _, n := range []string{"a", "b"} {
		var got v1.Hash
		got, err := open(t, filepath.Join(dir, n+".got")).Images[0].Digest()
		if err != nil || got != want {
			t.Errorf("%s got %s, want %s", n, got, want)
		}
	}
}

// TestRestartedNode loads into a node that has been restarted since the loader began: its process
// is another one.
func TestRestartedNode(t *testing.T) {
	dir, o := fake(t, "a")
	r, err := New(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a.pid"), []byte("4711\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := r.Load(context.Background(), open(t, layoutDir(t))); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "4711.got")); err != nil {
		t.Errorf("the node's process of before was entered: %v", err)
	}
}

func TestCancel(t *testing.T) {
	_, o := fake(t, "bad-slow")
	ctx, cancel := context.WithCancelCause(context.Background())
	r, err := New(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	cause := errors.New("the user's signal")
	time.AfterFunc(100*time.Millisecond, func() { cancel(cause) })
	start := time.Now()
	if err := r.Load(ctx, open(t, layoutDir(t))); !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("stopped after %s", d)
	}
}
