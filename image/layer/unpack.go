package layer

import (
	"archive/tar"
	"crypto/md5"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/dind-cluster/dind-cluster/image/deb"
	"github.com/dind-cluster/dind-cluster/image/dpkg"
	"github.com/dind-cluster/dind-cluster/image/tree"
)

// unpackDeb reads one package and puts its files into the spool.
func (b *builder) unpackDeb(path string) (*unpacked, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	pkg, err := deb.Read(f)
	if err != nil {
		return nil, err
	}
	source := packageSource(pkg.Name())
	from := &archive{spool: b.spool, source: source, files: map[string]*tree.Entry{}}
	p := &unpacked{Installed: &dpkg.Installed{Package: pkg, MD5: dpkg.MD5Of(pkg)}}
	err = pkg.Data(func(hdr *tar.Header, content io.Reader) error {
		e, err := from.entry(hdr, content)
		if err != nil {
			return err
		}
		if e.Path == "" {
			p.Paths = append(p.Paths, "/.")
			return nil
		}
		p.Paths = append(p.Paths, "/"+e.Path)
		p.entries = append(p.entries, e)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return p, b.sumFiles(p)
}

// sumFiles adds the MD5 sums that the package's own md5sums file lacks: always those of conffiles,
// and all of them if there is no such file.
func (b *builder) sumFiles(p *unpacked) error {
	_, listed := p.Members["md5sums"]
	conffiles := "\n" + string(p.Members["conffiles"]) + "\n"
	for _, e := range p.entries {
		if e.Type != tar.TypeReg || listed && !strings.Contains(conffiles, "\n/"+e.Path+"\n") {
			continue
		}
		sum, err := e.Content.Sum(md5.New())
		if err != nil {
			return err
		}
		p.MD5[e.Path] = sum
	}
	return nil
}

// archive turns tar entries into those of a tree.
type archive struct {
	spool interface {
		Put(r io.Reader, size int64) (string, tree.Content, error)
	}
	source string
	// files are the regular files so far, for hard links to find.
	files map[string]*tree.Entry
}

func (a *archive) entry(hdr *tar.Header, content io.Reader) (*tree.Entry, error) {
	p, err := tree.Clean(hdr.Name)
	if err != nil {
		return nil, err
	}
	e := &tree.Entry{Path: p, Type: hdr.Typeflag, Mode: modeBits(hdr), UID: hdr.Uid, GID: hdr.Gid, Source: a.source}
	e.SetXattrs(hdr)
	switch hdr.Typeflag {
	case tar.TypeReg:
		e.Size = hdr.Size
		if e.SHA256, e.Content, err = a.spool.Put(content, hdr.Size); err != nil {
			return nil, fmt.Errorf("/%s: %w", p, err)
		}
		a.files[p] = e
	case tar.TypeLink:
		target, err := tree.Clean(hdr.Linkname)
		if err != nil {
			return nil, fmt.Errorf("/%s: hard link: %w", p, err)
		}
		have, ok := a.files[target]
		if !ok {
			return nil, fmt.Errorf("/%s is a hard link to /%s, which is no earlier file of the archive", p, target)
		}
		if have.Inode == "" {
			have.Inode = inode(a.source, target)
		}
		linked := *have
		linked.Path = p
		return &linked, nil
	case tar.TypeSymlink:
		e.Mode, e.Link = 0o777, hdr.Linkname
	case tar.TypeDir:
	case tar.TypeChar, tar.TypeBlock:
		e.Major, e.Minor = hdr.Devmajor, hdr.Devminor
	case tar.TypeFifo:
	default:
		return nil, fmt.Errorf("/%s has the unknown type %q", p, hdr.Typeflag)
	}
	return e, nil
}
