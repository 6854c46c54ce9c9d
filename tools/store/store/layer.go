package store

import (
	"archive/tar"
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/pgzip"

	"github.com/dind-cluster/dind-cluster/tools/imager/layer"
	"github.com/dind-cluster/dind-cluster/tools/store/snapshot"
)

// Compression, as that of all layers: see tools/imager/layer. Blocks of one size make the bytes the same on any number of cores.
const (
	gzipLevel = 5
	gzipBlock = 1 << 20
)

// WriteLayer writes a tree as a compressed layer. The name is for the image's history.
func WriteLayer(w io.Writer, name string, t snapshot.Tree) (*layer.Metadata, error) {
	blob := &counter{w: w, sum: sha256.New()}
	z, err := pgzip.NewWriterLevel(blob, gzipLevel)
	if err != nil {
		return nil, err
	}
	if err := z.SetConcurrency(gzipBlock, 8); err != nil {
		return nil, err
	}
	plain := &counter{w: z, sum: sha256.New()}
	buffered := bufio.NewWriterSize(plain, 256<<10)
	if err := WriteTar(buffered, t); err != nil {
		return nil, err
	}
	if err := buffered.Flush(); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return &layer.Metadata{
		Name: name, MediaType: layer.MediaTypeGzip,
		Digest: blob.digest(), Size: blob.n, DiffID: plain.digest(), TarSize: plain.n,
	}, nil
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

// WriteTar writes a tree as a tar archive, in USTAR wherever that suffices.
func WriteTar(w io.Writer, t snapshot.Tree) error {
	tw := tar.NewWriter(w)
	written := map[string]string{} // inode to path
	for _, e := range t.Sorted() {
		if e.Path == "" {
			continue
		}
		if err := writeEntry(tw, e, written); err != nil {
			return fmt.Errorf("/%s: %w", e.Path, err)
		}
	}
	return tw.Close()
}

func writeEntry(tw *tar.Writer, e *snapshot.Entry, written map[string]string) error {
	hdr := &tar.Header{
		Typeflag: e.Type, Name: e.Path, Mode: e.Mode, Uid: e.UID, Gid: e.GID, ModTime: e.ModTime,
		Linkname: e.Link, Devmajor: e.Major, Devminor: e.Minor,
	}
	if e.IsDir() {
		hdr.Name += "/"
	}
	for name, value := range e.Xattrs {
		if hdr.PAXRecords == nil {
			hdr.PAXRecords = map[string]string{}
		}
		hdr.PAXRecords["SCHILY.xattr."+name] = string(value)
	}
	if first, ok := written[e.Inode]; ok && e.Inode != "" {
		hdr.Typeflag, hdr.Linkname, hdr.PAXRecords = tar.TypeLink, first, nil
		return tw.WriteHeader(hdr)
	}
	if e.Inode != "" {
		written[e.Inode] = e.Path
	}
	if e.Type == tar.TypeReg {
		hdr.Size = e.Size
	}
	if err := tw.WriteHeader(hdr); err != nil || e.Type != tar.TypeReg {
		return err
	}
	r, err := e.Content()
	if err != nil {
		return err
	}
	defer r.Close()
	n, err := io.Copy(tw, r)
	if err == nil && n != e.Size {
		err = fmt.Errorf("has %d bytes, not the %d it had a moment ago", n, e.Size)
	}
	return err
}
