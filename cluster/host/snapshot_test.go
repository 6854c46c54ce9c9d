package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/cluster/paths"
	"github.com/dind-cluster/dind-cluster/cluster/snapshot"
	"github.com/dind-cluster/dind-cluster/internal/docker/dockertest"
	"github.com/dind-cluster/dind-cluster/internal/kubeconfig"
)

// newSnapshot makes a snapshot of some files that stand for a cluster.
func newSnapshot(t *testing.T) []byte {
	t.Helper()
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "file"), []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	settings := v1alpha1.Default()
	settings.Nodes = v1alpha1.Workers(1)
	settings.Nodes[0].ExtraPortMappings = []v1alpha1.Port{{ContainerPort: 80, HostPort: 40080}}
	settings.Networking.APIServerPort = 40007
	s := snapshot.Source{Root: root, Hold: func(ctx context.Context) (context.Context, func() error, error) {
		return ctx, func() error { return nil }, nil
	}}
	var out bytes.Buffer
	if _, err := s.Save(t.Context(), snapshot.Manifest{Version: "1", NodeImage: "n", Store: "s", Settings: settings}, &out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// saving returns an image of which a container writes so much of a snapshot, and then ends with a
// status.
func saving(data []byte, status int) dockertest.Image {
	i := image(nil)
	i.Exec = func(_ io.Reader, out, errs io.Writer, args ...string) int {
		switch line := strings.Join(args, " "); line {
		case "kubeconfig":
			io.WriteString(out, printedKubeconfig)
			return 0
		case "rm " + paths.Snapshot:
			return 0
		case "runner snapshot save --image " + tag:
			out.Write(data)
			if status != 0 {
				io.WriteString(errs, "error: there is too little room")
			}
			return status
		default:
			fmt.Fprintf(errs, "unexpected %s", line)
			return 127
		}
	}
	return i
}

func TestSaveSnapshot(t *testing.T) {
	data := newSnapshot(t)
	for name, c := range map[string]struct {
		data   []byte
		status int
		want   string
	}{
		"whole":  {data, 0, ""},
		"broken": {data[:len(data)/2], 1, "too little room"},
	} {
		t.Run(name, func(t *testing.T) {
			l, engine, _ := launcher(t)
			engine.AddImage(saving(c.data, c.status))
			run(t, l, "--name", "box", tag)
			path := filepath.Join(t.TempDir(), "x.snapshot")
			for _, before := range []bool{false, true} {
				old := []byte("old")
				if before {
					if err := os.WriteFile(path, old, 0o644); err != nil {
						t.Fatal(err)
					}
				}
				err := l.SaveSnapshot(t.Context(), "box", path)
				if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
					t.Errorf("got %v, want %q", err, c.want)
				}
				got, err := os.ReadFile(path)
				switch {
				case c.want == "":
					if info, serr := os.Stat(path); err != nil || !bytes.Equal(got, data) || serr != nil || info.Mode() != 0o600 {
						t.Errorf("%d bytes, %v, %v", len(got), info.Mode(), err)
					}
				case before && !bytes.Equal(got, old) || !before && !errors.Is(err, fs.ErrNotExist):
					t.Errorf("%q, %v", got, err)
				}
				if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) > 1 {
					t.Errorf("left behind: %v, %v", left, err)
				}
			}
		})
	}
	l, engine, _ := launcher(t)
	engine.AddImage(image(nil))
	if err := l.SaveSnapshot(t.Context(), "box", filepath.Join(t.TempDir(), "x")); err == nil || !strings.Contains(err.Error(), `there is no cluster "box"`) {
		t.Errorf("no cluster: %v", err)
	}
}

func TestSnapshotImage(t *testing.T) {
	data := newSnapshot(t)
	l, engine, _ := launcher(t)
	engine.AddImage(saving(data, 0))
	run(t, l, "--name", "box", tag)
	if err := l.SaveSnapshotImage(t.Context(), "box", tag); err == nil || !strings.Contains(err.Error(), "choose another name") {
		t.Errorf("the name of its own image: %v", err)
	}
	for range 2 {
		if err := l.SaveSnapshotImage(t.Context(), "box", "kept:1"); err != nil {
			t.Fatal(err)
		}
	}
	if left := engine.Leftovers(); len(left) != 1 {
		t.Errorf("there is %q, want the cluster", left)
	}
	s, err := l.ImageSnapshot(t.Context(), "kept:1")
	if err != nil {
		t.Fatal(err)
	}
	if s.Path != "" || s.Manifest.NodeImage != "n" {
		t.Errorf("got %+v", s)
	}
	if _, err := l.ImageSnapshot(t.Context(), tag); err == nil || !strings.Contains(err.Error(), "has no snapshot in it") {
		t.Errorf("another image: %v", err)
	}
	if left := engine.Leftovers(); len(left) != 1 {
		t.Errorf("there is %q, want the cluster", left)
	}
}

func TestRestore(t *testing.T) {
	data := newSnapshot(t)
	path := filepath.Join(t.TempDir(), "x.snapshot")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := ReadSnapshot(path)
	if err != nil {
		t.Fatal(err)
	}
	request := Request{Image: Present(tag), Name: "box", Snapshot: s, Kubeconfig: kubeconfig.At(filepath.Join(t.TempDir(), "config"))}
	l, engine, _ := launcher(t)
	engine.AddImage(saving(data, 0))
	made, err := l.Create(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	if made.Nodes != 2 || made.APIPort == 40007 {
		t.Errorf("made %+v: want the nodes of the snapshot, and a port of its own", made)
	}
	c := engine.Container("box")
	if got := c.Files[paths.Snapshot]; !bytes.Equal(got.Data, data) || got.Mode.Perm() != 0o600 {
		t.Errorf("the container got %d bytes, %v", len(got.Data), got.Mode)
	}
	for _, e := range c.Config.Env {
		if !strings.HasPrefix(e, "API_PORT=") {
			t.Errorf("it got the setting %s", e)
		}
	}
	if !slices.Contains(c.Flags["publish"], "127.0.0.1:40080:40080/tcp") {
		t.Errorf("published are %q", c.Flags["publish"])
	}
	if !engine.Called("exec " + c.ID + " rm " + paths.Snapshot) {
		t.Error("the copy of the snapshot stays")
	}

	// Beside the first one, which has the port.
	busy, err := net.Listen("tcp", "127.0.0.1:40080")
	if err != nil {
		t.Skip(err)
	}
	defer busy.Close()
	s.FreshKeys, request.Name = true, "other"
	if _, err := l.Create(t.Context(), request); err == nil || !strings.Contains(err.Error(), "40080") {
		t.Errorf("a port that is taken: %v", err)
	}
	s.FreePorts = true
	if _, err := l.Create(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	if c := engine.Container("other"); !slices.Contains(c.Config.Env, "FRESH_KEYS=on") || !slices.Contains(c.Flags["publish"], "127.0.0.1:0:40080/tcp") {
		t.Errorf("fresh keys and free ports: the settings are %q, published are %q", c.Config.Env, c.Flags["publish"])
	}

	s.Manifest.Architecture, request.Name = "vax", "third"
	if _, err := l.Create(t.Context(), request); err == nil || !strings.Contains(err.Error(), "another architecture, vax") {
		t.Errorf("got %v", err)
	}
	if engine.Container("third") != nil {
		t.Error("it was made")
	}
}
