// Package room keeps the loader from filling a disk: how large an archive is unpacked is known only
// afterwards, and a full disk stops all that writes to it, etcd first.
package room

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dind-cluster/dind-cluster/internal/progress"
)

const (
	// reserve is what is left free of a large file system, in bytes: room for etcd, the journal and
	// the logs of pods.
	reserve = 1 << 30
	// share is the part of a small one that is left free.
	share = 10
	// inodes is how many inodes are left free on a file system with a fixed number of them.
	inodes = 10_000
	// pause is how often Watch checks.
	pause = 20 * time.Millisecond
	// chunk is how many bytes a Reader returns between two checks.
	chunk = 1 << 20
)

// Guard watches the file system that a directory lies on.
type Guard struct{ dir string }

// New returns a guard of the directory's file system.
func New(dir string) *Guard { return &Guard{dir} }

// FullError reports that something does not fit.
type FullError struct {
	// Dir is a directory of the full file system.
	Dir string
	// Need is the number of bytes needed, or with More a number that was not enough.
	Need int64
	More bool
	// Free is how many bytes were free, and Reserve how many of them stay so.
	Free, Reserve int64
	// Inodes reports that there are too many files, not too many bytes.
	Inodes bool
}

func (e *FullError) Error() string {
	if e.Inodes {
		return fmt.Sprintf("too many files for the file system of %s: all but %d of its inodes are in use", e.Dir, inodes)
	}
	if e.Need == 0 {
		return fmt.Sprintf("no room in %s: %s are free, and %s stay so", e.Dir, progress.Size(e.Free), progress.Size(e.Reserve))
	}
	more := ""
	if e.More {
		more = "more than "
	}
	return fmt.Sprintf("it needs %s%s in %s, where %s are free and %s of them stay so", more, progress.Size(e.Need), e.Dir,
		progress.Size(e.Free), progress.Size(e.Reserve))
}

// Is makes a FullError an ENOSPC.
func (e *FullError) Is(target error) bool { return target == unix.ENOSPC }

// Check returns a FullError unless n more bytes fit and the reserve is left.
func (g *Guard) Check(n int64) error {
	var s unix.Statfs_t
	if err := unix.Statfs(g.dir, &s); err != nil {
		return fmt.Errorf("looking at the disk: %s: %w", g.dir, err)
	}
	size, free := int64(s.Blocks)*s.Bsize, int64(s.Bavail)*s.Bsize
	keep := min(reserve, size/share)
	if free-n < keep {
		return &FullError{Dir: g.dir, Need: n, Free: free, Reserve: keep}
	}
	if s.Files > 0 && s.Ffree < min(inodes, s.Files/share) {
		return &FullError{Dir: g.dir, Inodes: true}
	}
	return nil
}

// Watch returns a context that ends when less than the reserve is free, whatever process takes it.
// Call stop to end the watch.
func (g *Guard) Watch(ctx context.Context) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	tick := time.NewTicker(pause)
	go func() {
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if err := g.Check(0); err != nil {
					cancel(err)
					return
				}
			}
		}
	}()
	return ctx, func() { cancel(context.Canceled) }
}

// Reader returns a reader of r, whose content is being written to the file system, that fails
// before less than the reserve is free.
func (g *Guard) Reader(r io.Reader) io.Reader { return &reader{r: r, g: g} }

type reader struct {
	r       io.Reader
	g       *Guard
	n, next int64
}

func (r *reader) Read(p []byte) (int, error) {
	if r.n >= r.next {
		if err := r.g.Check(chunk); err != nil {
			var full *FullError
			if errors.As(err, &full) {
				full.Need, full.More, full.Free = r.n, true, full.Free+r.n
			}
			return 0, err
		}
		r.next = r.n + chunk
	}
	n, err := r.r.Read(p[:min(len(p), chunk)])
	r.n += int64(n)
	return n, err
}
