// Package deb reads Debian binary packages: their control file, their maintainer scripts, and their
// files.
package deb

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/dind-cluster/dind-cluster/internal/compression"
)

// maxControlSize bounds what is kept in memory of a package's control archive;
// the largest in Debian is a few megabytes.
const maxControlSize = 64 << 20

// Package is an opened package. Data can be called once.
type Package struct {
	Control Control
	// Members are the other files of the control archive: scripts, triggers,
	// conffiles, md5sums, shlibs …
	Members map[string][]byte

	ar       *arReader
	dataName string
}

// Name returns the package's name.
func (p *Package) Name() string { return p.Control.Get("Package") }

// Read reads a package up to its data.
func Read(r io.Reader) (*Package, error) {
	ar, err := newArReader(r)
	if err != nil {
		return nil, err
	}
	p := &Package{ar: ar}
	if err := p.readVersion(); err != nil {
		return nil, err
	}
	for {
		name, err := ar.next()
		if errors.Is(err, io.EOF) {
			return nil, errors.New("truncated: no data archive")
		}
		if err != nil {
			return nil, err
		}
		switch {
		case strings.HasPrefix(name, "control.tar"):
			if err := p.readControl(name); err != nil {
				return nil, err
			}
		case strings.HasPrefix(name, "data.tar"):
			if p.Control == nil {
				return nil, errors.New("data archive comes before the control archive")
			}
			p.dataName = name
			return p, nil
		case strings.HasPrefix(name, "_"):
			// Readers must ignore it (deb(5)).
		default:
			return nil, fmt.Errorf("unknown archive member %q", name)
		}
	}
}

func (p *Package) readVersion() error {
	name, err := p.ar.next()
	if err != nil {
		return fmt.Errorf("format version: %w", unexpected(err))
	}
	if name != "debian-binary" {
		return fmt.Errorf("not a Debian package: its first member is %q, not debian-binary", name)
	}
	version, err := io.ReadAll(io.LimitReader(p.ar, 64))
	if err != nil {
		return fmt.Errorf("format version: %w", err)
	}
	if !strings.HasPrefix(string(version), "2.") {
		return fmt.Errorf("package format %q is not 2.x", strings.TrimSpace(string(version)))
	}
	return nil
}

func (p *Package) readControl(name string) error {
	r, err := decompress(name, p.ar)
	if err != nil {
		return err
	}
	defer r.Close()
	limited := &io.LimitedReader{R: r, N: maxControlSize}
	p.Members = map[string][]byte{}
	tr := tar.NewReader(limited)
	for {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, unexpected(err))
		}
		if hdr.Typeflag != tar.TypeReg {
			continue
		}
		member := path.Clean(strings.TrimPrefix(hdr.Name, "./"))
		if member != path.Base(member) || member == ".." || member == "." {
			return fmt.Errorf("%s: member %q is not a plain file name", name, hdr.Name)
		}
		content, err := io.ReadAll(tr)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", name, member, unexpected(err))
		}
		p.Members[member] = content
	}
	if limited.N == 0 {
		return fmt.Errorf("%s is larger than %d bytes", name, maxControlSize)
	}
	control, ok := p.Members["control"]
	if !ok {
		return fmt.Errorf("%s has no control file", name)
	}
	delete(p.Members, "control")
	p.Control, err = parseControl(string(control))
	return err
}

// Data calls visit for each entry of the package's file archive, in its order.
func (p *Package) Data(visit func(hdr *tar.Header, content io.Reader) error) error {
	r, err := decompress(p.dataName, p.ar)
	if err != nil {
		return err
	}
	defer r.Close()
	tr := tar.NewReader(r)
	for {
		hdr, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("%s: %w", p.dataName, unexpected(err))
		}
		if err := visit(hdr, tr); err != nil {
			return err
		}
	}
	// The end of the tar archive is not the end of the compressed stream, which ends with a
	// checksum of its own.
	if _, err := io.Copy(io.Discard, r); err != nil {
		return fmt.Errorf("%s: %w", p.dataName, unexpected(err))
	}
	if p.ar.member.N > 0 {
		return fmt.Errorf("%s: %d bytes after the end of the compressed stream", p.dataName, p.ar.member.N)
	}
	return nil
}

// formats are the compression formats of dpkg, by the ending of an archive's name (deb(5)).
var formats = map[string]string{
	".tar": compression.None, ".gz": compression.Gzip, ".xz": compression.XZ, ".zst": compression.Zstd, ".bz2": compression.Bzip2,
}

func decompress(name string, r io.Reader) (io.ReadCloser, error) {
	format, ok := formats[path.Ext(name)]
	if !ok {
		return nil, fmt.Errorf("%s: unknown compression", name)
	}
	z, err := compression.NewReader(format, r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, unexpected(err))
	}
	return z, nil
}
