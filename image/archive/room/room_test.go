package room

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The loader's tests with a small file system are in tools/loader/containerd.

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		t.Fatal(err)
	}
	free, keep := int64(s.Bavail)*s.Bsize, min(reserve, int64(s.Blocks)*s.Bsize/share)
	if free < 2*keep {
		t.Skipf("%d bytes are free, which says nothing", free)
	}
	g := New(dir)
	if err := g.Check(0); err != nil {
		t.Errorf("got %v", err)
	}
	err := g.Check(free)
	var full *FullError
	if !errors.As(err, &full) || !errors.Is(err, unix.ENOSPC) || full.Reserve != keep || full.Need != free {
		t.Errorf("got %v", err)
	}
	if err := New(filepath.Join(dir, "none")).Check(0); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestReader(t *testing.T) {
	content := strings.Repeat("x", 3*chunk+1)
	got, err := io.ReadAll(New(t.TempDir()).Reader(strings.NewReader(content)))
	if err != nil || string(got) != content {
		t.Errorf("read %d bytes, %v, want %d", len(got), err, len(content))
	}
	if n, err := New(filepath.Join(t.TempDir(), "none")).Reader(strings.NewReader(content)).Read(make([]byte, 10)); n != 0 || err == nil {
		t.Errorf("read %d bytes, %v", n, err)
	}
}

func TestWatch(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gone")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, stop := New(dir).Watch(context.Background())
	defer stop()
	if err := ctx.Err(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ctx.Done():
		if err := context.Cause(ctx); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("got %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("nobody noticed")
	}
}
