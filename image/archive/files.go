package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// The index of an archive is in memory.
const (
	entriesLimit = 1 << 16
	nameLimit    = 1 << 10
)

// files is what an archive consists of, by slash separated path. A missing file is an fs.ErrNotExist.
type files interface {
	blob(name string) (*blob, error)
}

// blob is a file that can be read any number of times, at the same time too.
type blob struct {
	name string
	size int64
	open func() (io.ReadCloser, error)
}

// directory is an OCI layout on disk. A link in it may lead to another of its files, not out of it.
type directory struct{ root *os.Root }

func (d directory) blob(name string) (*blob, error) {
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
	return &blob{name: name, size: info.Size(), open: func() (io.ReadCloser, error) { return open() }}, nil
}

// tarFiles is an uncompressed archive: where each file's content is in it.
type tarFiles struct {
	r       io.ReaderAt
	entries map[string]entry
}

type entry struct {
	offset, size int64
	link         string // a symbolic or hard link's target, cleaned, from the archive's root
	sparse       bool
}

func (t *tarFiles) blob(name string) (*blob, error) {
	key := cleanName(name)
	for range 8 { // docker-save archives of old link a repeated layer to the first copy
		e, ok := t.entries[key]
		switch {
		case !ok:
			return nil, fs.ErrNotExist
		case e.sparse:
			return nil, fmt.Errorf("%s is a sparse file", name)
		case e.link != "":
			key = e.link
			continue
		}
		return &blob{name: cleanName(name), size: e.size, open: func() (io.ReadCloser, error) {
			return section{io.NewSectionReader(t.r, e.offset, e.size)}, nil
		}}, nil
	}
	return nil, fmt.Errorf("too many links from %s", name)
}

// section is a part of the archive's file, which is closed with the archive. It can seek, for those who want to skip.
type section struct{ *io.SectionReader }

func (section) Close() error { return nil }

func cleanName(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

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
		key := cleanName(hdr.Name)
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
			t.entries[key] = entry{link: cleanName(path.Join(path.Dir("/"+hdr.Name), hdr.Linkname))}
		case tar.TypeLink:
			t.entries[key] = entry{link: cleanName(hdr.Linkname)}
		}
		last = key
	}
	return t, nil
}
