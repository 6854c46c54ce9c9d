package console

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// output is a buffer that another goroutine may look at.
type output struct {
	mu   sync.Mutex
	data bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.data.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.data.String()
}

func pipe(t *testing.T) (path string, file *os.File) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "console")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return path, file
}

// When the container ends, systemd asks every process to and waits for it. The console goes at
// once, but not before it has passed on what was written.
func TestCopyEnds(t *testing.T) {
	path, file := pipe(t)
	ctx, cancel := context.WithCancel(t.Context())
	var out output
	done := make(chan error, 1)
	go func() { done <- copyUntil(ctx, &out, file) }()

	writer, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(writer, "first")
	writer.Close()
	for end := time.Now().Add(10 * time.Second); out.String() != "first\n"; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("got %q", out.String())
		}
	}
	select {
	case err := <-done:
		t.Fatalf("it ended with its writer: %v", err)
	default:
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it does not end")
	}
}

func TestCopyLeavesNothing(t *testing.T) {
	path, file := pipe(t)
	writer, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	want := strings.Repeat("a line of the cluster's progress\n", 1500)
	if _, err := writer.WriteString(want); err != nil {
		t.Fatal(err)
	}
	// It is asked to end before it has begun.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out output
	if err := copyUntil(ctx, &out, file); err != nil || out.String() != want {
		t.Errorf("got %d bytes of %d, %v", len(out.String()), len(want), err)
	}
}

func TestCopyToNobody(t *testing.T) {
	path, file := pipe(t)
	writer, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	fmt.Fprintln(writer, "text")
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	if err := copyUntil(t.Context(), full, file); err == nil {
		t.Error("no error")
	}
}
