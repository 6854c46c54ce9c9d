package snapshot

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"time"

	"github.com/dind-cluster/dind-cluster/image/rootfs"
	"github.com/dind-cluster/dind-cluster/image/spool"
	"github.com/dind-cluster/dind-cluster/image/tree"
)

// Layer is a layer that has been read from its archive.
type Layer struct {
	// Tree marks directories that the archive has no entry for as Implied.
	Tree Tree `json:"tree"`
	// Whiteouts are the paths that the layer removes from the layers below, and Opaque the
	// directories whose content it removes.
	Whiteouts []string `json:"whiteouts,omitempty"`
	Opaque    []string `json:"opaque,omitempty"`
}

// Removes reports whether the layer removes anything from those below.
func (l *Layer) Removes() bool { return len(l.Whiteouts)+len(l.Opaque) > 0 }

// Read reads a layer's uncompressed archive to its end. The contents of files go to the spool;
// without one, files have neither content nor checksum. The name is for messages.
func Read(name string, r io.Reader, content *spool.Spool) (*Layer, error) {
	l := &Layer{Tree: Tree{}}
	tr := tar.NewReader(r)
	for inode := 0; ; inode++ {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = l.add(hdr, fmt.Sprintf("%s#%d", name, inode), tr, content)
		}
		if err != nil {
			if errors.Is(err, io.ErrUnexpectedEOF) {
				err = errors.New("the archive is cut off")
			}
			return nil, fmt.Errorf("layer %s: %w", name, err)
		}
	}
	// The layer's digest includes what follows the archive's end.
	if _, err := io.Copy(io.Discard, r); err != nil {
		return nil, fmt.Errorf("layer %s: %w", name, err)
	}
	return l, nil
}

func (l *Layer) add(hdr *tar.Header, inode string, r io.Reader, content *spool.Spool) error {
	if hdr.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	p, err := l.place(hdr.Name)
	if err != nil {
		return err
	}
	if removed, all, ok := rootfs.Whiteout(p); ok {
		return l.remove(p, removed, all)
	}
	e := &tree.Entry{
		Path: p, Type: hdr.Typeflag, Mode: hdr.Mode & 0o7777, UID: hdr.Uid, GID: hdr.Gid,
		Major: hdr.Devmajor, Minor: hdr.Devminor, ModTime: hdr.ModTime,
	}
	e.SetXattrs(hdr)
	for record := range hdr.PAXRecords {
		if strings.HasPrefix(record, "GNU.sparse.") {
			return fmt.Errorf("/%s is a sparse file; no tool writes layers like this", p)
		}
	}
	switch hdr.Typeflag {
	case tar.TypeReg:
		e.Size = hdr.Size
		if content != nil {
			if e.SHA256, e.Content, err = content.Put(r, hdr.Size); err != nil {
				return fmt.Errorf("/%s: %w", p, err)
			}
		}
	case tar.TypeLink:
		to, err := l.place(hdr.Linkname)
		if err != nil {
			return fmt.Errorf("/%s is a hard link: %w", p, err)
		}
		first := l.Tree[to]
		if to == p && first != nil {
			return nil
		}
		if first == nil || first.Type == tar.TypeDir {
			return fmt.Errorf("/%s is a hard link to /%s, which is no file of this layer", p, to)
		}
		if first.Inode == "" {
			first.Inode = inode
		}
		e = l.link(first, e)
	case tar.TypeSymlink:
		e.Link = hdr.Linkname
	case tar.TypeDir, tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
	default:
		return fmt.Errorf("/%s is of a kind, %q, that layers do not have", p, hdr.Typeflag)
	}
	if p == "" {
		if e.Type != tar.TypeDir {
			return fmt.Errorf("the root is not a directory, but of the kind %q", e.Type)
		}
		return nil // as in containerd, which does not change a snapshot's root
	}
	l.Tree.put(e)
	l.Tree.imply(p)
	return nil
}

// link makes a file that is a hard link of another one. Its attributes, which the archive repeats,
// become those of all its links, as they do when an archive is unpacked.
func (l *Layer) link(first, e *tree.Entry) *tree.Entry {
	all := []*tree.Entry{first}
	if first.Mode != e.Mode || first.UID != e.UID || first.GID != e.GID || !first.ModTime.Equal(e.ModTime) || len(e.Xattrs) > 0 {
		for _, other := range l.Tree {
			if other.Inode == first.Inode && other != first {
				all = append(all, other)
			}
		}
	}
	xattrs := maps.Clone(first.Xattrs)
	if len(e.Xattrs) > 0 && xattrs == nil {
		xattrs = map[string][]byte{}
	}
	maps.Copy(xattrs, e.Xattrs)
	for _, other := range all {
		other.Mode, other.UID, other.GID, other.ModTime, other.Xattrs = e.Mode, e.UID, e.GID, e.ModTime, xattrs
	}
	linked := *first
	linked.Path = e.Path
	return &linked
}

func (l *Layer) remove(p, removed string, all bool) error {
	if all {
		l.Opaque = append(l.Opaque, removed)
		return nil
	}
	if _, _, again := rootfs.Whiteout(removed); again || removed == "" || removed != rootfs.Clean(removed) {
		return fmt.Errorf("/%s is not a whiteout of any path", p)
	}
	l.Whiteouts = append(l.Whiteouts, removed)
	return nil
}

// place returns the path of an entry with the layer's own symbolic links followed in all parts but
// the last.
func (l *Layer) place(name string) (string, error) {
	p, err := tree.Clean(name)
	if err != nil {
		return "", err
	}
	at, err := rootfs.ResolveParent(p, func(p string) (string, bool) { return l.Tree[p].Readlink() })
	if err != nil {
		return "", err
	}
	for dir := rootfs.Dir(at); dir != ""; dir = rootfs.Dir(dir) {
		if e := l.Tree[dir]; e != nil && !e.IsDir() {
			return "", fmt.Errorf("/%s is in /%s, which is not a directory", p, dir)
		}
	}
	return at, nil
}

// put adds an entry in place of what is there. A directory that replaces another one keeps its
// content.
func (t Tree) put(e *tree.Entry) {
	have := t[e.Path]
	if have != nil && have.Type == tar.TypeDir {
		if e.Implied {
			return
		}
		if e.Type != tar.TypeDir {
			t.dropUnder(e.Path)
		}
	}
	t[e.Path] = e
}

// imply adds the directories above a path that have no entry yet.
func (t Tree) imply(p string) {
	for p != "" {
		p = rootfs.Dir(p)
		if p == "" || t[p] != nil {
			return
		}
		t[p] = &tree.Entry{Path: p, Type: tar.TypeDir, Mode: 0o755, Implied: true, ModTime: time.Unix(0, 0)}
	}
}

// dropUnder removes what is in a directory, but not the directory itself.
func (t Tree) dropUnder(dir string) {
	prefix := dir + "/"
	if dir == "" {
		prefix = ""
	}
	for p := range t {
		if p != "" && strings.HasPrefix(p, prefix) {
			delete(t, p)
		}
	}
}
