package snapshot

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Source is what a snapshot is made of.
type Source struct {
	// Root is the directory with all of it. What is mounted below is left out.
	Root string
	// Exclude reports whether a path below Root is left out, and all below it.
	Exclude func(path string) bool
	// Hold keeps everything in Root as it is until release is called. The context that it returns
	// ends if it cannot.
	Hold func(context.Context) (held context.Context, release func() error, err error)
	// Reserve is how many bytes of the disk stay free in any case: without them the cluster that is
	// saved would not go on.
	Reserve int64
}

// Saved says what Save did.
type Saved struct {
	Manifest Manifest
	// Held is how long everything stood still, and Took how long all of it took until the first byte
	// was written.
	Held, Took time.Duration
}

// settled is for how long a file must not have been written to, to be copied before everything
// stands still.
const settled = 2 * time.Second

// large is the least length of such a file: smaller ones take less time to copy than to tell apart.
const large = 64 << 10

// Save writes a snapshot of the source. The manifest has what only the caller knows; what it says of
// the content is filled in.
//
// Nothing is written before all of it is known: until then it lies in nameless files in Root's file
// system. So everything stands still for no longer than it takes to read what has changed in the
// last seconds, no matter how much there is in all and how slow the writer is.
func (s Source) Save(ctx context.Context, m Manifest, out io.Writer) (Saved, error) {
	saved, parts, err := s.collect(ctx, m)
	defer func() {
		for _, p := range parts {
			p.spool.Close()
		}
	}()
	if err != nil {
		return Saved{}, err
	}
	return saved, write(ctx, saved.Manifest, parts, out)
}

// write writes the file.
func write(ctx context.Context, m Manifest, parts []*part, out io.Writer) error {
	data, err := writeDocument(m)
	if err != nil {
		return err
	}
	archive := tar.NewWriter(out)
	header := func(name string, size int64) error {
		return archive.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, Size: size, ModTime: m.Created})
	}
	if err := header(manifestName, int64(len(data))); err != nil {
		return err
	}
	if _, err := archive.Write(data); err != nil {
		return err
	}
	for i, p := range parts {
		if err := header(m.Parts[i].Name, m.Parts[i].Size); err != nil {
			return err
		}
		if _, err := p.spool.Seek(0, io.SeekStart); err != nil {
			return err
		}
		if _, err := io.Copy(archive, contextReader{ctx, p.spool}); err != nil {
			return err
		}
	}
	return archive.Close()
}

// stamp tells whether a file is as it was.
type stamp struct {
	inode        uint64
	size         int64
	mtime, ctime unix.Timespec
}

func stampOf(st *unix.Stat_t) stamp { return stamp{st.Ino, st.Size, st.Mtim, st.Ctim} }

// saver is one call of Save.
type saver struct {
	Source
	device uint64
	mu     sync.Mutex
	// copied has the files that have been copied early, as they were then.
	copied map[string]early
	// contents has what has been copied, by length: what was loaded into all nodes is there once.
	contents map[int64][]*content
	files    int
	bytes    int64
	disk     int64
}

// early is a file that was copied early.
type early struct {
	stamp
	// like is the file that has its content; "" if it has its own.
	like string
}

// content is a file that other files may be like.
type content struct {
	path string
	// hash is that of its content, when known is closed; nil if it could not be read.
	hash  []byte
	known chan struct{}
}

// job is a file, with all names that it has.
type job struct {
	path  string
	stat  unix.Stat_t
	links []string
}

// collect makes the parts.
func (s Source) collect(ctx context.Context, m Manifest) (_ Saved, parts []*part, err error) {
	begin := time.Now()
	var root unix.Stat_t
	if err := unix.Lstat(s.Root, &root); err != nil {
		return Saved{}, nil, fmt.Errorf("making a snapshot: %s: %w", s.Root, err)
	}
	v := &saver{Source: s, device: root.Dev, copied: map[string]early{}, contents: map[int64][]*content{}}
	var described []Part
	open := func(n int) ([]*part, error) {
		var opened []*part
		for range n {
			p, err := s.newPart()
			if err != nil {
				return nil, err
			}
			parts, opened = append(parts, p), append(opened, p)
		}
		return opened, nil
	}
	// finish ends parts. They are in the order in which they were opened.
	finish := func(list []*part, early bool) error {
		for _, p := range list {
			d, err := p.finish()
			if err != nil {
				return err
			}
			d.Name, d.Early = fmt.Sprintf("%d.tar.zst", len(described)), early
			described = append(described, d)
		}
		return nil
	}
	tree, err := open(1)
	if err != nil {
		return Saved{}, parts, err
	}
	// Most of what is large stays as it is.
	first, err := open(workers())
	if err != nil {
		return Saved{}, parts, err
	}
	if err := v.each(ctx, first, v.copyEarly, func(jobs chan<- job) error {
		return v.walk(ctx, func(j job) error {
			if j.stat.Mode&unix.S_IFMT == unix.S_IFREG && j.stat.Size >= large && j.stat.Nlink == 1 && before(j.stat.Ctim, begin.Add(-settled)) {
				return send(ctx, jobs, j)
			}
			return nil
		})
	}); err != nil {
		return Saved{}, parts, err
	}
	rest, err := open(workers())
	if err != nil {
		return Saved{}, parts, err
	}
	held, release, err := s.Hold(ctx)
	if err != nil {
		return Saved{}, parts, err
	}
	since := time.Now()
	stale, err := v.copyRest(held, tree[0], rest)
	if held.Err() != nil {
		err = context.Cause(held)
	}
	err = errors.Join(err, release())
	duration := time.Since(since)
	if err != nil {
		return Saved{}, parts, err
	}
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return Saved{}, parts, err
	}
	m.Format, m.ID, m.Created, m.Architecture = format, hex.EncodeToString(id), since.UTC().Truncate(time.Second), runtime.GOARCH
	if err := errors.Join(finish(tree, false), finish(first, true), finish(rest, false)); err != nil {
		return Saved{}, parts, err
	}
	m.Files, m.Bytes, m.Disk, m.Stale, m.Parts = v.files, v.bytes, v.disk, stale, described
	return Saved{Manifest: m, Held: duration, Took: time.Since(begin)}, parts, nil
}

// copyRest copies everything but the files that are as they were when they were copied early, and
// returns those that are not.
func (v *saver) copyRest(ctx context.Context, tree *part, files []*part) (stale []string, err error) {
	linked := map[uint64]*job{}
	kept := map[string]job{}
	var rest []job
	if err := v.walk(ctx, func(j job) error {
		switch mode := j.stat.Mode & unix.S_IFMT; {
		case mode == unix.S_IFSOCK:
			return nil // of a process that is gone when this is restored
		case mode != unix.S_IFREG:
			return v.addTree(tree, j)
		case j.stat.Nlink > 1:
			if first := linked[j.stat.Ino]; first != nil {
				first.links = append(first.links, j.path)
			} else {
				linked[j.stat.Ino] = &j
			}
			return nil
		}
		if have, ok := v.copied[j.path]; ok && have.stamp == stampOf(&j.stat) {
			kept[j.path] = j
		} else {
			rest = append(rest, j)
		}
		return nil
	}); err != nil {
		return nil, err
	}
	for path, have := range v.copied {
		j, ok := kept[path]
		if _, there := kept[have.like]; ok && have.like != "" && !there {
			// What it was like is something else now.
			rest, ok = append(rest, j), false
		}
		if ok {
			v.count(j)
		} else {
			stale = append(stale, path)
		}
	}
	for _, inode := range slices.Sorted(maps.Keys(linked)) {
		rest = append(rest, *linked[inode])
	}
	slices.Sort(stale)
	// From now on only what is copied now can be the content of others.
	v.contents = map[int64][]*content{}
	return stale, v.each(ctx, files, v.copy, func(jobs chan<- job) error {
		for _, j := range rest {
			if err := send(ctx, jobs, j); err != nil {
				return err
			}
		}
		return nil
	})
}

// each runs the jobs that produce sends, one at a time for each of the parts.
func (v *saver) each(ctx context.Context, parts []*part, do func(context.Context, *part, job) error, produce func(chan<- job) error) error {
	group, ctx := errgroup.WithContext(ctx)
	jobs := make(chan job, 64)
	group.Go(func() error {
		defer close(jobs)
		return produce(jobs)
	})
	for _, p := range parts {
		group.Go(func() error {
			for j := range jobs {
				if ctx.Err() != nil {
					continue // so that produce ends
				}
				if err := do(ctx, p, j); err != nil {
					return fmt.Errorf("making a snapshot: %w", err)
				}
			}
			return nil
		})
	}
	return group.Wait()
}

func send(ctx context.Context, jobs chan<- job, j job) error {
	select {
	case jobs <- j:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// walk calls f for everything below the root but what is excluded or mounted there.
func (v *saver) walk(ctx context.Context, f func(job) error) error {
	return filepath.WalkDir(v.Root, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed meanwhile
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if path == v.Root {
			return nil
		}
		j := job{path: strings.TrimPrefix(path, v.Root+"/")}
		if v.Exclude != nil && v.Exclude(j.path) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if err := unix.Lstat(path, &j.stat); errors.Is(err, unix.ENOENT) {
			return nil
		} else if err != nil {
			return &fs.PathError{Op: "lstat", Path: path, Err: err}
		}
		if j.stat.Dev != v.device {
			return v.mountPoint(d, j, f)
		}
		return f(j)
	})
}

// mountPoint calls f for the directory or file below a mount, as far as that can be told, and leaves
// out what is mounted.
func (v *saver) mountPoint(d fs.DirEntry, j job, f func(job) error) error {
	if !d.IsDir() {
		return nil
	}
	j.stat.Dev = v.device
	j.stat.Mode = unix.S_IFDIR | 0o700
	j.stat.Uid, j.stat.Gid = 0, 0
	if err := f(j); err != nil {
		return err
	}
	return fs.SkipDir
}

func before(t unix.Timespec, limit time.Time) bool {
	return time.Unix(t.Unix()).Before(limit)
}

// copyEarly copies a file that may be written to meanwhile: if it is, copyRest sees it.
//
// A write through a mapping (mmap(2)) changes a file's times only if the page was clean before. So
// the file's pages are written back first, after the time from which on a change counts.
func (v *saver) copyEarly(ctx context.Context, p *part, j job) error {
	now := time.Now()
	file, err := os.Open(filepath.Join(v.Root, j.path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	const flush = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
	if err := unix.SyncFileRange(int(file.Fd()), 0, 0, flush); err != nil {
		return &fs.PathError{Op: "sync_file_range", Path: j.path, Err: err}
	}
	if err := unix.Fstat(int(file.Fd()), &j.stat); err != nil {
		return &fs.PathError{Op: "fstat", Path: j.path, Err: err}
	}
	if !before(j.stat.Ctim, now.Add(-settled)) || j.stat.Nlink != 1 {
		return nil
	}
	whole, like, err := v.add(ctx, p, file, j)
	if err != nil {
		return err
	}
	if !whole {
		j.stat.Ino = 0 // so that it counts as changed
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.copied[j.path] = early{stampOf(&j.stat), like}
	return nil
}

// add adds a file to a part, or, if there is one of the same content already, that it is like that
// one. whole reports whether it had the length that it was to have.
func (v *saver) add(ctx context.Context, p *part, file *os.File, j job) (whole bool, like string, err error) {
	if j.stat.Size < large || len(j.links) > 0 {
		whole, err = p.add(ctx, file, j, "", nil)
		return whole, "", err
	}
	own := &content{path: j.path, known: make(chan struct{})}
	defer close(own.known)
	v.mu.Lock()
	others := slices.Clone(v.contents[j.stat.Size])
	v.contents[j.stat.Size] = append(v.contents[j.stat.Size], own)
	v.mu.Unlock()
	if len(others) > 0 {
		hash := sha256.New()
		if _, err := io.CopyBuffer(struct{ io.Writer }{hash}, contextReader{ctx, file}, p.buffer); err != nil {
			return false, "", err
		}
		sum := hash.Sum(nil)
		for _, other := range others {
			select {
			case <-other.known:
			case <-ctx.Done():
				return false, "", context.Cause(ctx)
			}
			if bytes.Equal(other.hash, sum) {
				_, err := p.add(ctx, file, j, other.path, nil)
				return true, other.path, err
			}
		}
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			return false, "", err
		}
	}
	hash := sha256.New()
	whole, err = p.add(ctx, file, j, "", hash)
	if whole && err == nil {
		own.hash = hash.Sum(nil)
	}
	return whole, "", err
}

// copy copies a file that is not written to.
func (v *saver) copy(ctx context.Context, p *part, j job) error {
	file, err := os.Open(filepath.Join(v.Root, j.path))
	if err != nil {
		return err
	}
	defer file.Close()
	whole, _, err := v.add(ctx, p, file, j)
	if err != nil {
		return err
	}
	if !whole {
		return fmt.Errorf("%s was written to while all processes of the cluster stood still: by whom?", j.path)
	}
	for _, name := range j.links {
		if err := p.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: j.path, Format: tar.FormatPAX}); err != nil {
			return err
		}
	}
	v.count(j)
	return nil
}

func (v *saver) count(j job) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.files++
	v.bytes += j.stat.Size
	v.disk += j.stat.Blocks * 512
}

// addTree adds what is neither a file nor a socket.
func (v *saver) addTree(p *part, j job) error {
	path := filepath.Join(v.Root, j.path)
	h, err := header(path, j)
	if err != nil {
		return err
	}
	switch j.stat.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		h.Typeflag = tar.TypeDir
	case unix.S_IFLNK:
		h.Typeflag = tar.TypeSymlink
		if h.Linkname, err = os.Readlink(path); err != nil {
			return err
		}
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Typeflag = tar.TypeChar
		if j.stat.Mode&unix.S_IFMT == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(unix.Major(j.stat.Rdev)), int64(unix.Minor(j.stat.Rdev))
	}
	h.Size = 0
	return p.tar.WriteHeader(h)
}

// header returns what a file system knows of a file, an overlay's marks (trusted.overlay.*) and
// capabilities among it.
func header(path string, j job) (*tar.Header, error) {
	h := &tar.Header{
		Typeflag: tar.TypeReg,
		Name:     j.path,
		Size:     j.stat.Size,
		Mode:     int64(j.stat.Mode & 0o7777),
		Uid:      int(j.stat.Uid),
		Gid:      int(j.stat.Gid),
		ModTime:  time.Unix(j.stat.Mtim.Unix()),
		Format:   tar.FormatPAX,
	}
	attributes, err := xattrs(path)
	if err != nil {
		return nil, fmt.Errorf("reading the extended attributes of %s: %w", j.path, err)
	}
	for name, value := range attributes {
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords[xattrPrefix+name] = value
	}
	return h, nil
}

func xattrs(path string) (map[string]string, error) {
	var buffer [4 << 10]byte
	names := buffer[:]
	n, err := unix.Llistxattr(path, names)
	if errors.Is(err, unix.ERANGE) {
		names = make([]byte, 64<<10) // XATTR_LIST_MAX
		n, err = unix.Llistxattr(path, names)
	}
	if errors.Is(err, unix.ENOTSUP) || n == 0 && err == nil {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names[:n]), "\x00"), "\x00") {
		if name == "security.selinux" {
			continue // a label that means something to this machine only
		}
		value := make([]byte, 4<<10)
		n, err := unix.Lgetxattr(path, name, value)
		if errors.Is(err, unix.ERANGE) {
			value = make([]byte, 64<<10) // XATTR_SIZE_MAX
			n, err = unix.Lgetxattr(path, name, value)
		}
		if errors.Is(err, unix.ENODATA) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all[name] = string(value[:n])
	}
	return all, nil
}

// part is a part that is being written.
type part struct {
	spool *os.File
	hash  hash.Hash
	out   *spoolWriter
	zstd  *zstd.Encoder
	tar   *tar.Writer
	// buffer is for copying.
	buffer []byte
}

// newPart makes an empty part in a nameless file, which is gone when this process is.
func (s Source) newPart() (*part, error) {
	spool, err := os.OpenFile(s.Root, os.O_RDWR|unix.O_TMPFILE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("making room for a snapshot: %w", err)
	}
	p := &part{spool: spool, hash: sha256.New(), buffer: make([]byte, 256<<10)}
	p.out = &spoolWriter{file: spool, reserve: s.Reserve}
	p.zstd, err = zstd.NewWriter(io.MultiWriter(p.out, p.hash), zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		spool.Close()
		return nil, err
	}
	p.tar = tar.NewWriter(p.zstd)
	return p, nil
}

// add adds a file, or, if like is not "", that it has the content of that file. It reports whether it
// had the length that it was to have, and writes its content to hash, which may be nil.
func (p *part) add(ctx context.Context, file *os.File, j job, like string, hash io.Writer) (whole bool, err error) {
	h, err := header(file.Name(), j)
	if errors.Is(err, fs.ErrNotExist) {
		h, err = header("/proc/self/fd/"+fmt.Sprint(file.Fd()), j)
	}
	if err != nil {
		return false, err
	}
	if like != "" {
		h.Size = 0
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords[likeRecord] = like
		return true, p.tar.WriteHeader(h)
	}
	if err := p.tar.WriteHeader(h); err != nil {
		return false, err
	}
	out := io.Writer(p.tar)
	if hash != nil {
		out = io.MultiWriter(p.tar, hash)
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{out}, io.LimitReader(contextReader{ctx, file}, h.Size), p.buffer)
	if err != nil {
		return false, err
	}
	if n == h.Size {
		return true, nil
	}
	_, err = io.CopyN(p.tar, zeros{}, h.Size-n)
	return false, err
}

// likeRecord is the PAX record of a file that is empty in the archive, with the path of the one that
// has its content.
const likeRecord = "DINDCLUSTER.like"

// zeros is /dev/zero.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func (p *part) finish() (Part, error) {
	err := p.tar.Close()
	err = errors.Join(err, p.zstd.Close())
	return Part{Size: p.out.n, SHA256: hex.EncodeToString(p.hash.Sum(nil))}, err
}

// ErrNoRoom means that the disk is too full for a snapshot.
var ErrNoRoom = errors.New("there is too little room on Docker's disk")

// spoolWriter writes to a file as long as there is room.
type spoolWriter struct {
	file    *os.File
	n       int64
	reserve int64
	checked int64
}

// checkEvery is how many bytes may be written before the room is looked at again.
const checkEvery = 4 << 20

func (w *spoolWriter) Write(p []byte) (int, error) {
	if w.checked == 0 || w.n-w.checked >= checkEvery {
		w.checked = max(w.n, 1)
		var st unix.Statfs_t
		if err := unix.Fstatfs(int(w.file.Fd()), &st); err != nil {
			return 0, err
		}
		if free := int64(st.Bavail) * st.Bsize; free < w.reserve {
			return 0, fmt.Errorf("%w: %d MB are free, and %d MB have to stay so", ErrNoRoom, free>>20, w.reserve>>20)
		}
	}
	n, err := w.file.Write(p)
	w.n += int64(n)
	if errors.Is(err, unix.ENOSPC) {
		err = fmt.Errorf("%w: %w", ErrNoRoom, err)
	}
	return n, err
}
