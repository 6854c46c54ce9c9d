// Package images tests the images that Kubernetes' tests use, as they are in the archive.
package images

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/dind-cluster/dind-cluster/image/imagefiles"
	"github.com/dind-cluster/dind-cluster/internal/repeated"
)

var (
	archive    = flag.String("archive", "", "the archive of all test images")
	e2e        = flag.String("e2e", "", "e2e.test of the same Kubernetes")
	needed     = flag.String("needs", "", "table of the images that its specs need")
	nodeImages repeated.Strings
)

func TestMain(m *testing.M) {
	flag.Var(&nodeImages, "node-image", "archive of an image that every node has; repeat")
	flag.Parse()
	os.Exit(m.Run())
}

// names returns the names of all images in an archive.
func names(t *testing.T, archive string) []string {
	t.Helper()
	manifest, err := tarball.LoadManifest(func() (io.ReadCloser, error) { return os.Open(archive) })
	if err != nil {
		t.Fatalf("%s: %v", archive, err)
	}
	var names []string
	for _, image := range manifest {
		names = append(names, image.RepoTags...)
	}
	return names
}

// image is an image in the archive.
type image struct {
	config *v1.ConfigFile
	layers []v1.Hash
	// files are those of upper layers over those of lower ones.
	files imagefiles.Files
}

// layers are those read so far, since most images share some.
var layers = struct {
	sync.Mutex
	files map[v1.Hash]imagefiles.Files
}{files: map[v1.Hash]imagefiles.Files{}}

// load reads the image agnhost:2.55 and so on, whatever its registry.
func load(t *testing.T, short string) *image {
	t.Helper()
	for _, full := range names(t, *archive) {
		if path.Base(full) == short {
			i, err := read(full)
			if err != nil {
				t.Fatalf("%s: %v", full, err)
			}
			return i
		}
	}
	t.Fatalf("the archive has no %s", short)
	return nil
}

func read(full string) (*image, error) {
	tag, err := name.NewTag(full)
	if err != nil {
		return nil, err
	}
	from, err := tarball.ImageFromPath(*archive, &tag)
	if err != nil {
		return nil, err
	}
	i := &image{files: imagefiles.Files{}}
	if i.config, err = from.ConfigFile(); err != nil {
		return nil, err
	}
	all, err := from.Layers()
	if err != nil {
		return nil, err
	}
	for _, l := range all {
		id, err := l.DiffID()
		if err != nil {
			return nil, err
		}
		files, err := readLayer(id, l)
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", id, err)
		}
		i.layers = append(i.layers, id)
		maps.Copy(i.files, files)
	}
	return i, nil
}

func readLayer(id v1.Hash, l v1.Layer) (imagefiles.Files, error) {
	layers.Lock()
	defer layers.Unlock()
	if files, ok := layers.files[id]; ok {
		return files, nil
	}
	r, err := l.Uncompressed()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	files, err := imagefiles.ReadLayer(r)
	if err == nil {
		layers.files[id] = files
	}
	return files, err
}

// program writes a program of the image to a file that can be run here.
func (i *image) program(t *testing.T, p string) string {
	t.Helper()
	f := i.files.Resolve(p)
	if f == nil || f.Typeflag != tar.TypeReg {
		t.Fatalf("no program /%s", p)
	}
	to := path.Join(t.TempDir(), path.Base(p))
	if err := os.WriteFile(to, f.Content, 0o755); err != nil {
		t.Fatal(err)
	}
	return to
}

// TestLayersAreStoredOnce holds the number of layers in the archive against the number of different
// ones. The empty layers, by which that is reached, do not count.
func TestLayersAreStoredOnce(t *testing.T) {
	f, err := os.Open(*archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var stored int
	var manifest []struct{ Layers []string }
	for tr := tar.NewReader(f); ; {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case hdr.Name == "manifest.json":
			if err := json.NewDecoder(tr).Decode(&manifest); err != nil {
				t.Fatal(err)
			}
		case path.Ext(hdr.Name) == ".tar" && hdr.Typeflag == tar.TypeReg:
			if _, err := tar.NewReader(tr).Next(); err == nil {
				stored++
			}
		}
	}
	different := map[v1.Hash]bool{}
	for _, n := range names(t, *archive) {
		for _, l := range load(t, path.Base(n)).layers {
			if len(layers.files[l]) > 0 {
				different[l] = true
			}
		}
	}
	if stored != len(different) || stored == 0 {
		t.Errorf("the archive holds %d layers, of which %d differ", stored, len(different))
	}
}
