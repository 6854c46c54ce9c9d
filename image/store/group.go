package store

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/dind-cluster/dind-cluster/image/spool"
	"github.com/dind-cluster/dind-cluster/image/store/database"
	"github.com/dind-cluster/dind-cluster/image/store/layout"
	"github.com/dind-cluster/dind-cluster/image/store/snapshot"
	"github.com/dind-cluster/dind-cluster/image/tree"
)

// Group is a part of a store, in a directory of its own; all parts together are the store. So
// images that rarely change can be in another layer than those that often do.
type Group struct {
	// Path is the directory in the outer image, without a leading slash. Other groups are next to
	// it.
	Path string
	// Content keeps the contents of files.
	Content *spool.Spool

	tree snapshot.Tree
}

// NewGroup makes an empty group. The directories above it, from the absolute path under on, are
// entries of its layer.
func NewGroup(at, under string, content *spool.Spool) (*Group, error) {
	p, err := tree.Clean(at)
	if err != nil {
		return nil, err
	}
	top, err := tree.Clean(under)
	if err != nil {
		return nil, err
	}
	if p == "" || top == "" || (p != top && !strings.HasPrefix(p, top+"/")) {
		return nil, fmt.Errorf("the store's path %s is not in %s", at, under)
	}
	g := &Group{Path: p, Content: content, tree: snapshot.Tree{}}
	for dir := p; len(dir) >= len(top); dir = path.Dir(dir) {
		g.directory(dir, 0o755)
	}
	return g, nil
}

// Entries returns the group's entries by their paths in the outer image.
func (g *Group) Entries() snapshot.Tree { return g.tree }

func (g *Group) put(e *tree.Entry) { g.tree[e.Path] = e }

func (g *Group) directory(p string, mode int64) {
	g.put(&tree.Entry{Path: p, Type: tar.TypeDir, Mode: mode, Source: "image store", ModTime: time.Unix(0, 0)})
}

// directories makes the directories of a path relative to the group's.
func (g *Group) directories(p string) {
	if p == "." || g.tree[path.Join(g.Path, p)] != nil {
		return
	}
	g.directories(path.Dir(p))
	g.directory(path.Join(g.Path, p), 0o755)
}

// file adds a file at a path relative to the group's.
func (g *Group) file(p string, content []byte) error {
	g.directories(path.Dir(p))
	sum, open, err := g.Content.Put(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		return err
	}
	g.put(&tree.Entry{
		Path: path.Join(g.Path, p), Type: tar.TypeReg, Mode: 0o644, Size: int64(len(content)), SHA256: sum, Content: open,
		Source: "image store", ModTime: time.Unix(0, 0),
	})
	return nil
}

// root returns where the files of snapshot number id are.
func (g *Group) root(id int) string {
	return path.Join(g.Path, layout.Snapshots, strconv.Itoa(id), layout.Files)
}

// addTree adds the files of snapshot number id.
func (g *Group) addTree(id int, t snapshot.Tree) {
	g.directories(layout.Snapshots)
	root := g.root(id)
	// The mode is containerd's: only root may look into the files of containers.
	// https://github.com/containerd/containerd/blob/v2.3.7/plugins/snapshots/overlay/overlay.go
	g.directory(path.Dir(root), 0o700)
	for _, e := range t {
		at := *e
		at.Path = path.Join(root, e.Path)
		if at.Inode != "" {
			at.Inode = root + "#" + at.Inode
		}
		g.put(&at)
	}
}

// addBlobs adds an image's manifest and config.
func (g *Group) addBlobs(i *Image) error {
	var manifest ocispec.Manifest
	if err := json.Unmarshal(i.Manifest, &manifest); err != nil {
		return fmt.Errorf("image %s: manifest: %w", i, err)
	}
	for digest, content := range map[string][]byte{i.Target.Digest.Encoded(): i.Manifest, manifest.Config.Digest.Encoded(): i.Config} {
		if err := g.file(path.Join(layout.Blobs, digest), content); err != nil {
			return err
		}
	}
	return nil
}

// addDatabases adds the databases, and an index of the images in them. Numbers has the numbers of
// each image's snapshots.
func (g *Group) addDatabases(ctx context.Context, namespace string, all []*Image, known []database.Snapshot, numbers [][]int) error {
	dir, err := os.MkdirTemp("", "store-")
	if err != nil {
		return fmt.Errorf("making a temporary directory: %w", err)
	}
	defer os.RemoveAll(dir)
	c := &database.Content{Namespace: namespace, Snapshots: known}
	index := &ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for n, i := range all {
		c.Images = append(c.Images, i.Image)
		var ids []string
		for _, id := range numbers[n] {
			ids = append(ids, strconv.Itoa(id))
		}
		for _, name := range i.Names {
			desc := i.Target
			desc.Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64"}
			desc.Annotations = map[string]string{images.AnnotationImageName: name, layout.SnapshotsAnnotation: strings.Join(ids, " ")}
			index.Manifests = append(index.Manifests, desc)
		}
	}
	if err := database.Write(ctx, dir, c); err != nil {
		return err
	}
	for _, name := range []string{layout.Metadata, layout.SnapshotMetadata} {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		if err := g.file(name, content); err != nil {
			return err
		}
	}
	text, err := json.Marshal(index)
	if err != nil {
		return err
	}
	return g.file(layout.Index, text)
}

// AddImages unpacks images into the group. The images below are in other groups, which have been
// made with the same list before, and this group's snapshot numbers begin after theirs. With
// databases, this group has the databases of all of them.
func (g *Group) AddImages(ctx context.Context, namespace string, below, own []*Image, databases bool) error {
	var known []database.Snapshot
	numbers := make([][]int, len(below)+len(own))
	at := map[string]int{}     // chain ID to number
	blobs := map[string]bool{} // manifests and configs
	names := map[string]bool{}
	for n, i := range slices.Concat(below, own) {
		mine := n >= len(below)
		for _, name := range i.Names {
			if names[name] {
				return fmt.Errorf("two images have the name %s", name)
			}
			names[name] = true
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		layers := make([]*snapshot.Layer, len(i.layers))
		for l := range i.layers {
			content := g.Content
			if !mine {
				content = nil
			}
			var err error
			if layers[l], err = i.layer(l, content); err != nil {
				return err
			}
		}
		first, trees := snapshot.Stack(layers)
		for t, files := range trees {
			s := i.snapshot(first+t, t > 0, files.Usage())
			id, ok := at[s.ChainID.String()]
			if !ok {
				known = append(known, s)
				id = len(known)
				at[s.ChainID.String()] = id
				if mine {
					g.addTree(id, files)
				}
			}
			numbers[n] = append(numbers[n], id)
		}
		if mine && !blobs[i.Target.Digest.String()] {
			if err := g.addBlobs(i); err != nil {
				return err
			}
		}
		blobs[i.Target.Digest.String()] = true
	}
	if !databases {
		return nil
	}
	return g.addDatabases(ctx, namespace, slices.Concat(below, own), known, numbers)
}

// AddLayer unpacks layer number n of an image, counted from 0, into the group, and returns the
// snapshot's files: their paths are relative to the root that is returned too. Below are the layers
// under it.
func (g *Group) AddLayer(n int, l *snapshot.Layer, below []*snapshot.Layer) (files snapshot.Tree, root string, err error) {
	if len(below) != n {
		return nil, "", fmt.Errorf("layer %d has %d layers below it", n, len(below))
	}
	layers := append(slices.Clone(below), l)
	first, trees := snapshot.Stack(layers)
	if first > 0 || l.Removes() {
		return nil, "", errors.New("a layer removes files of the layers below it, so it cannot be a snapshot alone")
	}
	g.addTree(n+1, trees[n])
	return trees[n], g.root(n + 1), nil
}

// AddImage adds the blobs and the databases of an image whose layers have been added one by one,
// here or to other layers of the outer image. Usage has the disk usage of each layer.
func (g *Group) AddImage(ctx context.Context, namespace string, i *Image, usage []snapshot.Usage) error {
	if len(usage) != len(i.layers) {
		return fmt.Errorf("image %s has %d layers, but there is the usage of %d", i, len(i.layers), len(usage))
	}
	if err := g.addBlobs(i); err != nil {
		return err
	}
	var known []database.Snapshot
	var numbers []int
	for n, u := range usage {
		known = append(known, i.snapshot(n, n > 0, u))
		numbers = append(numbers, n+1)
	}
	return g.addDatabases(ctx, namespace, []*Image{i}, known, [][]int{numbers})
}

// Share returns the group's files and the outer image's own ones together. Files under root, a
// snapshot's, become hard links of identical ones of the outer image. Only files that no running
// system writes in place are shared: without an overlay, a write to one would be a write to both.
func (g *Group) Share(root string, own snapshot.Tree) (snapshot.Tree, error) {
	members := map[string][]*tree.Entry{} // a snapshot's files that are hard links of each other
	for p, e := range g.tree {
		if !strings.HasPrefix(p, root+"/") || e.Type != tar.TypeReg {
			continue
		}
		key := e.Inode
		if key == "" {
			key = p
		}
		members[key] = append(members[key], e)
	}
	for _, files := range members {
		shared := ""
		for _, e := range files {
			p := strings.TrimPrefix(e.Path, root+"/")
			mine := own[p]
			if mine == nil || !mine.Identical(e) || (!strings.HasPrefix(p, "usr/") && !strings.HasPrefix(p, "opt/")) {
				shared = ""
				break
			}
			if mine.Inode == "" {
				mine.Inode = "own#" + p
			}
			if shared == "" {
				shared = mine.Inode
			}
			if shared != mine.Inode {
				shared = ""
				break
			}
		}
		if shared != "" {
			for _, e := range files {
				e.Inode = shared
			}
		}
	}
	all := snapshot.Tree{}
	for p, e := range own {
		// Directories without an entry of their own are in the layers below.
		if p != "" && !e.Implied {
			all[p] = e
		}
	}
	for p, e := range g.tree {
		if have := all[p]; have == nil {
			all[p] = e
		} else if have.Type != tar.TypeDir || e.Type != tar.TypeDir {
			return nil, fmt.Errorf("/%s is of the layer and of the store", p)
		}
	}
	return all, nil
}
