// Package compression tells by the first bytes of a stream what it was compressed with, and decompresses it.
package compression

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/mikelolasagasti/xz"
)

// Formats, by the names that OCI's media types and file formats have for them. None stands for what is not compressed.
const (
	None  = ""
	Gzip  = "gzip"
	Zstd  = "zstd"
	XZ    = "xz"
	Bzip2 = "bzip2"
)

var magics = []struct{ format, magic string }{
	{Gzip, "\x1f\x8b"},
	{Zstd, "\x28\xb5\x2f\xfd"},
	{XZ, "\xfd7zXZ\x00"},
	{Bzip2, "BZh"},
}

// HeadSize is how many bytes the longest of the magic numbers has.
const HeadSize = 6

// maxWindow is the largest window that a zstd stream may ask for, and so about how much memory it takes: what layers of ours
// have, and the most that zstd's own tools accept.
const maxWindow = 128 << 20

// Of returns the format of a stream that begins with head.
func Of(head []byte) string {
	for _, m := range magics {
		if bytes.HasPrefix(head, []byte(m.magic)) {
			return m.format
		}
	}
	return None
}

// NewReader decompresses a stream. To close the reader does not close the stream.
func NewReader(format string, r io.Reader) (io.ReadCloser, error) {
	switch format {
	case None:
		return io.NopCloser(r), nil
	case Gzip:
		return gzip.NewReader(r)
	case Zstd:
		// With one decoder there are no goroutines.
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	case XZ:
		z, err := xz.NewReader(r, 0)
		return io.NopCloser(z), err
	case Bzip2:
		return io.NopCloser(bzip2.NewReader(r)), nil
	}
	return nil, fmt.Errorf("unknown compression %q", format)
}

// Detect decompresses a stream of any format.
func Detect(r *bufio.Reader) (io.ReadCloser, error) {
	head, err := r.Peek(HeadSize)
	if err != nil && err != io.EOF {
		return nil, err
	}
	return NewReader(Of(head), r)
}

// Open opens a file of any format.
func Open(path string) (io.ReadCloser, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	z, err := Detect(bufio.NewReader(f))
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &file{z, f}, nil
}

type file struct {
	io.ReadCloser
	file *os.File
}

func (f *file) Close() error {
	f.ReadCloser.Close()
	return f.file.Close()
}
