// Package archive reads sets of container images in the forms in use: docker-save archives, OCI
// archives (plain, gzip or zstd compressed) and OCI layout directories, from a file or from a
// stream. All content is compared with the digest in the image's manifest or config.
//
// An uncompressed archive is indexed once by its headers, and its blobs are read in place. A stream
// or a compressed archive is first spooled, uncompressed, to an unnamed temporary file.
package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"

	"github.com/dind-cluster/dind-cluster/internal/compression"
)

// Archive is an open set of images. Close it after its layers have been read.
type Archive struct {
	// Name is a path, or "standard input".
	Name string
	// Images are those for the chosen platform, in the archive's order: one of each image that is
	// there for several platforms.
	Images []*Image

	file *os.File // the uncompressed archive, or the layout directory
	root *os.Root // the layout directory
}

// File returns a file from which the archive can be opened again: an uncompressed archive, possibly
// without a name, or an OCI layout directory. Archive.Close closes it, and its position means
// nothing.
func (a *Archive) File() *os.File { return a.file }

// Image is one image of an archive. Its manifest and config have been verified when it exists; its
// layers are verified as they are read.
type Image struct {
	v1.Image
	// Names are the image's references, normalised: docker.io/library/debian:trixie for
	// debian:trixie. There may be none. A digest in a name is one of Digests.
	Names []string
	// Indexes lead to the image's manifest, the outermost first: an image for several platforms has
	// one, others have none.
	Indexes []Index
	// Made reports that the archive has no manifest, as those of docker save before Docker 25, and
	// that this one was made from what it has: no registry knows its digest.
	Made bool

	layers []*Layer
}

// Index is an index of manifests as the archive has it.
type Index struct {
	MediaType types.MediaType
	Digest    v1.Hash
	Raw       []byte
}

// Digests returns the digests by which a registry knows the image: of the outermost index, of those
// in it and of the manifest. There are none for an image whose manifest was made here.
func (i *Image) Digests() []v1.Hash {
	if i.Made {
		return nil
	}
	var out []v1.Hash
	for _, x := range i.Indexes {
		out = append(out, x.Digest)
	}
	digest, err := i.Digest()
	if err != nil {
		return nil // impossible: the manifest has been parsed
	}
	return append(out, digest)
}

// Pinned returns the image's first name with the digest that a pod can ask for, or a remark where
// there is none.
func (i *Image) Pinned() string {
	name, _, _ := strings.Cut(i.String(), "@")
	switch d := i.Digests(); {
	case len(i.Names) == 0:
		return name
	case len(d) == 0:
		return name + ", by name only, for the archive has no manifest"
	default:
		return name + "@" + d[0].String()
	}
}

// CheckNames returns an error if a name has a digest that is not the image's.
func (i *Image) CheckNames(names []string) error {
	for _, n := range names {
		_, want, ok := strings.Cut(n, "@")
		if !ok || slices.ContainsFunc(i.Digests(), func(h v1.Hash) bool { return h.String() == want }) {
			continue
		}
		if i.Made {
			return fmt.Errorf("the name %s says %s, but the archive has no manifest whose digest that could be", n, want)
		}
		var have []string
		for _, h := range i.Digests() {
			have = append(have, h.String())
		}
		return fmt.Errorf("the name %s says %s, but the content is %s", n, want, strings.Join(have, " in "))
	}
	return nil
}

// Blobs returns the image's layers, the lowest first.
func (i *Image) Blobs() []*Layer { return i.layers }

// String returns the image's first name, or its ID when it has none.
func (i *Image) String() string {
	if len(i.Names) > 0 {
		return i.Names[0]
	}
	id, _ := i.ConfigName()
	return id.String()
}

// LayerSize returns the size of the image's layers in the archive, in bytes.
func (i *Image) LayerSize() (n int64) {
	for _, l := range i.layers {
		n += l.blob.Size
	}
	return n
}

// Options control how an archive is opened. The zero value is usable.
type Options struct {
	// Name names the archive in messages; its path if empty.
	Name string
	// SpoolDir is the directory for the temporary file of a stream; TMPDIR or /var/tmp if empty.
	SpoolDir string
	// Platform selects from images for several platforms; this machine's if nil.
	Platform *v1.Platform
	// AllPlatforms selects the images for all platforms; they have the same name.
	AllPlatforms bool
}

func (o Options) spoolDir() string {
	if o.SpoolDir != "" {
		return o.SpoolDir
	}
	if dir := os.Getenv("TMPDIR"); dir != "" {
		return dir
	}
	return "/var/tmp" // on disk; /tmp is often memory
}

// Open opens the archive file or OCI layout directory at path.
func Open(ctx context.Context, path string, o Options) (*Archive, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	name := path
	if o.Name != "" {
		name = o.Name
	}
	if info.IsDir() {
		root, err := os.OpenRoot(path)
		if err != nil {
			f.Close()
			return nil, err
		}
		return open(&Archive{Name: name, file: f, root: root}, directory{root}, o)
	}
	return openFile(ctx, name, f, o)
}

// Read opens the archive that r delivers. The name is for messages.
func Read(ctx context.Context, name string, r io.Reader, o Options) (*Archive, error) {
	if f, ok := r.(*os.File); ok {
		return openFile(ctx, name, f, o)
	}
	return spooled(ctx, name, r, o)
}

// openFile reads a regular, uncompressed file in place, and spools everything else. It closes the
// file, at the latest with the archive.
func openFile(ctx context.Context, name string, f *os.File, o Options) (*Archive, error) {
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	if info.Mode().IsRegular() {
		if start, err := f.Seek(0, io.SeekCurrent); err == nil && start == 0 {
			head := make([]byte, compression.HeadSize)
			n, err := f.ReadAt(head, 0)
			if err != nil && err != io.EOF {
				f.Close()
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			if compression.Of(head[:n]) == "" && n > 0 {
				return openTar(name, f, info.Size(), o)
			}
		}
	}
	defer f.Close()
	return spooled(ctx, name, f, o)
}

// openTar indexes an uncompressed archive. It closes the file, at the latest with the archive.
func openTar(name string, f *os.File, size int64, o Options) (*Archive, error) {
	files, err := indexTar(name, f, size)
	if err != nil {
		f.Close()
		return nil, err
	}
	return open(&Archive{Name: name, file: f}, files, o)
}

// open finds the archive's images. It closes an archive that is not good.
func open(a *Archive, files Files, o Options) (*Archive, error) {
	images, err := Images(a.Name, files, o)
	if err != nil {
		a.Close()
		return nil, err
	}
	a.Images = images
	return a, nil
}

// Images finds the images in the files of an archive. The name is for messages.
func Images(name string, files Files, o Options) ([]*Image, error) {
	r := &reader{archive: name, files: files, all: o.AllPlatforms}
	r.platform, r.matches = o.platform()
	return r.images()
}

// Close releases the archive's file.
func (a *Archive) Close() error {
	err := a.file.Close()
	if a.root != nil {
		err = errors.Join(err, a.root.Close())
	}
	return err
}

// Verify reads every layer and compares its digests, a few layers at a time. Use it before an
// action that cannot be undone; a reader of all layers needs no Verify.
func (a *Archive) Verify(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	seen := map[v1.Hash]bool{}
	for _, img := range a.Images {
		for _, l := range img.layers {
			if !seen[l.diffID] {
				seen[l.diffID] = true
				g.Go(func() error { return l.Verify(ctx) })
			}
		}
	}
	return g.Wait()
}

// DigestError reports that a blob's content is not what the image promised.
type DigestError struct {
	Archive string
	// Blob names the blob by its path in the archive.
	Blob string
	// Promise names the source of the wanted digest.
	Promise   string
	Want, Got v1.Hash
}

func (e *DigestError) Error() string {
	return fmt.Sprintf("%s: %s is damaged: its digest is %s, but %s says %s", e.Archive, e.Blob, e.Got, e.Promise, e.Want)
}

// TruncatedError reports that an archive ends too early.
type TruncatedError struct {
	Archive string
	// Where names what the archive ends in.
	Where string
}

func (e *TruncatedError) Error() string {
	return fmt.Sprintf("%s is truncated: it ends in %s", e.Archive, e.Where)
}

// Is makes a TruncatedError an io.ErrUnexpectedEOF.
func (e *TruncatedError) Is(target error) bool { return target == io.ErrUnexpectedEOF }

// MissingError reports that an archive lacks a blob that one of its images needs.
type MissingError struct {
	Archive string
	Blob    string
	Want    v1.Hash // zero if the archive names the blob by its path only
}

func (e *MissingError) Error() string {
	if e.Want != (v1.Hash{}) {
		return fmt.Sprintf("%s is incomplete: %s (%s) is missing", e.Archive, e.Blob, e.Want)
	}
	return fmt.Sprintf("%s is incomplete: %s is missing", e.Archive, e.Blob)
}

// ErrNotArchive reports that a file is not an archive of images.
var ErrNotArchive = errors.New("not an image archive")

// ErrNoImage reports that an archive of images has none.
var ErrNoImage = errors.New("has no image in it")

// ErrEmpty reports that an archive has not a single byte.
var ErrEmpty = fmt.Errorf("is empty, so it is %w", ErrNotArchive)
