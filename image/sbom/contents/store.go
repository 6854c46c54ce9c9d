package contents

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/dind-cluster/dind-cluster/image/sbom/scan"
	"github.com/dind-cluster/dind-cluster/image/store/layout"
	"github.com/dind-cluster/dind-cluster/internal/ocilayout"
)

// What a store has, in paths of the image that it is in, and the annotation of its images.
const (
	storeDatabase = "/" + layout.Metadata
	storeTrees    = "/" + layout.Snapshots + "/"
	storeBlobs    = "/" + layout.Content + "/"
	storeIndex    = "/" + layout.Index

	storeSnapshots = layout.SnapshotsAnnotation
)

// store is a store of unpacked images: directories side by side, of which one has the databases and
// an index.
type store struct {
	// index is the directory with the index; parts are the directories of all parts.
	index string
	parts []string
}

// stores finds the stores of a tree, but not those in images that are unpacked in it.
func stores(t tree) []*store {
	var all []*store
	for _, p := range slices.Sorted(maps.Keys(t)) {
		dir, ok := strings.CutSuffix(p, storeDatabase)
		if !ok || strings.Contains(dir, storeTrees) {
			continue
		}
		s := &store{index: dir}
		parts := map[string]bool{dir: true}
		for other := range t {
			rest, ok := strings.CutPrefix(other, path.Dir(dir)+"/")
			if !ok {
				continue
			}
			if part, in, ok := strings.Cut(rest, "/"); ok && strings.HasPrefix("/"+in, storeTrees) {
				parts[path.Join(path.Dir(dir), part)] = true
			}
		}
		s.parts = slices.Sorted(maps.Keys(parts))
		all = append(all, s)
	}
	return all
}

// has reports whether a path is in one of the store's images.
func (s *store) has(p string) bool {
	return slices.ContainsFunc(s.parts, func(dir string) bool { return strings.HasPrefix(p, dir+storeTrees) })
}

// images reads the images of a store.
func (s *store) images(t tree, o Options) ([]*Image, error) {
	index := t[s.index+storeIndex]
	if index == nil || index.Text == nil {
		return nil, errors.New("the store of unpacked images has no index.json")
	}
	list, err := v1.ParseIndexManifest(bytes.NewReader(index.Text))
	if err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	blobs := tree{}
	snapshots := map[int]tree{}
	for p, f := range t {
		for _, dir := range s.parts {
			if rest, ok := strings.CutPrefix(p, dir+storeBlobs); ok {
				blobs[rest] = f
			}
			rest, ok := strings.CutPrefix(p, dir+storeTrees)
			if !ok {
				continue
			}
			number, in, _ := strings.Cut(rest, "/"+layout.Files+"/")
			n, err := strconv.Atoi(number)
			if err != nil || in == "" {
				return nil, fmt.Errorf("/%s is in no snapshot", p)
			}
			if snapshots[n] == nil {
				snapshots[n] = tree{}
			}
			snapshots[n][in] = f
		}
	}
	var all []*Image
	seen := map[v1.Hash]bool{}
	for _, d := range list.Manifests {
		if seen[d.Digest] {
			continue // by another name
		}
		seen[d.Digest] = true
		i, err := s.image(d, blobs, snapshots, o)
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", d.Digest, err)
		}
		all = append(all, i)
	}
	slices.SortStableFunc(all, func(a, b *Image) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

func (s *store) image(d v1.Descriptor, blobs tree, snapshots map[int]tree, o Options) (*Image, error) {
	text, err := documentAt(blobs, d.Digest)
	if err != nil {
		return nil, err
	}
	manifest, err := v1.ParseManifest(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	document, err := documentAt(blobs, manifest.Config.Digest)
	if err != nil {
		return nil, err
	}
	config, err := v1.ParseConfigFile(bytes.NewReader(document))
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	i := &Image{Name: familiar(d.Annotations["io.containerd.image.name"]), Path: "/" + s.index, Digest: d.Digest}
	var layers []*scan.Archive
	for _, number := range strings.Fields(d.Annotations[storeSnapshots]) {
		n, err := strconv.Atoi(number)
		if err != nil {
			return nil, fmt.Errorf("its annotation %s is %q, and is to be numbers", storeSnapshots, d.Annotations[storeSnapshots])
		}
		if snapshots[n] == nil {
			return nil, fmt.Errorf("snapshot %d is missing, or empty", n)
		}
		layers = append(layers, &scan.Archive{Files: snapshots[n]})
	}
	if len(layers) == 0 && len(manifest.Layers) > 0 {
		return nil, fmt.Errorf("its annotation %s names no snapshot", storeSnapshots)
	}
	i.describe(config, digests(manifest.Layers))
	return i, i.fill(scan.Squash(layers), o)
}

// documentAt returns a JSON document of an OCI layout, compared with its digest.
func documentAt(t tree, digest v1.Hash) ([]byte, error) {
	p := ocilayout.Blob(digest)
	f := t.lookup(p)
	if f == nil || f.Text == nil {
		return nil, fmt.Errorf("%s is missing", p)
	}
	if f.SHA256 != digest.Hex {
		return nil, fmt.Errorf("%s is damaged: its digest is sha256:%s", p, f.SHA256)
	}
	return f.Text, nil
}
