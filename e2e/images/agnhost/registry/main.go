// Command registry lays an image out as agnhost's fake-registry-server serves it: a tar archive of
// var/registry.
//
// Tests pull this image from inside the cluster, to see how the kubelet deals with registries.
// Upstream's image holds a copy of the pause image from the public registry; ours holds the one
// built here.
package main

import (
	"archive/tar"
	"flag"
	"io"
	"os"
	"path"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/dind-cluster/dind-cluster/internal/cli"
)

func main() {
	image := flag.String("image", "", "the image, as docker save `archive`")
	name := flag.String("name", "", "its `name` in the registry")
	tag := flag.String("tag", "", "its `tag` in the registry")
	out := flag.String("out", "", "tar archive to write")
	flag.Parse()
	cli.End("registry: laying out "+*image, run(*image, *name, *tag, *out))
}

func run(archive, name, tag, out string) error {
	image, err := tarball.ImageFromPath(archive, nil)
	if err != nil {
		return err
	}
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	defer f.Close()
	w := &writer{tw: tar.NewWriter(f), dir: path.Join("var/registry", name)}
	if err := w.image(image, tag); err != nil {
		return err
	}
	if err := w.tw.Close(); err != nil {
		return err
	}
	return f.Close()
}

type writer struct {
	tw  *tar.Writer
	dir string
}

func (w *writer) image(image v1.Image, tag string) error {
	layers, err := image.Layers()
	if err != nil {
		return err
	}
	for _, layer := range layers {
		digest, err := layer.Digest()
		if err != nil {
			return err
		}
		r, err := layer.Compressed()
		if err != nil {
			return err
		}
		content, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		if err := w.blob("blobs", digest, content); err != nil {
			return err
		}
	}
	config, err := image.RawConfigFile()
	if err != nil {
		return err
	}
	digest, err := image.ConfigName()
	if err != nil {
		return err
	}
	if err := w.blob("blobs", digest, config); err != nil {
		return err
	}
	manifest, err := image.RawManifest()
	if err != nil {
		return err
	}
	if digest, err = image.Digest(); err != nil {
		return err
	}
	if err := w.blob("manifests", digest, manifest); err != nil {
		return err
	}
	// A tag is a file that names the digest.
	return w.file(path.Join(w.dir, "manifests", tag), []byte(digest.String()+"\n"))
}

func (w *writer) blob(kind string, digest v1.Hash, content []byte) error {
	return w.file(path.Join(w.dir, kind, digest.Algorithm, digest.Hex[:2], digest.Hex, "data"), content)
}

func (w *writer) file(name string, content []byte) error {
	if err := w.tw.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(content))}); err != nil {
		return err
	}
	_, err := w.tw.Write(content)
	return err
}
