// Package compare finds the first place where two build outputs that should be equal differ.
//
// It looks into what outputs are made of, however deep they lie in each other: Debian packages, layers and other tar
// archives, gzip, zstd, xz and bzip2 streams, JSON documents, programs, bolt databases, text. So of two layers it names the
// file in them, of two programs the section, of two image configs the field.
package compare

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Difference is the first place where two outputs differ.
type Difference struct {
	// Path leads to the place, from the outside inwards: data.tar.gz, ./usr/bin/kubelet, section .text. Empty is the
	// output itself.
	Path []string
	// What differs there: "mode", "line 3", "byte 512".
	What string
	// A and B are what is there on either side, shortened.
	A, B string
	// Note says what could not be looked into, and why. Most differences have none.
	Note string
}

// String is the difference on one line.
func (d *Difference) String() string {
	var s strings.Builder
	for _, p := range d.Path {
		s.WriteString(oneLine(p) + ": ")
	}
	fmt.Fprintf(&s, "%s: %s, not %s", oneLine(d.What), d.B, d.A)
	if d.Note != "" {
		fmt.Fprintf(&s, " (%s)", oneLine(d.Note))
	}
	return s.String()
}

// oneLine quotes what names of files, keys and the like may bring.
func oneLine(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' }) >= 0 {
		return fmt.Sprintf("%q", s)
	}
	return s
}

// in puts an element before the path of a difference; nil stays nil.
func (d *Difference) in(element string) *Difference {
	if d != nil {
		d.Path = append([]string{element}, d.Path...)
	}
	return d
}

const (
	// maxDepth bounds how deep containers in containers are looked into.
	maxDepth = 16
	// shown is how many bytes of a text, and a quarter of it of other content, a difference shows.
	shown = 80
)

// maxSpool bounds a temporary copy of what lies in a compressed stream or an archive, in bytes.
var maxSpool int64 = 64 << 30

// errDepth: containers in containers without an end.
var errDepth = fmt.Errorf("more than %d containers in each other", maxDepth)

// Paths compares two files or folders. It gives nil when they are equal: files in their bytes, folders in their entries'
// names, kinds, run bits and contents. A difference that cannot be looked into is still a difference; an error is one of
// reading the files.
func Paths(a, b string) (*Difference, error) {
	infoA, err := os.Stat(a)
	if err != nil {
		return nil, err
	}
	infoB, err := os.Stat(b)
	if err != nil {
		return nil, err
	}
	if infoA.IsDir() != infoB.IsDir() {
		return &Difference{What: "kind", A: infoA.Mode().Type().String(), B: infoB.Mode().Type().String()}, nil
	}
	if infoA.IsDir() {
		return folders(a, b)
	}
	return files(a, b)
}

func files(a, b string) (*Difference, error) {
	fa, err := os.Open(a)
	if err != nil {
		return nil, err
	}
	defer fa.Close()
	fb, err := os.Open(b)
	if err != nil {
		return nil, err
	}
	defer fb.Close()
	sa, err := whole(fa)
	if err != nil {
		return nil, err
	}
	sb, err := whole(fb)
	if err != nil {
		return nil, err
	}
	return Contents(sa, sb)
}

func whole(f *os.File) (*io.SectionReader, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return io.NewSectionReader(f, 0, info.Size()), nil
}

// folders compares two folders, entry for entry in the order of their names.
func folders(a, b string) (*Difference, error) {
	listA, err := listing(a)
	if err != nil {
		return nil, err
	}
	listB, err := listing(b)
	if err != nil {
		return nil, err
	}
	for i := range max(len(listA), len(listB)) {
		nameA, nameB := at(listA, i), at(listB, i)
		if nameA != nameB {
			return field("entry", nameA, nameB), nil
		}
		d, err := entries(filepath.Join(a, nameA), filepath.Join(b, nameB))
		if err != nil || d != nil {
			return d.in(nameA), err
		}
	}
	return nil, nil
}

func listing(dir string) ([]string, error) {
	var names []string
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, err := filepath.Rel(dir, path)
		names = append(names, name)
		return err
	})
	return names, err
}

func entries(a, b string) (*Difference, error) {
	infoA, err := os.Lstat(a)
	if err != nil {
		return nil, err
	}
	infoB, err := os.Lstat(b)
	if err != nil {
		return nil, err
	}
	// Permissions are Bazel's, but for the run bit.
	kind := func(i fs.FileInfo) string {
		if i.Mode().IsRegular() && i.Mode()&0o111 != 0 {
			return "a program"
		}
		return i.Mode().Type().String()
	}
	switch {
	case kind(infoA) != kind(infoB):
		return &Difference{What: "kind", A: kind(infoA), B: kind(infoB)}, nil
	case infoA.Mode().IsRegular():
		return files(a, b)
	case infoA.Mode().Type() == fs.ModeSymlink:
		targetA, err := os.Readlink(a)
		if err != nil {
			return nil, err
		}
		targetB, err := os.Readlink(b)
		if err != nil {
			return nil, err
		}
		return field("link", targetA, targetB), nil
	}
	return nil, nil
}

// at is an element of a list, or "" behind its end.
func at(list []string, i int) string {
	if i < len(list) {
		return list[i]
	}
	return ""
}

// Contents compares two contents as Paths compares files.
func Contents(a, b *io.SectionReader) (*Difference, error) { return contents(a, b, 0) }

func contents(a, b *io.SectionReader, depth int) (*Difference, error) {
	at, err := firstByte(a, b)
	if err != nil || at < 0 {
		return nil, err
	}
	plain, err := bytesAt(a, b, at)
	if err != nil {
		return nil, err
	}
	f := formatOf(a, b)
	if f == nil {
		return plain, nil
	}
	if depth >= maxDepth {
		plain.Note = errDepth.Error()
		return plain, nil
	}
	d, err := f.compare(a, b, depth+1)
	var spool *spoolError
	switch {
	case errors.As(err, &spool):
		return nil, err
	case err != nil:
		plain.Note = fmt.Sprintf("as %s: %v", f.name, err)
		return plain, nil
	case d == nil:
		plain.Note = f.same
		return plain, nil
	}
	return d, nil
}

// firstByte gives the offset of the first byte that is not the same, or -1.
func firstByte(a, b *io.SectionReader) (int64, error) {
	bufA, bufB := make([]byte, 256<<10), make([]byte, 256<<10)
	var offset int64
	for {
		na, err := a.ReadAt(bufA, offset)
		if err != nil && err != io.EOF {
			return 0, err
		}
		nb, err := b.ReadAt(bufB, offset)
		if err != nil && err != io.EOF {
			return 0, err
		}
		n := min(na, nb)
		if !bytes.Equal(bufA[:n], bufB[:n]) {
			for i := range n {
				if bufA[i] != bufB[i] {
					return offset + int64(i), nil
				}
			}
		}
		offset += int64(n)
		switch {
		case na != nb:
			return offset, nil
		case na < len(bufA):
			return -1, nil
		}
	}
}

// bytesAt is the difference of contents about which nothing else is known: the line if both are text, else the bytes.
func bytesAt(a, b *io.SectionReader, at int64) (*Difference, error) {
	if d, err := lines(a, b, at); err != nil || d != nil {
		return d, err
	}
	show := func(s *io.SectionReader) (string, error) {
		buf := make([]byte, shown/4)
		n, err := s.ReadAt(buf, at)
		if err != nil && err != io.EOF {
			return "", err
		}
		if n == 0 {
			return "the end", nil
		}
		return fmt.Sprintf("% x", buf[:n]), nil
	}
	textA, err := show(a)
	if err != nil {
		return nil, err
	}
	textB, err := show(b)
	if err != nil {
		return nil, err
	}
	return &Difference{What: fmt.Sprintf("byte %d", at), A: textA, B: textB}, nil
}

// field is the difference of two values, nil if they are the same.
func field[T comparable](name string, a, b T) *Difference {
	if a == b {
		return nil
	}
	d := &Difference{What: name}
	d.A, d.B = sides(fmt.Sprint(a), fmt.Sprint(b))
	return d
}

// first is the first difference that is one.
func first(all ...*Difference) *Difference {
	for _, d := range all {
		if d != nil {
			return d
		}
	}
	return nil
}

// sides shows two values that are not the same, each on one line: of long ones the part where they differ.
func sides(a, b string) (string, string) {
	common := 0
	for common < min(len(a), len(b)) && a[common] == b[common] {
		common++
	}
	skip := max(0, common-shown/2)
	show := func(s string) string {
		if skip == 0 || len(s) <= shown && len(a)+len(b) <= 2*shown {
			return quote(s)
		}
		return "…" + quote(strings.ToValidUTF8(s[skip:], ""))
	}
	return show(a), show(b)
}

// quote shows a value on one line, and a part of a long one.
func quote(s string) string {
	if s == "" {
		return "nothing"
	}
	if len(s) > shown {
		return fmt.Sprintf("%q…", strings.ToValidUTF8(s[:shown], ""))
	}
	if strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r == '"' || r == 0x7f || r == '\uFFFD' }) >= 0 {
		return fmt.Sprintf("%q", s)
	}
	return s
}
