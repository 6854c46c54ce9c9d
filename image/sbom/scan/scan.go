// Package scan reads layers once, as streams, and keeps of them what tells what is in an image: programs with what the
// Go linker wrote into them, the package manager's records, and images that lie in the image as files. Nothing is
// unpacked to disk; only a program is ever in memory as a whole.
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
	// depthLimit is how deep archives may lie in archives: image, archive of an image, layer, and some to spare.
	depthLimit = 6
)

// Archive is what a tar archive holds: a layer, or an archive of an image.
type Archive struct {
	// Files are all entries but directories, by path without a leading slash.
	Files map[string]*File
	// Whiteouts are paths that this layer removes from those below, with all that is under them.
	Whiteouts []string
	// Opaque are directories of which nothing from the layers below is left. "." is the root.
	Opaque []string
}

// File is one entry of an archive.
type File struct {
	Size int64
	// SHA256 is the hexadecimal digest of the content where one of the fields below is set, and of blobs.
	SHA256 string
	// Link is what a symbolic or hard link leads to, as the archive has it.
	Link string
	Hard bool
	// Text is the content of records: dpkg's, licences, an image's JSON documents.
	Text []byte
	// Program is set for what the kernel or the dynamic loader loads.
	Program *Program
	// Archive is set for tar archives, compressed or not.
	Archive    *Archive
	Compressed bool
}

// Program is an ELF file.
type Program struct {
	// Go is what the Go linker wrote into it; nil in a program that is not made with Go. Its module list is empty when the
	// program was not built by the go command.
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

// isTar tells by the first block whether something is a tar archive; an empty archive begins with its end, all zero.
func isTar(head []byte) bool {
	if len(head) < headSize {
		return false
	}
	return string(head[257:262]) == "ustar" || bytes.Count(head, []byte{0}) == headSize
}

const whiteout = ".wh."

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
			a.followHardLinks()
			return a, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, cut(err))
		}
		p := Clean(h.Name)
		if dir, base := path.Split(p); strings.HasPrefix(base, whiteout) {
			switch base = strings.TrimPrefix(base, whiteout); base {
			case ".wh..opq":
				a.Opaque = append(a.Opaque, path.Clean(dir))
			default:
				a.Whiteouts = append(a.Whiteouts, path.Join(dir, base))
			}
			continue
		}
		switch h.Typeflag {
		case tar.TypeDir, tar.TypeXGlobalHeader:
			continue
		case tar.TypeSymlink, tar.TypeLink:
			a.Files[p] = &File{Link: h.Linkname, Hard: h.Typeflag == tar.TypeLink}
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

// sparse is the error for a file whose holes are left out, which may pretend any size. No tool writes layers like this.
func sparse(archive, p string) error { return fmt.Errorf("/%s of %s is a sparse file", p, archive) }

// followHardLinks makes each hard link the file that it is another name of; tar has the first name's entry earlier.
func (a *Archive) followHardLinks() {
	for p, f := range a.Files {
		for range 8 {
			to := a.Files[Clean(f.Link)]
			if !f.Hard || to == nil {
				break
			}
			f = to
		}
		a.Files[p] = f
	}
}

// Clean is a path of an archive without a leading slash, and without dots that lead anywhere.
func Clean(p string) string { return strings.TrimPrefix(path.Clean("/"+p), "/") }

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
	compressed := compression.Of(head) != compression.None
	var err error
	switch {
	case bytes.HasPrefix(head, elfMagic):
		f.Program, err = program(what, size, content)
	case isRecord(p) || isDocument(p, head):
		f.Text, err = text(what, size, content)
	case isTar(head), blob && compressed:
		f.Compressed = compressed
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

// unpacked is the folder that a store of unpacked images has an image's layer in, laid out as containerd has it; the last one
// counts, since such an image may have a store of its own.
var unpacked = regexp.MustCompile("^.*/" + regexp.QuoteMeta(layout.Snapshots) + "/[0-9]+/" + layout.Files + "/")

// isRecord tells the files which say what is installed.
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

// isBlobName tells the names that image archives and layouts give to their parts.
func isBlobName(p string) bool {
	base := path.Base(p)
	return blobName.MatchString(base) || base == "layer.tar"
}

// isDocument tells the JSON documents of image archives and layouts.
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

// cut says in plain words that a stream ended too early.
func cut(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return errors.New("it is cut off")
	}
	return err
}

// Squash lays archives over each other, the lowest first, as a container sees them.
func Squash(archives []*Archive) map[string]*File {
	all := map[string]*File{}
	for _, a := range archives {
		hidden := map[string]bool{}
		for _, p := range a.Whiteouts {
			hidden[p] = true
		}
		for p := range a.Files {
			// A file takes the place of a directory.
			hidden[p] = true
		}
		for p := range all {
			if slices.Contains(a.Opaque, ".") || isUnder(p, hidden, a.Opaque) {
				delete(all, p)
			}
		}
		for p, f := range a.Files {
			all[p] = f
		}
	}
	return all
}

// isUnder says whether p is one of the hidden paths or under one, or under an opaque directory.
func isUnder(p string, hidden map[string]bool, opaque []string) bool {
	if hidden[p] {
		return true
	}
	for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
		if hidden[dir] || slices.Contains(opaque, dir) {
			return true
		}
	}
	return false
}
