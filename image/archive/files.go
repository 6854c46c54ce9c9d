package archive

import (
	"archive/tar"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/dind-cluster/dind-cluster/image/rootfs"
	"github.com/dind-cluster/dind-cluster/internal/compression"
)

// Limits of an archive's index, which is in memory.
const (
	entriesLimit = 1 << 16
	nameLimit    = 1 << 10
)

// Files are what an archive consists of.
type Files interface {
	// Blob finds a file by its path, which has slashes. A missing one is an fs.ErrNotExist.
	Blob(name string) (*Blob, error)
}

// Blob is a file that can be read any number of times, at the same time too.
type Blob struct {
	Name string
	Size int64
	Open func() (io.ReadCloser, error)
	// Digest is the content's where it is known before it is read, and Compression what it is
	// compressed with. A layer's content is not read then.
	Digest      v1.Hash
	Compression string
}

// digest returns the digest of the content.
func (b *Blob) digest() (v1.Hash, error) {
	if b.Digest != (v1.Hash{}) {
		return b.Digest, nil
	}
	rc, err := b.Open()
	if err != nil {
		return v1.Hash{}, err
	}
	defer rc.Close()
	h := sha256.New()
	_, err = io.CopyBuffer(writerOnly{h}, rc, make([]byte, 256<<10))
	return hashOf(h), err
}

// compression returns what the content is compressed with, by what it begins with.
func (b *Blob) compression() (string, error) {
	if b.Digest != (v1.Hash{}) {
		return b.Compression, nil
	}
	rc, err := b.Open()
	if err != nil {
		return "", err
	}
	defer rc.Close()
	head := make([]byte, compression.HeadSize)
	n, err := io.ReadFull(rc, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return "", err
	}
	return compression.Of(head[:n]), nil
}

// directory is an OCI layout on disk. A link in it may lead to another of its files, not out of it.
type directory struct{ root *os.Root }

func (d directory) Blob(name string) (*Blob, error) {
	if !filepath.IsLocal(name) {
		return nil, fs.ErrNotExist
	}
	open := func() (*os.File, error) {
		return d.root.OpenFile(filepath.FromSlash(name), os.O_RDONLY|unix.O_NONBLOCK, 0) // a pipe is not waited for
	}
	f, err := open()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", name)
	}
	return &Blob{Name: name, Size: info.Size(), Open: func() (io.ReadCloser, error) { return open() }}, nil
}

// tarFiles is an uncompressed archive: where each file's content is in it.
type tarFiles struct {
	r       io.ReaderAt
	entries map[string]entry
}

type entry struct {
	offset, size int64
	link         string // what a symbolic or hard link leads to: docker save once linked a repeated layer to the first copy
	sparse       bool
}

func (t *tarFiles) Blob(name string) (*Blob, error) {
	name = rootfs.Clean(name)
	at, err := rootfs.Resolve(name, func(p string) (string, bool) {
		e, ok := t.entries[p]
		return e.link, ok && e.link != ""
	})
	if err != nil {
		return nil, err
	}
	e, ok := t.entries[at]
	switch {
	case !ok:
		return nil, fs.ErrNotExist
	case e.sparse:
		return nil, fmt.Errorf("%s is a sparse file", name)
	}
	return &Blob{Name: name, Size: e.size, Open: func() (io.ReadCloser, error) {
		return section{io.NewSectionReader(t.r, e.offset, e.size)}, nil
	}}, nil
}

// section is a part of the archive's file, which is closed with the archive. It can seek, so that
// readers can skip.
type section struct{ *io.SectionReader }

func (section) Close() error { return nil }

// indexTar reads the headers of an archive and skips over the content.
func indexTar(name string, r io.ReaderAt, size int64) (*tarFiles, error) {
	t := &tarFiles{r: r, entries: map[string]entry{}}
	section := io.NewSectionReader(r, 0, size)
	tr := tar.NewReader(section)
	last := "its first header"
	for n := 0; ; n++ {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, &TruncatedError{Archive: name, Where: last}
		}
		if err != nil {
			if n == 0 {
				return nil, fmt.Errorf("%s is %w: it is neither a tar archive nor one compressed with gzip or zstd", name, ErrNotArchive)
			}
			return nil, fmt.Errorf("%s is damaged after %s: %w", name, last, err)
		}
		offset, err := section.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		if n >= entriesLimit {
			return nil, fmt.Errorf("%s is no archive of images: it has more than %d files", name, entriesLimit)
		}
		if len(hdr.Name) > nameLimit || len(hdr.Linkname) > nameLimit {
			return nil, fmt.Errorf("%s is no archive of images: after %s, it has a file whose name is longer than %d bytes", name, last, nameLimit)
		}
		key := rootfs.Clean(hdr.Name)
		switch hdr.Typeflag {
		case tar.TypeReg:
			e := entry{offset: offset, size: hdr.Size}
			for k := range hdr.PAXRecords {
				e.sparse = e.sparse || strings.HasPrefix(k, "GNU.sparse.")
			}
			if !e.sparse && offset+hdr.Size > size {
				return nil, &TruncatedError{Archive: name, Where: fmt.Sprintf("%s, after %d of its %d bytes", key, size-offset, hdr.Size)}
			}
			t.entries[key] = e
		case tar.TypeGNUSparse:
			t.entries[key] = entry{sparse: true}
		case tar.TypeSymlink:
			t.entries[key] = entry{link: hdr.Linkname}
		case tar.TypeLink:
			t.entries[key] = entry{link: "/" + rootfs.Clean(hdr.Linkname)}
		}
		last = key
	}
	return t, nil
}
