// Package spool keeps the unpacked content of packages in one temporary file,
// so that memory stays small whatever the size of a layer.
package spool

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/dind-cluster/dind-cluster/image/tree"
)

// Spool is a temporary file for the content of many files. It may be written
// to from several goroutines.
type Spool struct {
	file *os.File
	mu   sync.Mutex
	size int64
}

// New makes a spool whose file vanishes with the process.
func New() (*Spool, error) {
	f, err := os.CreateTemp("", "imager-spool-")
	if err != nil {
		return nil, fmt.Errorf("making a temporary file: %w", err)
	}
	// Without a name nothing is left behind, however the process ends.
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, fmt.Errorf("making a temporary file: %w", err)
	}
	return &Spool{file: f}, nil
}

// Close gives the space back.
func (s *Spool) Close() error { return s.file.Close() }

// Put stores size bytes of r and returns their check sum and how to read them
// again.
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
