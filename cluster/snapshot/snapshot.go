// Package snapshot keeps a whole cluster in one file.
//
// A snapshot has everything on the volume of the top-level container at one instant: the nodes'
// changes to their image, their volumes, what the inner Docker engine knows, and the cluster's state
// with its keys. The node image itself is not in it, so a snapshot needs the very image of
// dind-cluster that it was made with. What comes of it is what the volume would be after a power
// failure at that instant, with everything on the disk.
//
// The file is a tar archive. Its first member is the Manifest, as JSON; each further one, a part, is
// a tar archive of some of the files, compressed with zstd. Parts are independent of each other, so
// that they are written and read in parallel: the first one has the directories, symbolic links and
// devices, the others have files. All of it can be looked at with tar and zstd.
package snapshot

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"golang.org/x/sync/errgroup"
)

const (
	// format changes whenever earlier versions cannot read the file.
	format = 1
	// manifestName is the name of the first member.
	manifestName = "snapshot.json"
	// maxManifest bounds what is read before anything is known.
	maxManifest = 16 << 20
)

// Manifest is what a snapshot says of itself.
type Manifest struct {
	// Format is the version of the file format.
	Format int `json:"format"`
	// ID is the snapshot's own: 32 hexadecimal digits.
	ID      string    `json:"id"`
	Created time.Time `json:"created"`
	// Version is that of dind-cluster, and Kubernetes that of the API server.
	Version    string `json:"version"`
	Kubernetes string `json:"kubernetes,omitempty"`
	// Architecture is Go's word for it: amd64.
	Architecture string `json:"architecture"`
	// Image is the image of the top-level container, as its user called it, if that is known.
	Image string `json:"image,omitempty"`
	// NodeImage names the node image, and Store identifies its files: store.Identity.
	NodeImage string `json:"nodeImage"`
	Store     string `json:"store"`
	// Linked reports whether the volume has links to the node image's files: see package store.
	Linked bool `json:"linked"`
	// Settings are the cluster's.
	Settings v1alpha1.Cluster `json:"settings"`

	// Files counts the files, Bytes is their length in all, and Disk how much of the disk they took.
	Files int   `json:"files"`
	Bytes int64 `json:"bytes"`
	Disk  int64 `json:"disk"`
	// Parts are the members that follow.
	Parts []Part `json:"parts"`
	// Stale has the paths of files that are in an early part, and changed afterwards. They are in
	// another part, too, or were removed.
	Stale []string `json:"stale,omitempty"`
}

// Part is one member of the file.
type Part struct {
	Name string `json:"name"`
	// Size is its length in the file, in bytes, and SHA256 its digest there, in hexadecimal.
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
	// Early reports whether it was made before everything stood still, of files that had not been
	// written to for a while.
	Early bool `json:"early,omitempty"`
}

// Fit is what a snapshot has to fit.
type Fit struct {
	Version string
	// Store is store.Identity of the image's own files.
	Store string
	// Unlinked is the reason that a volume here cannot have links to the node image's files; nil if
	// it can.
	Unlinked error
}

// Check returns an error unless the snapshot can be restored here: one with all reasons.
func (m Manifest) Check(here Fit) error {
	var errs []error
	if m.Architecture != runtime.GOARCH {
		errs = append(errs, fmt.Errorf("it was made on another architecture, %s, and this is %s", m.Architecture, runtime.GOARCH))
	} else if m.Store != here.Store {
		made := ""
		if m.Image != "" {
			made = ", " + m.Image
		}
		errs = append(errs, fmt.Errorf("it was made with another image%s (dind-cluster %s, %s), and this one is of dind-cluster %s: start a container of the image that made it",
			made, m.Version, m.NodeImage, here.Version))
	}
	if m.Linked && here.Unlinked != nil {
		errs = append(errs, fmt.Errorf("its nodes share the files of their image, which is not possible here: %w", here.Unlinked))
	}
	return errors.Join(errs...)
}

// File is a snapshot that can be restored.
type File struct {
	Manifest Manifest
	file     *os.File
	parts    []*io.SectionReader
}

// ErrNone means that there is no snapshot.
var ErrNone = errors.New("there is no snapshot")

// Open opens a snapshot, and refuses one that is not whole. If there is no such file, the error wraps
// ErrNone.
func Open(path string) (*File, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrNone
	}
	if err != nil {
		return nil, fmt.Errorf("reading the snapshot: %w", err)
	}
	s, err := open(f)
	if err != nil {
		f.Close()
		if errors.Is(err, syscall.EISDIR) {
			return nil, fmt.Errorf("%s is a directory, as Docker makes one where the Docker host has no such file: give docker run --volume the path of a snapshot", path)
		}
		return nil, fmt.Errorf("the snapshot %s: %w", path, err)
	}
	return s, nil
}

// Close closes the file.
func (f *File) Close() error { return f.file.Close() }

func open(f *os.File) (*File, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, syscall.EISDIR
	}
	in := io.NewSectionReader(f, 0, info.Size())
	archive := tar.NewReader(in)
	m, err := readManifest(archive)
	if err != nil {
		return nil, err
	}
	s := &File{Manifest: m, file: f}
	for _, p := range m.Parts {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, cutOff(info.Size())
		}
		if err != nil {
			return nil, err
		}
		if header.Name != p.Name || header.Size != p.Size {
			return nil, fmt.Errorf("it is damaged: it has %q of %d bytes where %q of %d should be", header.Name, header.Size, p.Name, p.Size)
		}
		begin, err := in.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		if begin+p.Size > info.Size() {
			return nil, cutOff(info.Size())
		}
		s.parts = append(s.parts, io.NewSectionReader(f, begin, p.Size))
	}
	return s, nil
}

func cutOff(size int64) error {
	return fmt.Errorf("it is cut off after %d bytes: copy it anew, or make another one", size)
}

// ReadManifest reads the manifest at the beginning of a snapshot.
func ReadManifest(r io.Reader) (Manifest, error) { return readManifest(tar.NewReader(r)) }

func readManifest(archive *tar.Reader) (Manifest, error) {
	var m Manifest
	header, err := archive.Next()
	if errors.Is(err, io.EOF) {
		return m, errors.New("it is empty")
	}
	if err != nil || header.Name != manifestName {
		return m, errors.New("it is not a snapshot of a cluster")
	}
	if header.Size > maxManifest {
		return m, fmt.Errorf("it is damaged: its manifest has %d bytes", header.Size)
	}
	data, err := io.ReadAll(archive)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return m, errors.New("it is cut off in its first lines")
	}
	if err != nil {
		return m, err
	}
	var version struct{ Format int }
	if err := json.Unmarshal(data, &version); err != nil {
		return m, fmt.Errorf("it is damaged: reading its manifest: %w", err)
	}
	if version.Format != format {
		return m, fmt.Errorf("it has version %d of the format, and this dind-cluster reads version %d: restore it with the image that made it", version.Format, format)
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return m, fmt.Errorf("it is damaged: reading its manifest: %w", err)
	}
	if m.ID == "" || m.Store == "" || len(m.Parts) == 0 {
		return m, errors.New("it is damaged: its manifest lacks the ID, the node image or the parts")
	}
	return m, nil
}

// Size returns how long the parts are in all.
func (m Manifest) Size() int64 {
	var n int64
	for _, p := range m.Parts {
		n += p.Size
	}
	return n
}

// Verify reads all of the file and compares the digests.
func (f *File) Verify(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(workers())
	for i, p := range f.Manifest.Parts {
		group.Go(func() error {
			hash := sha256.New()
			if _, err := io.Copy(hash, contextReader{ctx, io.NewSectionReader(f.parts[i], 0, p.Size)}); err != nil {
				return fmt.Errorf("the snapshot %s: %w", f.file.Name(), err)
			}
			if got := hex.EncodeToString(hash.Sum(nil)); got != p.SHA256 {
				return fmt.Errorf("the snapshot %s is damaged: part %s has the digest %s, not %s: copy it anew, or make another one", f.file.Name(), p.Name, got, p.SHA256)
			}
			return nil
		})
	}
	return group.Wait()
}

// workers is how many parts are worked on at a time.
func workers() int { return min(max(2, runtime.NumCPU()), 8) }

// contextReader ends with an error when its context does.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}

// xattrPrefix is that of the PAX records with a file's extended attributes, which GNU tar and
// bsdtar have, too.
const xattrPrefix = "SCHILY.xattr."

// writeDocument writes a Manifest where it is read by people, too.
func writeDocument(m Manifest) ([]byte, error) {
	var out strings.Builder
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	err := enc.Encode(m)
	return []byte(out.String()), err
}
