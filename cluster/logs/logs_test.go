package logs

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func read(t *testing.T, data []byte) map[string]string {
	t.Helper()
	out := map[string]string{}
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		out[h.Name] = string(content)
	}
}

func TestMain(m *testing.M) {
	spoolDir = os.TempDir() // Bazel's sandbox has a writable one only
	os.Exit(m.Run())
}

func TestArchive(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "pod/c"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "pod/c/0.log"), []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	var inner, outer bytes.Buffer
	node := &archive{tar: tar.NewWriter(&inner)}
	node.commands(context.Background(), "", []command{{"ok.txt", []string{"echo", "fine"}}, {"bad.txt", []string{"sh", "-c", "echo half; exit 3"}}})
	node.tree(dir, "pods")
	if err := node.close(); err != nil {
		t.Fatal(err)
	}
	top := &archive{tar: tar.NewWriter(&outer)}
	whole := func(_ context.Context, w io.Writer) error { _, err := w.Write(inner.Bytes()); return err }
	if err := top.nested(t.Context(), "worker1", time.Minute, whole); err != nil {
		t.Fatal(err)
	}
	gone := func(context.Context, io.Writer) error { return errors.New("gone") }
	if err := top.nested(t.Context(), "worker2", time.Minute, gone); err == nil || err.Error() != "gone" {
		t.Errorf("got %v", err)
	}
	if err := top.close(); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"worker1/ok.txt":           "fine\n",
		"worker1/bad.txt":          "half\n(sh -c echo half; exit 3: exit status 3)\n",
		"worker1/pods/pod/c/0.log": "hello",
	}
	if got := read(t, outer.Bytes()); !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A node that hangs in the middle of a file costs a while, and the archive is whole: what there was
// of the file, and the next node.
func TestNodeHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var outer bytes.Buffer
		top := &archive{tar: tar.NewWriter(&outer)}
		begin := time.Now()
		err := top.nested(t.Context(), "worker1", silenceLimit, func(ctx context.Context, w io.Writer) error {
			inner := tar.NewWriter(w)
			if err := inner.WriteHeader(&tar.Header{Name: "journal.log", Size: 1 << 20, Mode: 0o644}); err != nil {
				return err
			}
			if _, err := io.WriteString(inner, "first lines"); err != nil {
				return err
			}
			<-ctx.Done()
			return ctx.Err()
		})
		if err == nil || !strings.Contains(err.Error(), "nothing came for 20s") {
			t.Errorf("got %v", err)
		}
		if took := time.Since(begin); took != silenceLimit {
			t.Errorf("it took %v", took)
		}
		top.note("worker2/fine.txt", errors.New("fine"))
		if err := top.close(); err != nil {
			t.Fatal(err)
		}
		got := read(t, outer.Bytes())
		if !strings.HasPrefix(got["worker1/journal.log"], "first lines\x00") || got["worker2/fine.txt"] != "fine\n" {
			t.Errorf("got %.60q, %q", got["worker1/journal.log"], got["worker2/fine.txt"])
		}
	})
}

// A reader that takes the archive slowly is no reason to give up a node.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		go func() {
			top := &archive{tar: tar.NewWriter(w)}
			err := top.nested(t.Context(), "worker1", silenceLimit, func(_ context.Context, w io.Writer) error {
				inner := &archive{tar: tar.NewWriter(w)}
				inner.note("a.txt", errors.New("a"))
				return inner.close()
			})
			w.CloseWithError(cmp.Or(err, top.close()))
		}()
		time.Sleep(3 * silenceLimit)
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, data); got["worker1/a.txt"] != "a\n" {
			t.Errorf("got %q", got)
		}
	})
}

// A large file takes no more memory than a small one.
func TestLargeFile(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "0.log"))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(64 << 20); err != nil {
		t.Fatal(err)
	}
	f.Close()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	a := &archive{tar: tar.NewWriter(io.Discard)}
	a.tree(dir, "pods")
	a.commands(t.Context(), "", []command{{"big.txt", []string{"head", "--bytes=64M", "/dev/zero"}}})
	runtime.ReadMemStats(&after)
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 16<<20 {
		t.Errorf("%d bytes for an archive of 128 MiB", used)
	}
}
