package layer

import (
	"archive/tar"
	"bufio"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"slices"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"

	"github.com/dind-cluster/dind-cluster/image/jsonfile"
	"github.com/dind-cluster/dind-cluster/image/tree"
)

// Media types of layers. They are the OCI's, since only the OCI's manifests have annotations.
const (
	MediaTypeZstd         = "application/vnd.oci.image.layer.v1.tar+zstd"
	MediaTypeGzip         = "application/vnd.oci.image.layer.v1.tar+gzip"
	MediaTypeUncompressed = "application/vnd.oci.image.layer.v1.tar"
)

const (
	// zstdLevel is the encoder's best level, about level 11 of zstd itself
	// (https://pkg.go.dev/github.com/klauspost/compress/zstd#EncoderLevel). The encoder's version
	// is locked and its output is the same for any number of cores: TestDeterminism.
	zstdLevel = zstd.SpeedBestCompression
	// zstdWindow is how far back, in bytes, a match may lie: far enough to find in one of
	// Kubernetes' programs what another one has, which makes a layer of them a quarter smaller than
	// with 8 MiB. It is the most that zstd accepts without --long or --memory
	// (ZSTD_WINDOWLOG_LIMIT_DEFAULT, https://github.com/facebook/zstd/blob/v1.5.7/lib/zstd.h); the
	// decoder of Docker, containerd and Podman accepts four times that.
	zstdWindow = 128 << 20
	// gzipLevel is the highest level that is worth its time: the next one takes a third longer for
	// 1 % less.
	gzipLevel = 5
	// gzipBlock is what one core compresses at a time, in bytes. Only this number decides where
	// blocks end, so the output does not depend on the number of cores.
	gzipBlock = 1 << 20
)

// Metadata describes a written layer.
type Metadata struct {
	Name      string `json:"name"`
	MediaType string `json:"mediaType"`
	// Digest and Size are of the blob, DiffID and TarSize of the tar archive in it.
	Digest  string `json:"digest"`
	Size    int64  `json:"size"`
	DiffID  string `json:"diffID"`
	TarSize int64  `json:"tarSize"`
}

// ReadMetadata reads a metadata file.
func ReadMetadata(path string) (*Metadata, error) {
	return jsonfile.Read[Metadata]("layer metadata", path)
}

// counter counts and sums what is written through it.
type counter struct {
	w   io.Writer
	sum hash.Hash
	n   int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.sum.Write(p[:n])
	c.n += int64(n)
	return n, err
}

func (c *counter) digest() string { return "sha256:" + hex.EncodeToString(c.sum.Sum(nil)) }

// WriteBlob writes entries, which come sorted by path, as a layer blob. Of the spec, its name and
// compression count.
func WriteBlob(w io.Writer, entries []*tree.Entry, spec *Spec) (*Metadata, error) {
	m := &Metadata{Name: spec.Name}
	blob := &counter{w: w, sum: sha256.New()}
	plain := &counter{w: blob, sum: sha256.New()}
	var closer io.Closer
	switch spec.Compression {
	case "", "zstd":
		m.MediaType = MediaTypeZstd
		z, err := zstd.NewWriter(blob, zstd.WithEncoderLevel(zstdLevel), zstd.WithWindowSize(zstdWindow))
		if err != nil {
			return nil, err
		}
		plain.w, closer = z, z
	case "gzip":
		m.MediaType = MediaTypeGzip
		z, err := pgzip.NewWriterLevel(blob, gzipLevel)
		if err != nil {
			return nil, err
		}
		if err := z.SetConcurrency(gzipBlock, 8); err != nil {
			return nil, err
		}
		plain.w, closer = z, z
	case "none":
		m.MediaType = MediaTypeUncompressed
	default:
		return nil, fmt.Errorf("unknown compression %q, it can be zstd, gzip or none", spec.Compression)
	}
	buffered := bufio.NewWriterSize(plain, 256<<10)
	if err := WriteTar(buffered, entries); err != nil {
		return nil, err
	}
	if err := buffered.Flush(); err != nil {
		return nil, err
	}
	if closer != nil {
		if err := closer.Close(); err != nil {
			return nil, err
		}
	}
	m.Digest, m.Size = blob.digest(), blob.n
	m.DiffID, m.TarSize = plain.digest(), plain.n
	return m, nil
}

// inOrder returns entries, which are sorted by path, in the order of an archive: directories and
// what else has no content, then files by size. Programs from the same source are of similar size.
// Side by side they lie within the compression's window, which makes a layer of Kubernetes'
// programs 5 % smaller than the order of their paths does.
func inOrder(entries []*tree.Entry) []*tree.Entry {
	size := func(e *tree.Entry) int64 {
		if e.Type == tar.TypeReg {
			return e.Size
		}
		return -1
	}
	ordered := slices.Clone(entries)
	slices.SortStableFunc(ordered, func(a, b *tree.Entry) int { return cmp.Compare(size(a), size(b)) })
	return ordered
}

// WriteTar writes entries, which come sorted by path, as a tar archive with numeric owners:
// directories first, then files by size. What has no time gets that of all files in our images, the
// epoch. Its format is USTAR wherever that suffices.
func WriteTar(w io.Writer, entries []*tree.Entry) error {
	tw := tar.NewWriter(w)
	written := map[string]string{} // inode to path
	for _, e := range inOrder(entries) {
		if e.Path == "" {
			continue
		}
		hdr := &tar.Header{
			Typeflag: e.Type, Name: e.Path, Mode: e.Mode, Uid: e.UID, Gid: e.GID, ModTime: e.ModTime,
			Linkname: e.Link, Devmajor: e.Major, Devminor: e.Minor,
		}
		if e.IsDir() {
			hdr.Name += "/"
		}
		if e.ModTime.IsZero() {
			hdr.ModTime = time.Unix(0, 0)
		}
		for name, value := range e.Xattrs {
			if hdr.PAXRecords == nil {
				hdr.PAXRecords = map[string]string{}
			}
			hdr.PAXRecords["SCHILY.xattr."+name] = string(value)
		}
		if first, ok := written[e.Inode]; ok && e.Inode != "" {
			hdr.Typeflag, hdr.Linkname = tar.TypeLink, first
		} else if e.Type == tar.TypeReg {
			hdr.Size = e.Size
			if e.Inode != "" {
				written[e.Inode] = e.Path
			}
		}
		if err := tw.WriteHeader(hdr); err != nil {
			return fmt.Errorf("/%s: %w", e.Path, err)
		}
		if hdr.Typeflag == tar.TypeReg {
			if err := copyContent(tw, e); err != nil {
				return fmt.Errorf("/%s: %w", e.Path, err)
			}
		}
	}
	return tw.Close()
}

func copyContent(w io.Writer, e *tree.Entry) error {
	r, err := e.Content()
	if err != nil {
		return err
	}
	defer r.Close()
	n, err := io.Copy(w, r)
	if err == nil && n != e.Size {
		err = fmt.Errorf("has %d bytes, not the %d it had a moment ago", n, e.Size)
	}
	return err
}
