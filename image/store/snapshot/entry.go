// Package snapshot turns layers into what containerd's overlay snapshotter has on disk once it has
// unpacked them: one tree of files for each layer. A layer that removes files of those below cannot
// be in an image as a tree, since its whiteouts would be those of the outer image; such a layer and
// all below it become one tree.
package snapshot

import (
	"archive/tar"
	"maps"
	"slices"
	"strings"

	"github.com/dind-cluster/dind-cluster/image/tree"
)

// Tree has entries by path. Each path has an entry for its directory, but the root's, "", may be
// missing.
type Tree map[string]*tree.Entry

// Sorted returns the entries in the order of their paths, directories before what is in them.
func (t Tree) Sorted() []*tree.Entry {
	return slices.SortedFunc(maps.Values(t), func(a, b *tree.Entry) int { return compare(a.Path, b.Path) })
}

// compare orders paths by their parts, so that a directory's content directly follows it.
func compare(a, b string) int {
	return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/"))
}

// Usage is the disk usage of a snapshot on a file system with blocks of 4 KiB, which containerd
// measures when it unpacks.
type Usage struct {
	// Inodes counts files, directories and links, with the root; Size is in bytes.
	Inodes int64 `json:"inodes"`
	Size   int64 `json:"size"`
}

const block = 4096

// Usage adds up a tree's files, hard links once.
func (t Tree) Usage() Usage {
	u := Usage{Inodes: 1, Size: block}
	seen := map[string]bool{"": true}
	for p, e := range t {
		if p == "" {
			continue
		}
		if e.Inode != "" {
			if seen[e.Inode] {
				continue
			}
			seen[e.Inode] = true
		}
		u.Inodes++
		switch e.Type {
		case tar.TypeDir:
			u.Size += block
		case tar.TypeReg:
			u.Size += (e.Size + block - 1) / block * block
		}
	}
	return u
}
