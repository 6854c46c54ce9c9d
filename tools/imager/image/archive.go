package image

import (
	"archive/tar"
	"fmt"
	"io"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// archiveManifest is an entry of the manifest.json of a docker-save archive.
type archiveManifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// WriteArchive writes a file for docker load, without the first skip layers: an
// engine which has them already does not look for them.
func WriteArchive(w io.Writer, img v1.Image, tag string, skip int) error {
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return err
	}
	am := archiveManifest{Config: Hash(config).Hex + ".json", RepoTags: []string{tag}}
	for _, l := range layers {
		digest, err := l.Digest()
		if err != nil {
			return err
		}
		am.Layers = append(am.Layers, digest.Hex+".tar.gz")
	}
	index, err := compact([]archiveManifest{am})
	if err != nil {
		return err
	}
	tw := tar.NewWriter(w)
	// What is small comes first, so that a reader of the stream knows at once what
	// it is getting.
	if err := writeMember(tw, "manifest.json", index); err != nil {
		return err
	}
	if err := writeMember(tw, am.Config, config); err != nil {
		return err
	}
	written := map[string]bool{}
	for i, l := range layers {
		if i < skip || written[am.Layers[i]] {
			continue
		}
		written[am.Layers[i]] = true
		if err := writeLayer(tw, am.Layers[i], l); err != nil {
			return fmt.Errorf("layer %d: %w", i, err)
		}
	}
	return tw.Close()
}

func header(name string, size int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size, ModTime: time.Unix(0, 0)}
}

func writeMember(tw *tar.Writer, name string, content []byte) error {
	if err := tw.WriteHeader(header(name, int64(len(content)))); err != nil {
		return err
	}
	_, err := tw.Write(content)
	return err
}

func writeLayer(tw *tar.Writer, name string, l v1.Layer) error {
	size, err := l.Size()
	if err != nil {
		return err
	}
	r, err := l.Compressed()
	if err != nil {
		return err
	}
	defer r.Close()
	if err := tw.WriteHeader(header(name, size)); err != nil {
		return err
	}
	_, err = io.Copy(tw, r)
	return err
}
