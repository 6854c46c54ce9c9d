// Package spool keeps the content of files in one temporary file, so that layers of any size need
// little memory.
package spool

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/dind-cluster/dind-cluster/image/tree"
)

// Spool is a temporary file for the content of many files. It is safe for concurrent use.
type Spool struct {
	file *os.File
	mu   sync.Mutex
	size int64
}

// New makes a spool whose file is gone with the process.
func New() (*Spool, error) {
	f, err := TempFile(os.TempDir())
	if err != nil {
		return nil, fmt.Errorf("making a temporary file: %w", err)
	}
	return &Spool{file: f}, nil
}

// TempFile makes a file in a directory that is gone with its last descriptor, however the process
// ends.
func TempFile(dir string) (*os.File, error) {
	if fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600); err == nil {
		return os.NewFile(uintptr(fd), dir+"/(spool)"), nil
	}
	f, err := os.CreateTemp(dir, "dind-cluster-spool-") // for file systems without O_TMPFILE
	if err != nil {
		return nil, err
	}
	return f, os.Remove(f.Name())
}

// Close frees the disk space.
func (s *Spool) Close() error { return s.file.Close() }

// Put stores size bytes of r and returns their SHA-256 in hexadecimal and how to read them again.
func (s *Spool) Put(r io.Reader, size int64) (string, tree.Content, error) {
	s.mu.Lock()
	start := s.size
	s.size += size
	s.mu.Unlock()
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(io.NewOffsetWriter(s.file, start), sum), io.LimitReader(r, size))
	if err == nil && n < size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return "", nil, err
	}
	content := func() (io.ReadCloser, error) {
		return io.NopCloser(io.NewSectionReader(s.file, start, size)), nil
	}
	return hex.EncodeToString(sum.Sum(nil)), content, nil
}
