package archive

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/dind-cluster/dind-cluster/image/rootfs"
)

// Layer is a layer as the archive holds it, compressed or not. It implements v1.Layer.
type Layer struct {
	archive     string
	blob        *Blob
	digest      v1.Hash
	diffID      v1.Hash
	mediaType   types.MediaType
	compression string // "", "gzip" or "zstd", by what the blob begins with
}

var _ v1.Layer = (*Layer)(nil)

// Digest implements v1.Layer: the digest of the blob as it is stored.
func (l *Layer) Digest() (v1.Hash, error) { return l.digest, nil }

// DiffID implements v1.Layer: the digest of the uncompressed tar.
func (l *Layer) DiffID() (v1.Hash, error) { return l.diffID, nil }

// Name returns the path of the layer in the archive.
func (l *Layer) Name() string { return l.blob.Name }

// Size implements v1.Layer.
func (l *Layer) Size() (int64, error) { return l.blob.Size, nil }

// MediaType implements v1.Layer.
func (l *Layer) MediaType() (types.MediaType, error) { return l.mediaType, nil }

// Compressed implements v1.Layer: the blob as it is stored, compressed or not. The reader fails at
// the end when the content does not have the layer's digest.
func (l *Layer) Compressed() (io.ReadCloser, error) {
	rc, err := l.blob.Open()
	if err != nil {
		return nil, err
	}
	return &verifier{r: rc, c: rc, h: sha256.New(), check: l.checkDigest}, nil
}

// Uncompressed implements v1.Layer. The reader fails at the end when the content has not both the
// layer's digests.
func (l *Layer) Uncompressed() (io.ReadCloser, error) {
	rc, err := l.Tar()
	if err != nil {
		return nil, err
	}
	return &verifier{r: rc, c: rc, h: sha256.New(), check: l.CheckDiffID}, nil
}

// Tar is Uncompressed for a caller that computes the diff ID while reading and passes it to
// CheckDiffID: hashing twice would take as long as all the rest.
func (l *Layer) Tar() (io.ReadCloser, error) {
	if l.compression == "" {
		return l.blob.Open()
	}
	rc, err := l.Compressed()
	if err != nil {
		return nil, err
	}
	zr, err := decompress(l.compression, rc)
	if err != nil {
		rc.Close()
		return nil, l.broken(err)
	}
	return &decompressed{zr: zr, blob: rc, broken: l.broken}, nil
}

// CheckDiffID returns a DigestError unless got is the layer's diff ID.
func (l *Layer) CheckDiffID(got v1.Hash) error {
	if got == l.diffID {
		return nil
	}
	return &DigestError{Archive: l.archive, Blob: "layer " + l.blob.Name, Promise: "the image's config", Want: l.diffID, Got: got}
}

// SelfContained reports whether the layer has an entry for each directory that it adds something
// to, so that unpacking it needs nothing of the layers below, such as a directory's mode. It reads
// headers only; for compressed layers it returns false.
func (l *Layer) SelfContained() bool {
	if l.compression != "" {
		return false
	}
	rc, err := l.blob.Open()
	if err != nil {
		return false
	}
	defer rc.Close()
	dirs := map[string]bool{"": true}
	for tr := tar.NewReader(rc); ; {
		hdr, err := tr.Next()
		if err == io.EOF {
			return true
		} else if err != nil {
			return false
		}
		name := rootfs.Clean(hdr.Name)
		if !dirs[rootfs.Dir(name)] {
			return false
		}
		if hdr.Typeflag == tar.TypeDir {
			dirs[name] = true
		}
	}
}

func (l *Layer) checkDigest(got v1.Hash) error {
	if got == l.digest {
		return nil
	}
	return &DigestError{Archive: l.archive, Blob: "layer " + l.blob.Name, Promise: "the image's manifest", Want: l.digest, Got: got}
}

func (l *Layer) broken(err error) error {
	return fmt.Errorf("%s: layer %s (%s): %s: %w", l.archive, l.blob.Name, l.digest, l.compression, err)
}

// Verify reads the layer to its end. If the stored blob is damaged, the error is about its digest
// and not about decompression.
func (l *Layer) Verify(ctx context.Context) error {
	read := func(open func() (io.ReadCloser, error)) error {
		rc, err := open()
		if err != nil {
			return err
		}
		defer rc.Close()
		_, err = io.CopyBuffer(writerOnly{io.Discard}, contextReader{ctx, rc}, make([]byte, 256<<10))
		return err
	}
	err := read(l.Uncompressed)
	if err != nil && l.compression != "" && ctx.Err() == nil {
		if stored := read(l.Compressed); stored != nil {
			return stored
		}
	}
	return err
}

// verifier hashes what is read and checks the digest once at the end of the content.
type verifier struct {
	r     io.Reader
	c     io.Closer
	h     hash.Hash
	check func(v1.Hash) error
	err   error
}

func (v *verifier) Read(p []byte) (int, error) {
	if v.err != nil {
		return 0, v.err
	}
	n, err := v.r.Read(p)
	v.h.Write(p[:n])
	if errors.Is(err, io.EOF) {
		if bad := v.check(hashOf(v.h)); bad != nil {
			err = bad
		}
	}
	v.err = err
	return n, err
}

func (v *verifier) Close() error { return v.c.Close() }

// decompressed reads a compressed blob to its very end, so that its digest is checked too.
type decompressed struct {
	zr     io.ReadCloser
	blob   io.ReadCloser
	broken func(error) error
	err    error
}

func (d *decompressed) Read(p []byte) (int, error) {
	if d.err != nil {
		return 0, d.err
	}
	n, err := d.zr.Read(p)
	switch {
	case errors.Is(err, io.EOF):
		if _, tail := io.Copy(io.Discard, d.blob); tail != nil {
			err = tail
		}
	case err != nil:
		// Damage usually makes decompression fail first; an error about digests says more.
		if _, tail := io.Copy(io.Discard, d.blob); tail != nil {
			err = tail
		} else {
			err = d.broken(err)
		}
	}
	d.err = err
	return n, err
}

func (d *decompressed) Close() error {
	d.zr.Close()
	return d.blob.Close()
}

func hashOf(h hash.Hash) v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(h.Sum(nil))}
}

// contextReader ends a long copy when its context does.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}

// writerOnly hides ReadFrom, whose buffer would be small.
type writerOnly struct{ io.Writer }

// core makes a v1.Image of a manifest, a config and layers.
type core struct {
	manifest, config []byte
	mediaType        types.MediaType
	layers           []*Layer
}

var _ partial.CompressedImageCore = (*core)(nil)

func (c *core) RawManifest() ([]byte, error)        { return c.manifest, nil }
func (c *core) RawConfigFile() ([]byte, error)      { return c.config, nil }
func (c *core) MediaType() (types.MediaType, error) { return c.mediaType, nil }
func (c *core) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	for _, l := range c.layers {
		if l.digest == h {
			return l, nil
		}
	}
	return nil, fmt.Errorf("the image has no layer %s", h)
}
