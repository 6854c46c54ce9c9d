// Package scan reads layers once, as streams, and keeps what an inventory needs: programs with
// their Go build information, the package manager's records, and images that are in the image as
// files. Nothing is unpacked to disk; only a program is ever in memory as a whole.
package scan

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/dind-cluster/dind-cluster/image/rootfs"
	"github.com/dind-cluster/dind-cluster/image/store/layout"
	"github.com/dind-cluster/dind-cluster/internal/compression"
)

const (
	// headSize is a tar archive's first block, by which all kinds of files are told apart.
	headSize = 512
	// textLimit is the largest text that is kept; dpkg's status is 0.2 MB.
	textLimit = 16 << 20
	// programLimit is the largest program that is looked into. The largest known has 0.2 GB.
	programLimit = 2 << 30
	// depthLimit is how deep archives may be nested: image, archive of an image, layer, and some
	// more.
	depthLimit = 6
)

// Archive is what a tar archive holds: a layer, or an archive of an image.
type Archive struct {
	// Files are all entries but directories, by path without a leading slash.
	Files map[string]*File
	// Whiteouts are paths that this layer removes from those below, with all that is under them.
	Whiteouts []string
	// Opaque are directories of which nothing from the layers below is left. "" is the root.
	Opaque []string
}

// File is one entry of an archive.
type File struct {
	Size int64
	// SHA256 is the hexadecimal digest of the content where one of the fields below is set, and of
	// blobs.
	SHA256 string
	// Link is what a symbolic link leads to, as the archive has it.
	Link string
	// Text is the content of records: dpkg's, licences, an image's JSON documents.
	Text []byte
	// Program is set for ELF files.
	Program *Program
	// Archive is set for tar archives, and Compression is what they are compressed with.
	Archive     *Archive
	Compression string
}

// Program is an ELF file.
type Program struct {
	// Go is its build information; nil for a program that is not written in Go. Its module list is
	// empty when the program was not built by the go command.
	Go *debug.BuildInfo
}

// Blob reads a layer, compressed or not, to its very end. The name is for messages.
func Blob(ctx context.Context, name string, r io.Reader) (*Archive, error) {
	s := &scanner{ctx: ctx}
	a, err := s.blob(name, r)
	if err != nil {
		return nil, err
	}
	if a == nil {
		return nil, fmt.Errorf("%s is not a tar archive, compressed or not", name)
	}
	return a, nil
}

type scanner struct {
	ctx   context.Context
	depth int
}

// blob reads an archive that may be compressed, or returns nil if it is something else.
func (s *scanner) blob(name string, r io.Reader) (*Archive, error) {
	in := bufio.NewReaderSize(r, 1<<16)
	plain, err := compression.Detect(in)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	defer plain.Close()
	content := bufio.NewReaderSize(plain, 1<<16)
	head, err := content.Peek(headSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if !isTar(head) {
		_, err := io.Copy(io.Discard, content)
		return nil, err
	}
	a, err := s.tar(name, content)
	if err != nil {
		return nil, err
	}
	// What follows the archive's end belongs to the digest too.
	for _, rest := range []io.Reader{content, in} {
		if _, err := io.Copy(io.Discard, rest); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return a, nil
}

var elfMagic = []byte("\x7fELF")

// isTar reports whether the first block is that of a tar archive. An empty archive begins with its
// end, all zero.
func isTar(head []byte) bool {
	if len(head) < headSize {
		return false
	}
	return string(head[257:262]) == "ustar" || bytes.Count(head, []byte{0}) == headSize
}

func (s *scanner) tar(name string, r io.Reader) (*Archive, error) {
	if s.depth++; s.depth > depthLimit {
		return nil, fmt.Errorf("%s: archives lie in archives more than %d deep", name, depthLimit)
	}
	defer func() { s.depth-- }()
	a := &Archive{Files: map[string]*File{}}
	tr := tar.NewReader(r)
	for {
		if err := s.ctx.Err(); err != nil {
			return nil, context.Cause(s.ctx)
		}
		h, err := tr.Next()
		if err == io.EOF {
			return a, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, cut(err))
		}
		p := rootfs.Clean(h.Name)
		if removed, all, ok := rootfs.Whiteout(p); ok {
			if all {
				a.Opaque = append(a.Opaque, removed)
			} else {
				a.Whiteouts = append(a.Whiteouts, rootfs.Clean(removed))
			}
			continue
		}
		if h.Typeflag == tar.TypeDir || h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if p == "" {
			return nil, fmt.Errorf("%s: the entry %q stands where the root directory is, and is none", name, h.Name)
		}
		switch h.Typeflag {
		case tar.TypeSymlink:
			a.Files[p] = &File{Link: h.Linkname}
		case tar.TypeLink:
			// Another name of a file whose entry comes earlier, or of a lower layer's.
			first := rootfs.Clean(h.Linkname)
			if a.Files[p] = a.Files[first]; a.Files[p] == nil {
				a.Files[p] = &File{Link: "/" + first}
			}
		case tar.TypeGNUSparse:
			return nil, sparse(name, p)
		case tar.TypeReg:
			for record := range h.PAXRecords {
				if strings.HasPrefix(record, "GNU.sparse.") {
					return nil, sparse(name, p)
				}
			}
			f, err := s.file(name, p, h.Size, tr)
			if err != nil {
				return nil, err
			}
			a.Files[p] = f
		default:
			a.Files[p] = &File{}
		}
	}
}

// sparse returns the error for a sparse file, which may claim any size. No tool writes layers like
// this.
func sparse(archive, p string) error { return fmt.Errorf("/%s of %s is a sparse file", p, archive) }

func (s *scanner) file(archive, p string, size int64, r io.Reader) (*File, error) {
	f := &File{Size: size}
	what := fmt.Sprintf("/%s of %s", p, archive)
	head := make([]byte, min(size, headSize))
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, fmt.Errorf("%s: %w", what, cut(err))
	}
	sum := sha256.New()
	content := io.TeeReader(io.MultiReader(bytes.NewReader(head), r), sum)
	blob := isBlobName(p)
	format := compression.Of(head)
	var err error
	switch {
	case bytes.HasPrefix(head, elfMagic):
		f.Program, err = program(what, size, content)
	case isRecord(p) || isDocument(p, head):
		f.Text, err = text(what, size, content)
	case isTar(head), blob && format != compression.None:
		f.Compression = format
		f.Archive, err = s.blob(what, content)
	case !blob:
		return f, nil
	}
	if err == nil {
		_, err = io.Copy(io.Discard, content)
		err = cut(err)
	}
	if err != nil {
		return nil, err
	}
	f.SHA256 = hex.EncodeToString(sum.Sum(nil))
	return f, nil
}

func text(what string, size int64, r io.Reader) ([]byte, error) {
	if size > textLimit {
		return nil, fmt.Errorf("%s has %d bytes, and at most %d are read of such a file", what, size, textLimit)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, cut(err))
	}
	return b, nil
}

// unpacked is the directory that a store of unpacked images has an image's layer in, laid out as
// containerd has it; the last one counts, since such an image may have a store of its own.
var unpacked = regexp.MustCompile("^.*/" + regexp.QuoteMeta(layout.Snapshots) + "/[0-9]+/" + layout.Files + "/")

// isRecord reports whether a file says what is installed.
func isRecord(p string) bool {
	p = p[len(unpacked.FindString(p)):]
	switch p {
	case "var/lib/dpkg/status", "usr/lib/os-release", "etc/os-release":
		return true
	}
	dir, base := path.Split(p)
	switch dir {
	case "var/lib/dpkg/info/":
		return strings.HasSuffix(base, ".list")
	case "var/lib/dpkg/status.d/":
		return true
	}
	return base == "copyright" && path.Dir(path.Clean(dir)) == "usr/share/doc"
}

var blobName = regexp.MustCompile(`^(sha256:)?[0-9a-f]{64}(\.json|\.tar(\.gz|\.zst)?)?$`)

// isBlobName reports whether image archives and layouts use such a name for their parts.
func isBlobName(p string) bool {
	base := path.Base(p)
	return blobName.MatchString(base) || base == "layer.tar"
}

// isDocument reports whether a file is a JSON document of an image archive or layout.
func isDocument(p string, head []byte) bool {
	switch path.Base(p) {
	case "index.json", "manifest.json", "oci-layout":
	default:
		if !isBlobName(p) {
			return false
		}
	}
	start := bytes.TrimLeft(head, " \t\r\n")
	return len(start) > 0 && (start[0] == '{' || start[0] == '[')
}

// cut replaces the error of a stream that ended too early.
func cut(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return errors.New("it is cut off")
	}
	return err
}

// Squash returns the files of layers, the lowest first, as a container sees them.
func Squash(archives []*Archive) map[string]*File {
	all := map[string]*File{}
	for _, a := range archives {
		hidden := map[string]bool{}
		for _, p := range a.Whiteouts {
			hidden[p] = true
		}
		for p := range a.Files {
			// A file replaces a directory.
			hidden[p] = true
		}
		for p := range all {
			if isUnder(p, hidden, a.Opaque) {
				delete(all, p)
			}
		}
		for p, f := range a.Files {
			all[p] = f
		}
	}
	return all
}

// isUnder reports whether p is one of the hidden paths or under one, or under an opaque directory.
func isUnder(p string, hidden map[string]bool, opaque []string) bool {
	if hidden[p] {
		return true
	}
	for dir := p; dir != ""; {
		dir = rootfs.Dir(dir)
		if hidden[dir] || slices.Contains(opaque, dir) {
			return true
		}
	}
	return false
}
