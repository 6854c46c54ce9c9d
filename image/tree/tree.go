package tree

import (
	"archive/tar"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/dind-cluster/dind-cluster/image/rootfs"
)

// Tree is a layer's files over those of the layers below it.
type Tree struct {
	lower   map[string]*Entry
	entries map[string]*Entry
}

// New makes an empty tree over the entries of the layers below.
func New(lower map[string]*Entry) *Tree {
	return &Tree{lower: lower, entries: map[string]*Entry{}}
}

// ConflictError reports that two sources have different content for one path.
type ConflictError struct {
	Path          string
	First, Second *Entry
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("conflict at /%s:\n  %s\n  %s\nDecide in the layer's declaration: \"exclude\" the path, or name the winner under \"overrides\".",
		e.Path, e.First.describe(), e.Second.describe())
}

func (t *Tree) at(p string) *Entry {
	if e, ok := t.entries[p]; ok {
		return e
	}
	return t.lower[p]
}

// Follow finds what is at a path after following all links.
func (t *Tree) Follow(p string) *Entry {
	p, err := t.Resolve(p)
	if err != nil {
		return nil
	}
	return t.at(p)
}

// Resolve follows the symbolic links in a path, its last part included.
func (t *Tree) Resolve(p string) (string, error) { return rootfs.Resolve(p, t.readlink) }

func (t *Tree) resolveParent(p string) (string, error) { return rootfs.ResolveParent(p, t.readlink) }

func (t *Tree) readlink(p string) (string, bool) { return t.at(p).Readlink() }

// Add puts an entry into the tree. Links to directories which are already there
// are followed in its parent path, so that /lib/x lands in /usr/lib/x. What
// is there already must mean the same.
func (t *Tree) Add(e *Entry) error {
	p, err := t.resolveParent(e.Path)
	if err != nil {
		return err
	}
	if p == "" && !e.IsDir() {
		return fmt.Errorf("%s: the root can only be a directory", e.Source)
	}
	have := t.at(p)
	if have != nil && have.IsLink() && e.IsDir() {
		// A package may ship a directory where another one has a link to a directory.
		target, err := t.Resolve(p)
		if err != nil {
			return err
		}
		if d := t.at(target); d == nil || d.IsDir() {
			p, have = target, d
		}
	}
	e.Path = p
	switch {
	case have == nil:
	case have.Implied && have.IsDir() && e.IsDir():
	case e.Implied && have.IsDir():
		return nil
	case have.Same(e):
		return nil
	default:
		return &ConflictError{p, have, e}
	}
	t.entries[p] = e
	return nil
}

// Replace puts an entry into the tree in place of what is there. A directory cannot replace a file,
// nor a file a directory.
func (t *Tree) Replace(e *Entry) error {
	p, err := t.resolveParent(e.Path)
	if err != nil {
		return err
	}
	if have := t.at(p); have != nil && have.IsDir() != e.IsDir() {
		return &ConflictError{p, have, e}
	}
	e.Path = p
	t.entries[p] = e
	return nil
}

// Remove takes a path and all below it out of this layer.
func (t *Tree) Remove(p string) error {
	p, err := t.resolveParent(p)
	if err != nil {
		return err
	}
	if t.lower[p] != nil {
		return fmt.Errorf("/%s is in a layer below and cannot be removed here", p)
	}
	found := false
	for have := range t.entries {
		if have == p || strings.HasPrefix(have, p+"/") {
			delete(t.entries, have)
			found = true
		}
	}
	if !found {
		return fmt.Errorf("/%s is to be removed but nothing brings it", p)
	}
	return nil
}

// Complete adds the directories that no source names. A file that is used as a directory is an
// error.
func (t *Tree) Complete() error {
	for _, p := range slices.Sorted(maps.Keys(t.entries)) {
		for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
			have := t.at(dir)
			if have == nil {
				t.entries[dir] = &Entry{Path: dir, Type: tar.TypeDir, Mode: 0o755, Source: t.entries[p].Source, Implied: true}
				continue
			}
			if !have.IsDir() {
				return fmt.Errorf("/%s is used as a directory by %s, but it is not one:\n  %s", dir, t.entries[p].Source, have.describe())
			}
			break
		}
	}
	return nil
}

// Entries returns this layer's own entries, parents before children.
func (t *Tree) Entries() []*Entry {
	own := make([]*Entry, 0, len(t.entries))
	for _, p := range slices.Sorted(maps.Keys(t.entries)) {
		e := t.entries[p]
		if low := t.lower[p]; low != nil && low.Same(e) {
			continue
		}
		own = append(own, e)
	}
	return own
}

// All returns the entries of this layer and those below.
func (t *Tree) All() map[string]*Entry {
	all := maps.Clone(t.lower)
	if all == nil {
		all = map[string]*Entry{}
	}
	maps.Copy(all, t.entries)
	return all
}
