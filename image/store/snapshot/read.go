package snapshot

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"strings"
	"time"

	"github.com/dind-cluster/dind-cluster/image/spool"
	"github.com/dind-cluster/dind-cluster/image/tree"
)

const (
	whiteoutPrefix = ".wh."
	opaque         = ".wh..wh..opq"
	xattrRecord    = "SCHILY.xattr."
	// linkLimit is how many symbolic links a path may lead through, as in the kernel.
	linkLimit = 40
)

// Layer is a layer as its archive has it.
type Layer struct {
	// Tree has directories that the archive has no entry for as Implied.
	Tree Tree `json:"tree"`
	// Whiteouts are paths which the layer removes from the layers below, Opaque directories of which it removes all content.
	Whiteouts []string `json:"whiteouts,omitempty"`
	Opaque    []string `json:"opaque,omitempty"`
}

// Removes says whether the layer removes anything from those below.
func (l *Layer) Removes() bool { return len(l.Whiteouts)+len(l.Opaque) > 0 }

// Read reads a layer's uncompressed archive to its end. The contents of files go to the spool; with none they are not kept,
// and files have neither content nor check sum. The name is for messages.
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
	// What follows the archive's end belongs to the layer's digest too.
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
	dir, base := path.Split(p)
	dir = strings.TrimSuffix(dir, "/")
	if strings.HasPrefix(base, whiteoutPrefix) {
		return l.remove(dir, base)
	}
	e := &Entry{ModTime: hdr.ModTime}
	e.Entry = tree.Entry{
		Path: p, Type: hdr.Typeflag, Mode: hdr.Mode & 0o7777, UID: hdr.Uid, GID: hdr.Gid,
		Major: hdr.Devmajor, Minor: hdr.Devminor,
	}
	for record, value := range hdr.PAXRecords {
		if strings.HasPrefix(record, "GNU.sparse.") {
			return fmt.Errorf("/%s is a sparse file; no tool writes layers like this", p)
		}
		if name, ok := strings.CutPrefix(record, xattrRecord); ok {
			if e.Xattrs == nil {
				e.Xattrs = map[string][]byte{}
			}
			e.Xattrs[name] = []byte(value)
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
		return nil // containerd does not change a snapshot's root either
	}
	l.Tree.put(e)
	l.Tree.imply(p)
	return nil
}

// link makes a file that is a hard link of another one. Its own attributes, which the archive has once more, count for all of
// them, as they do for who unpacks the archive.
func (l *Layer) link(first, e *Entry) *Entry {
	all := []*Entry{first}
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

func (l *Layer) remove(dir, base string) error {
	if base == opaque {
		l.Opaque = append(l.Opaque, dir)
		return nil
	}
	name := strings.TrimPrefix(base, whiteoutPrefix)
	if name == "" || name == "." || name == ".." || strings.HasPrefix(name, whiteoutPrefix) {
		return fmt.Errorf("/%s is not a whiteout of any path", path.Join(dir, base))
	}
	l.Whiteouts = append(l.Whiteouts, path.Join(dir, name))
	return nil
}

// place is where a path of the archive is, with the symbolic links that the layer itself has on the way followed.
func (l *Layer) place(name string) (string, error) {
	p, err := tree.Clean(name)
	if err != nil {
		return "", err
	}
	todo := strings.Split(p, "/")
	at := ""
	for links := 0; len(todo) > 1; {
		part := todo[0]
		todo = todo[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			at = parent(at)
			continue
		}
		next := path.Join(at, part)
		e := l.Tree[next]
		switch {
		case e == nil || e.Type == tar.TypeDir:
			at = next
		case e.Type == tar.TypeSymlink:
			if links++; links > linkLimit {
				return "", fmt.Errorf("/%s leads through more than %d symbolic links", p, linkLimit)
			}
			if path.IsAbs(e.Link) {
				at = ""
			}
			todo = append(strings.Split(e.Link, "/"), todo...)
		default:
			return "", fmt.Errorf("/%s is in /%s, which is not a directory", p, next)
		}
	}
	return path.Join(at, todo[0]), nil
}

// put adds an entry in the place of what is there. Only a directory in the place of another one keeps what is in it.
func (t Tree) put(e *Entry) {
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
		p = parent(p)
		if p == "" || t[p] != nil {
			return
		}
		t[p] = &Entry{ModTime: time.Unix(0, 0), Entry: tree.Entry{Path: p, Type: tar.TypeDir, Mode: 0o755, Implied: true}}
	}
}

// parent is the directory of a path; the root's is "".
func parent(p string) string {
	if i := strings.LastIndexByte(p, '/'); i >= 0 {
		return p[:i]
	}
	return ""
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
