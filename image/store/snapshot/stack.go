package snapshot

import (
	"archive/tar"
	"time"

	"github.com/dind-cluster/dind-cluster/image/tree"
)

// Stack makes the snapshots of an image from all its layers, the lowest first. The first snapshot
// has the layers up to and including number first, which is above 0 if a layer removes something;
// each further one has one layer.
func Stack(layers []*Layer) (first int, trees []Tree) {
	if len(layers) == 0 {
		return 0, nil
	}
	for i, l := range layers {
		if l.Removes() {
			first = i
		}
	}
	bottom := Tree{}
	for _, l := range layers[:first+1] {
		bottom.lay(l)
	}
	trees = append(trees, bottom)
	for _, l := range layers[first+1:] {
		trees = append(trees, l.Tree)
	}
	for i, t := range trees {
		t.complete(trees[:i])
	}
	return first, trees
}

// lay puts a layer on top.
func (t Tree) lay(l *Layer) {
	for _, dir := range l.Opaque {
		t.dropUnder(dir)
	}
	for _, p := range l.Whiteouts {
		delete(t, p)
		t.dropUnder(p)
	}
	for _, e := range l.Tree.Sorted() {
		t.put(e)
	}
}

// complete adds the root, and gives directories that the layer has no entry for the attributes of
// those below, as containerd does: an overlay shows the attributes of the topmost one.
func (t Tree) complete(lower []Tree) {
	t[""] = &tree.Entry{Type: tar.TypeDir, Mode: 0o755, ModTime: time.Unix(0, 0)}
	for p, e := range t {
		if !e.Implied {
			continue
		}
		for i := len(lower) - 1; i >= 0; i-- {
			below := lower[i][p]
			if below == nil {
				continue
			}
			if below.Type == tar.TypeDir {
				e.Mode, e.UID, e.GID, e.Xattrs, e.ModTime = below.Mode, below.UID, below.GID, below.Xattrs, below.ModTime
			}
			break
		}
	}
}
