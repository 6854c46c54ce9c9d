// Package effects applies to a tree the declared effects of maintainer scripts.
package effects

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"strconv"
	"strings"

	"github.com/dind-cluster/dind-cluster/image/declare"
	"github.com/dind-cluster/dind-cluster/image/tree"
)

// System is the tree under construction and its shared files.
type System struct {
	Tree *tree.Tree
	// Shared has the content of the files that several layers write to, by path.
	Shared map[string]string
	// Units has the content of the unit files in the layers below.
	Units map[string]string

	accounts accounts
}

// Apply applies all effects, kind by kind in the order of the fields of declare.Effects, so that
// one package can rely on those of another.
func (s *System) Apply(all []declare.Named) error {
	if err := each(all,
		s.remove, s.directories, s.files, s.copies, s.symlinks,
		s.readAccounts, s.sysusers, s.groups, s.users,
	); err != nil {
		return err
	}
	if err := s.writeAccounts(all); err != nil {
		return err
	}
	if err := s.alternatives(all); err != nil {
		return err
	}
	return each(all, s.caBundle, s.defaultUnit, s.mask, s.enable, s.attributes)
}

// each applies one step after the other to all declarations.
func each(all []declare.Named, steps ...func(declare.Named) error) error {
	for _, step := range steps {
		for _, n := range all {
			if err := step(n); err != nil {
				return fmt.Errorf("%s: %w", n.Source, err)
			}
		}
	}
	return nil
}

func (s *System) remove(n declare.Named) error {
	for _, p := range n.Remove {
		p, err := tree.Clean(p)
		if err != nil {
			return err
		}
		if err := s.Tree.Remove(p); err != nil {
			return err
		}
	}
	return nil
}

func (s *System) directories(n declare.Named) error {
	for _, d := range n.Directories {
		mode, err := Mode(d.Mode, 0o755)
		if err != nil {
			return fmt.Errorf("%s: %w", d.Path, err)
		}
		p, err := tree.Clean(d.Path)
		if err != nil {
			return err
		}
		e := &tree.Entry{Path: p, Type: tar.TypeDir, Mode: mode, UID: d.UID, GID: d.GID, Source: n.Source}
		if err := s.Tree.Add(e); err != nil {
			return err
		}
	}
	return nil
}

func (s *System) files(n declare.Named) error {
	for _, f := range n.Files {
		mode, err := Mode(f.Mode, 0o644)
		if err != nil {
			return fmt.Errorf("%s: %w", f.Path, err)
		}
		e, err := Text(f.Path, f.Content, mode, n.Source)
		if err != nil {
			return err
		}
		e.UID, e.GID = f.UID, f.GID
		if err := s.Tree.Add(e); err != nil {
			return err
		}
	}
	return nil
}

func (s *System) copies(n declare.Named) error {
	for _, c := range n.Copies {
		from, err := tree.Clean(c.From)
		if err != nil {
			return err
		}
		have := s.Tree.Follow(from)
		if have == nil || have.Type != tar.TypeReg {
			return fmt.Errorf("copy %s to %s: no package brings that file", c.From, c.To)
		}
		if have.Content == nil {
			return fmt.Errorf("copy %s to %s: the file is in a layer below, whose content is not at hand", c.From, c.To)
		}
		mode, err := Mode(c.Mode, have.Mode)
		if err != nil {
			return fmt.Errorf("%s: %w", c.To, err)
		}
		copied := *have
		copied.Mode, copied.Source, copied.Inode = mode, n.Source, ""
		if copied.Path, err = tree.Clean(c.To); err != nil {
			return err
		}
		if err := s.Tree.Add(&copied); err != nil {
			return err
		}
	}
	return nil
}

func (s *System) symlinks(n declare.Named) error {
	for _, l := range n.Symlinks {
		if err := s.link(l.Path, l.Target, n.Source); err != nil {
			return err
		}
	}
	return nil
}

func (s *System) link(path, target, source string) error {
	p, err := tree.Clean(path)
	if err != nil {
		return err
	}
	return s.Tree.Add(Link(p, target, source))
}

func (s *System) attributes(n declare.Named) error {
	for _, a := range n.Attributes {
		p, err := tree.Clean(a.Path)
		if err != nil {
			return err
		}
		have := s.Tree.Follow(p)
		if have == nil {
			return fmt.Errorf("attributes of %s: no such path", a.Path)
		}
		if have.Content == nil && have.Type == tar.TypeReg {
			return fmt.Errorf("attributes of %s: the file is in a layer below, change it there", a.Path)
		}
		changed := *have
		if changed.Mode, err = Mode(a.Mode, have.Mode); err != nil {
			return fmt.Errorf("%s: %w", a.Path, err)
		}
		if a.UID != nil {
			changed.UID = *a.UID
		}
		if a.GID != nil {
			changed.GID = *a.GID
		}
		if len(a.Xattrs) > 0 {
			changed.Xattrs = maps.Clone(have.Xattrs)
			if changed.Xattrs == nil {
				changed.Xattrs = map[string][]byte{}
			}
			for name, value := range a.Xattrs {
				changed.Xattrs[name] = []byte(value)
			}
		}
		if err := s.Tree.Replace(&changed); err != nil {
			return err
		}
	}
	return nil
}

// share writes a file that layers above may rewrite.
func (s *System) share(p, content string, mode int64, gid int, source string) error {
	e, err := Text(p, content, mode, source)
	if err != nil {
		return err
	}
	e.GID = gid
	s.Shared[e.Path] = content
	return s.Tree.Replace(e)
}

// read returns the content of a small file of this layer, or a shared one.
func (s *System) read(p string) (string, bool, error) {
	if text, ok := s.Shared[p]; ok {
		return text, true, nil
	}
	e := s.Tree.Follow(p)
	if e == nil || e.Content == nil {
		return "", false, nil
	}
	r, err := e.Content()
	if err != nil {
		return "", false, err
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	return string(text), err == nil, err
}

// Text makes an entry of a small file.
func Text(p, content string, mode int64, source string) (*tree.Entry, error) {
	p, err := tree.Clean(p)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(content))
	return &tree.Entry{
		Path: p, Type: tar.TypeReg, Mode: mode, Size: int64(len(content)), SHA256: hex.EncodeToString(sum[:]), Source: source,
		Content: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil },
	}, nil
}

// Link makes an entry of a symbolic link.
func Link(p, target, source string) *tree.Entry {
	return &tree.Entry{Path: p, Type: tar.TypeSymlink, Mode: 0o777, Link: target, Source: source}
}

// Mode parses an octal mode; text may be empty.
func Mode(text string, otherwise int64) (int64, error) {
	if text == "" {
		return otherwise, nil
	}
	mode, err := strconv.ParseInt(text, 8, 32)
	if err != nil || mode < 0 || mode > 0o7777 {
		return 0, fmt.Errorf("%q is not an octal mode such as \"0644\"", text)
	}
	return mode, nil
}
