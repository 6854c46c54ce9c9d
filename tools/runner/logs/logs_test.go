package logs

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"testing"
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
	if err := top.nested("worker1", func(w io.Writer) error { _, err := w.Write(inner.Bytes()); return err }); err != nil {
		t.Fatal(err)
	}
	if err := top.nested("worker2", func(io.Writer) error { return errors.New("gone") }); err == nil || err.Error() != "gone" {
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
