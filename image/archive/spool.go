package archive

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/dind-cluster/dind-cluster/image/archive/room"
	"github.com/dind-cluster/dind-cluster/image/spool"
	"github.com/dind-cluster/dind-cluster/internal/compression"
)

// measureTime is how long a stream that does not fit is read on, to report how much room it needs.
const measureTime = 5 * time.Second

// decompress reads the formats that engines and containerd read:
// https://github.com/opencontainers/image-spec/blob/v1.1.1/media-types.md has no others.
func decompress(format string, r io.Reader) (io.ReadCloser, error) {
	switch format {
	case compression.Gzip, compression.Zstd:
		return compression.NewReader(format, r)
	}
	return nil, fmt.Errorf("%s compression is not supported; use gzip, zstd or none", format)
}

// spooled keeps a stream, uncompressed, in a temporary file without a name, and opens that.
func spooled(ctx context.Context, name string, r io.Reader, o Options) (*Archive, error) {
	in := bufio.NewReaderSize(r, 1<<20)
	head, err := in.Peek(compression.HeadSize)
	if len(head) == 0 {
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return nil, fmt.Errorf("%s %w", name, ErrEmpty)
	}
	var src io.Reader = in
	format := compression.Of(head)
	if format != compression.None {
		zr, err := decompress(format, in)
		if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
			return nil, &TruncatedError{Archive: name, Where: "its " + format + " header"}
		} else if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		defer zr.Close()
		src = zr
	}
	f, err := spool.TempFile(o.spoolDir())
	if err != nil {
		return nil, fmt.Errorf("spooling %s: %w", name, err)
	}
	source := &errorReader{r: contextReader{ctx, src}}
	size, err := io.CopyBuffer(writerOnly{f}, room.New(o.spoolDir()).Reader(source), make([]byte, 1<<20))
	if err != nil {
		f.Close()
		var full *room.FullError
		switch {
		case errors.As(err, &full):
			if !full.Inodes {
				full.Need, full.More = measure(ctx, src, size)
			}
			return nil, fmt.Errorf("spooling %s: %w", name, err)
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case source.err == nil:
			return nil, fmt.Errorf("spooling %s to %s: %w", name, o.spoolDir(), err)
		case errors.Is(err, io.ErrUnexpectedEOF):
			return nil, &TruncatedError{Archive: name, Where: fmt.Sprintf("%s data that unpacks to %d bytes so far", format, size)}
		case format != compression.None:
			return nil, fmt.Errorf("%s is damaged: %s: %w", name, format, err)
		}
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	return openTar(name, f, size, o)
}

// measure reads a stream of which n bytes have been read to its end, for a while: more says that it
// goes on.
func measure(ctx context.Context, r io.Reader, n int64) (size int64, more bool) {
	ctx, cancel := context.WithTimeout(ctx, measureTime)
	defer cancel()
	rest, err := io.CopyBuffer(writerOnly{io.Discard}, contextReader{ctx, r}, make([]byte, 1<<20))
	return n + rest, err != nil
}

// errorReader keeps the source's error, to tell it from the disk's.
type errorReader struct {
	r   io.Reader
	err error
}

func (e *errorReader) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	if err != nil && err != io.EOF {
		e.err = err
	}
	return n, err
}
