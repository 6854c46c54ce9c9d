package compare

import (
	"archive/tar"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/klauspost/compress/gzip"

	"github.com/dind-cluster/dind-cluster/internal/compression"
)

// spoolError is an error of this machine, not of what is compared.
type spoolError struct{ error }

func (e *spoolError) Unwrap() error { return e.error }

// spool is a temporary copy of what can only be read in order. Its file has no name, so that nothing is left of it.
type spool struct{ file *os.File }

func newSpool() (*spool, error) {
	f, err := os.CreateTemp("", "compare")
	if err != nil {
		return nil, &spoolError{err}
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, &spoolError{err}
	}
	return &spool{f}, nil
}

func (s *spool) close() { s.file.Close() }

// copy makes a copy of what r has, in place of the last one.
func (s *spool) copy(r io.Reader) (*io.SectionReader, error) {
	if err := s.file.Truncate(0); err != nil {
		return nil, &spoolError{err}
	}
	w := &offsetWriter{s.file, 0}
	n, err := io.Copy(w, io.LimitReader(r, maxSpool+1))
	if err != nil {
		return nil, err
	}
	if n > maxSpool {
		return nil, fmt.Errorf("more than %d bytes", maxSpool)
	}
	return io.NewSectionReader(s.file, 0, n), nil
}

// offsetWriter tells failures to write from those to read.
type offsetWriter struct {
	file   *os.File
	offset int64
}

func (w *offsetWriter) Write(p []byte) (int, error) {
	n, err := w.file.WriteAt(p, w.offset)
	w.offset += int64(n)
	if err != nil {
		err = &spoolError{err}
	}
	return n, err
}

// spools copies from two readers, and compares the copies.
func spools(a, b io.Reader, depth int) (*Difference, error) {
	spoolA, err := newSpool()
	if err != nil {
		return nil, err
	}
	defer spoolA.close()
	spoolB, err := newSpool()
	if err != nil {
		return nil, err
	}
	defer spoolB.close()
	sa, err := spoolA.copy(a)
	if err != nil {
		return nil, err
	}
	sb, err := spoolB.copy(b)
	if err != nil {
		return nil, err
	}
	return contents(sa, sb, depth)
}

func start(s *io.SectionReader) io.Reader { return io.NewSectionReader(s, 0, s.Size()) }

func gzips(a, b *io.SectionReader, depth int) (*Difference, error) {
	readerA, err := gzip.NewReader(start(a))
	if err != nil {
		return nil, err
	}
	readerB, err := gzip.NewReader(start(b))
	if err != nil {
		return nil, err
	}
	headerA, headerB := readerA.Header, readerB.Header
	// What is inside says more than the header around it.
	d, err := spools(readerA, readerB, depth)
	if err != nil || d != nil {
		return d, err
	}
	return first(
		field("modification time in gzip's header", headerA.ModTime.UTC(), headerB.ModTime.UTC()),
		field("name in gzip's header", headerA.Name, headerB.Name),
		field("comment in gzip's header", headerA.Comment, headerB.Comment),
		field("operating system in gzip's header", headerA.OS, headerB.OS),
		field("extra bytes in gzip's header", fmt.Sprintf("%x", headerA.Extra), fmt.Sprintf("%x", headerB.Extra)),
	), nil
}

// streams compares what is in two compressed streams.
func streams(format string) func(a, b *io.SectionReader, depth int) (*Difference, error) {
	return func(a, b *io.SectionReader, depth int) (*Difference, error) {
		readerA, err := compression.NewReader(format, start(a))
		if err != nil {
			return nil, err
		}
		defer readerA.Close()
		readerB, err := compression.NewReader(format, start(b))
		if err != nil {
			return nil, err
		}
		defer readerB.Close()
		return spools(readerA, readerB, depth)
	}
}

// tars compares two tar archives, entry for entry.
func tars(a, b *io.SectionReader, depth int) (*Difference, error) {
	spoolA, err := newSpool()
	if err != nil {
		return nil, err
	}
	defer spoolA.close()
	spoolB, err := newSpool()
	if err != nil {
		return nil, err
	}
	defer spoolB.close()
	archiveA, archiveB := tar.NewReader(start(a)), tar.NewReader(start(b))
	for {
		headerA, err := next(archiveA)
		if err != nil {
			return nil, err
		}
		headerB, err := next(archiveB)
		if err != nil {
			return nil, err
		}
		if headerA == nil && headerB == nil {
			return nil, nil
		}
		if headerA == nil || headerB == nil || headerA.Name != headerB.Name {
			d := &Difference{What: "entry", A: "the end", B: "the end"}
			switch {
			case headerB == nil:
				d.A = quote(headerA.Name)
			case headerA == nil:
				d.B = quote(headerB.Name)
			default:
				d.A, d.B = sides(headerA.Name, headerB.Name)
			}
			return d, nil
		}
		if d := headers(headerA, headerB); d != nil {
			return d.in(headerA.Name), nil
		}
		sa, err := spoolA.copy(archiveA)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", headerA.Name, err)
		}
		sb, err := spoolB.copy(archiveB)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", headerB.Name, err)
		}
		d, err := contents(sa, sb, depth)
		if err != nil || d != nil {
			return d.in(headerA.Name), err
		}
		if d := field("size", headerA.Size, headerB.Size); d != nil {
			return d.in(headerA.Name), nil
		}
	}
}

// next is the header of the next entry, nil at the end.
func next(r *tar.Reader) (*tar.Header, error) {
	h, err := r.Next()
	if err == io.EOF {
		return nil, nil
	}
	return h, err
}

// headers compares all that two entries of a name have but their size, which their contents tell of.
func headers(a, b *tar.Header) *Difference {
	d := first(
		field("type", string(a.Typeflag), string(b.Typeflag)),
		field("mode", fmt.Sprintf("%04o", a.Mode), fmt.Sprintf("%04o", b.Mode)),
		field("owner", a.Uid, b.Uid),
		field("group", a.Gid, b.Gid),
		field("owner's name", a.Uname, b.Uname),
		field("group's name", a.Gname, b.Gname),
		field("link", a.Linkname, b.Linkname),
		field("modification time", a.ModTime.UTC(), b.ModTime.UTC()),
		field("access time", a.AccessTime.UTC(), b.AccessTime.UTC()),
		field("change time", a.ChangeTime.UTC(), b.ChangeTime.UTC()),
		field("device", fmt.Sprintf("%d:%d", a.Devmajor, a.Devminor), fmt.Sprintf("%d:%d", b.Devmajor, b.Devminor)),
		field("tar format", a.Format.String(), b.Format.String()),
	)
	if d != nil {
		return d
	}
	names := slices.Collect(maps.Keys(a.PAXRecords))
	for name := range b.PAXRecords {
		if _, ok := a.PAXRecords[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		// The size is compared with the contents.
		if name == "size" {
			continue
		}
		if d := field("record "+name, a.PAXRecords[name], b.PAXRecords[name]); d != nil {
			return d
		}
	}
	return nil
}
