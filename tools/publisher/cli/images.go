package cli

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/dind-cluster/dind-cluster/image"
	"github.com/dind-cluster/dind-cluster/internal/progress"
	"github.com/dind-cluster/dind-cluster/tools/publisher/push"
	"github.com/dind-cluster/dind-cluster/tools/publisher/stamp"
)

// open opens the images, with their tags and SBOMs, and stamps them with the commit.
func (f *flags) open(printer *progress.Printer) ([]push.Image, error) {
	sboms := map[string]string{}
	for _, text := range f.sboms {
		name, file, found := strings.Cut(text, "=")
		if !found {
			return nil, usageError{fmt.Errorf("--sbom-file: %q is not NAME=FILE", text)}
		}
		sboms[name] = file
	}
	commit := f.commit(printer)
	stamper, err := f.stamper(commit)
	if err != nil {
		return nil, err
	}
	var images []push.Image
	for _, path := range f.images {
		files, err := image.ReadFiles(f.inRoot(path), f.root)
		if err != nil {
			return nil, err
		}
		built, err := image.Open(files)
		if err != nil {
			return nil, err
		}
		name, version, err := split(files.Name)
		if err != nil {
			return nil, fmt.Errorf("%s: the image's name: %w", path, err)
		}
		one := push.Image{Name: name, Tags: f.tags, Image: built}
		if stamper != nil {
			if one.Image, err = stamper.Image(built); err != nil {
				return nil, fmt.Errorf("writing the commit into the manifest of %s: %w", name, err)
			}
		}
		if len(f.tags) == 0 {
			one.Tags = []string{version}
			if commit != "" {
				one.Tags = append(one.Tags, version+"-"+stamp.Short(commit))
			}
		}
		if file, found := sboms[name]; found && f.withSBOM {
			sbom, err := newSBOM(f.inRoot(file), name, built, one.Image)
			if err != nil {
				return nil, fmt.Errorf("SBOM of %s, %s: %w", name, file, err)
			}
			one.Attachments = append(one.Attachments, sbom)
		}
		images = append(images, one)
	}
	return images, nil
}

// newSBOM makes an image's SBOM. The document names the image by its digest: here that of the
// pushed one.
func newSBOM(file, name string, built, pushed v1.Image) (*push.Attachment, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	from, err := built.Digest()
	if err != nil {
		return nil, err
	}
	to, err := pushed.Digest()
	if err != nil {
		return nil, err
	}
	content = bytes.ReplaceAll(content, []byte(from.Hex), []byte(to.Hex))
	return push.NewSBOM(pushed, name+".spdx.json", content)
}

// stamper returns nil without a commit.
func (f *flags) stamper(commit string) (*stamp.Stamper, error) {
	if commit == "" {
		return nil, nil
	}
	var bases [][]byte
	for _, path := range f.bases {
		manifest, err := os.ReadFile(f.inRoot(path))
		if err != nil {
			return nil, fmt.Errorf("reading the manifest of a base image: %w", err)
		}
		bases = append(bases, manifest)
	}
	return stamp.New(commit, bases...)
}

func (f *flags) inRoot(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(f.root, path)
}

// commit returns the commit that the images are stamped with. A source tree need not be a checkout,
// so a push goes on without one.
func (f *flags) commit(printer *progress.Printer) string {
	if !f.withCommit {
		return ""
	}
	if f.status == "" {
		printer.Printf("No commit in the manifests and tags: not started by bazel run")
		return ""
	}
	commit, err := stamp.ReadCommit(f.inRoot(f.status))
	if err != nil {
		printer.Printf("No commit in the manifests and tags: %v", err)
	}
	return commit
}
