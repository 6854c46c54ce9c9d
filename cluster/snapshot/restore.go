package snapshot

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Extract puts the files of the snapshot into a directory, which must be empty.
func (f *File) Extract(ctx context.Context, dir string) error {
	if err := f.extract(ctx, dir); err != nil {
		return fmt.Errorf("restoring the snapshot: %w", err)
	}
	return nil
}

func (f *File) extract(ctx context.Context, dir string) error {
	x := &extraction{dir: dir, stale: map[string]bool{}}
	for _, path := range f.Manifest.Stale {
		x.stale[path] = true
	}
	// The order keeps any member from being written through a symbolic link: there is none until the
	// end.
	tree, err := x.directories(ctx, f.parts[0])
	if err != nil {
		return err
	}
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(workers())
	for i, p := range f.parts[1:] {
		early := f.Manifest.Parts[1+i].Early
		group.Go(func() error { return x.files(gctx, p, early) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := x.copies(ctx); err != nil {
		return err
	}
	for _, h := range tree {
		if h.Typeflag != tar.TypeDir {
			if err := x.special(h); err != nil {
				return err
			}
		}
	}
	for i := len(tree) - 1; i >= 0; i-- {
		if h := tree[i]; h.Typeflag == tar.TypeDir {
			if err := attributes(x.path(h), h); err != nil {
				return err
			}
		}
	}
	return nil
}

type extraction struct {
	dir   string
	stale map[string]bool
	mu    sync.Mutex
	// like has the files that have the content of others.
	like []*tar.Header
}

func (x *extraction) path(h *tar.Header) string { return filepath.Join(x.dir, h.Name) }

// members calls f for each member of a part.
func members(ctx context.Context, part *io.SectionReader, f func(*tar.Header, io.Reader) error) error {
	// With one decoder there are no goroutines.
	z, err := zstd.NewReader(contextReader{ctx, io.NewSectionReader(part, 0, part.Size())}, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return err
	}
	defer z.Close()
	for archive := tar.NewReader(z); ; {
		h, err := archive.Next()
		if err == io.EOF {
			// The rest has zstd's own checksum.
			_, err := io.Copy(io.Discard, z)
			return err
		}
		if err != nil {
			return err
		}
		h.Name = strings.TrimSuffix(h.Name, "/")
		if !filepath.IsLocal(h.Name) || h.Typeflag == tar.TypeLink && !filepath.IsLocal(h.Linkname) {
			return fmt.Errorf("it has a file outside of itself: %q", h.Name)
		}
		if err := f(h, archive); err != nil {
			return err
		}
	}
}

// directories makes the directories of the first part, and returns its members.
func (x *extraction) directories(ctx context.Context, part *io.SectionReader) ([]*tar.Header, error) {
	var all []*tar.Header
	err := members(ctx, part, func(h *tar.Header, _ io.Reader) error {
		all = append(all, h)
		if h.Typeflag == tar.TypeDir {
			return os.Mkdir(x.path(h), 0o700)
		}
		return nil
	})
	return all, err
}

// files writes the files of a part.
func (x *extraction) files(ctx context.Context, part *io.SectionReader, early bool) error {
	buffer := make([]byte, 256<<10)
	return members(ctx, part, func(h *tar.Header, content io.Reader) error {
		switch {
		case early && x.stale[h.Name]:
			return nil
		case h.Typeflag == tar.TypeLink:
			return os.Link(filepath.Join(x.dir, h.Linkname), x.path(h))
		case h.PAXRecords[likeRecord] != "":
			x.mu.Lock()
			defer x.mu.Unlock()
			x.like = append(x.like, h)
			return nil
		}
		return x.file(h, content, buffer)
	})
}

func (x *extraction) file(h *tar.Header, content io.Reader, buffer []byte) error {
	path := x.path(h)
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := writeSparse(file, content, h.Size, buffer); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := attributes(path, h); err != nil {
		return err
	}
	return file.Close()
}

// copies makes the files that have the content of others.
func (x *extraction) copies(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(workers())
	for _, h := range x.like {
		group.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return x.copy(h)
		})
	}
	return group.Wait()
}

func (x *extraction) copy(h *tar.Header) error {
	like := h.PAXRecords[likeRecord]
	if !filepath.IsLocal(like) {
		return fmt.Errorf("it has a file outside of itself: %q", like)
	}
	from, err := os.Open(filepath.Join(x.dir, like))
	if err != nil {
		return err
	}
	defer from.Close()
	path := x.path(h)
	to, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer to.Close()
	// The content is shared where the file system can do so.
	if err := unix.IoctlFileClone(int(to.Fd()), int(from.Fd())); err != nil {
		if _, err := io.Copy(to, from); err != nil {
			return err
		}
	}
	if err := attributes(path, h); err != nil {
		return err
	}
	return to.Close()
}

// block is the least length of a hole.
const block = 4 << 10

// writeSparse writes a file with holes where there are only zeros: etcd's log, above all, is mostly
// room.
func writeSparse(file *os.File, content io.Reader, size int64, buffer []byte) error {
	for at := int64(0); at < size; {
		n, err := io.ReadFull(content, buffer[:min(int64(len(buffer)), size-at)])
		if err != nil {
			return err
		}
		for begin := 0; begin < n; {
			end := begin
			for end < n && !zero(buffer[end:min(end+block, n)]) {
				end = min(end+block, n)
			}
			if end > begin {
				if _, err := file.WriteAt(buffer[begin:end], at+int64(begin)); err != nil {
					return err
				}
			}
			for begin = end; begin < n && zero(buffer[begin:min(begin+block, n)]); {
				begin = min(begin+block, n)
			}
		}
		at += int64(n)
	}
	return file.Truncate(size)
}

var noBytes [block]byte

func zero(b []byte) bool { return bytes.Equal(b, noBytes[:len(b)]) }

// special makes a symbolic link, a named pipe or a device.
func (x *extraction) special(h *tar.Header) error {
	path, mode := x.path(h), uint32(0)
	switch h.Typeflag {
	case tar.TypeSymlink:
		if err := os.Symlink(h.Linkname, path); err != nil {
			return err
		}
		return attributes(path, h)
	case tar.TypeFifo:
		mode = unix.S_IFIFO
	case tar.TypeChar:
		mode = unix.S_IFCHR
	case tar.TypeBlock:
		mode = unix.S_IFBLK
	default:
		return fmt.Errorf("%s has an unknown type, %q", h.Name, h.Typeflag)
	}
	if err := unix.Mknod(path, mode|uint32(h.Mode), int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)))); err != nil {
		return &fs.PathError{Op: "mknod", Path: path, Err: err}
	}
	return attributes(path, h)
}

// attributes gives a file its owner, attributes, mode and time, in the order in which none undoes
// another one: chown(2) takes capabilities and set-user-ID bits.
func attributes(path string, h *tar.Header) error {
	if err := os.Lchown(path, h.Uid, h.Gid); err != nil {
		return err
	}
	if h.Typeflag != tar.TypeSymlink {
		if err := unix.Fchmodat(unix.AT_FDCWD, path, uint32(h.Mode)&0o7777, 0); err != nil {
			return &fs.PathError{Op: "chmod", Path: path, Err: err}
		}
	}
	for name, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(name, xattrPrefix)
		if !ok {
			continue
		}
		if err := unix.Lsetxattr(path, name, []byte(value), 0); err != nil {
			return fmt.Errorf("setting the attribute %s of %s: %w", name, path, err)
		}
	}
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(h.ModTime.UnixNano())}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, path, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &fs.PathError{Op: "utimensat", Path: path, Err: err}
	}
	return nil
}
