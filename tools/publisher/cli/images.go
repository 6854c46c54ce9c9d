package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/dind-cluster/dind-cluster/tools/imager/image"
	"github.com/dind-cluster/dind-cluster/tools/internal/progress"
	"github.com/dind-cluster/dind-cluster/tools/publisher/push"
	"github.com/dind-cluster/dind-cluster/tools/publisher/stamp"
)

// open opens the images, with their tags and SBOMs.
func (f *flags) open(ctx context.Context, printer *progress.Printer) ([]push.Image, error) {
	sboms := map[string]string{}
	for _, text := range f.sboms {
		name, file, found := strings.Cut(text, "=")
		if !found {
			return nil, usageError{fmt.Errorf("--sbom-file: %q is not NAME=FILE", text)}
		}
		sboms[name] = file
	}
	commit := f.commit(ctx, printer)
	var images []push.Image
	for _, path := range f.images {
		files, err := image.ReadFiles(f.inRoot(path), f.root)
		if err != nil {
			return nil, err
		}
		img, err := image.Open(files)
		if err != nil {
			return nil, err
		}
		name, version, err := split(files.Name)
		if err != nil {
			return nil, fmt.Errorf("%s: the image's name: %w", path, err)
		}
		one := push.Image{Name: name, Tags: f.tags, Image: img}
		if len(f.tags) == 0 {
			one.Tags = []string{version}
			if commit != "" {
				one.Tags = append(one.Tags, version+"-"+commit)
			}
		}
		if file, found := sboms[name]; found && f.withSBOM {
			content, err := os.ReadFile(f.inRoot(file))
			if err != nil {
				return nil, fmt.Errorf("read the SBOM of %s: %w", name, err)
			}
			sbom, err := push.NewSBOM(img, name+".spdx.json", content)
			if err != nil {
				return nil, fmt.Errorf("SBOM of %s, %s: %w", name, file, err)
			}
			one.Attachments = append(one.Attachments, sbom)
		}
		images = append(images, one)
	}
	return images, nil
}

func (f *flags) inRoot(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(f.root, path)
}

// commit is what the default tags are stamped with. A source tree need not be a checkout, so that there is none stops
// nobody from pushing.
func (f *flags) commit(ctx context.Context, printer *progress.Printer) string {
	if len(f.tags) > 0 {
		return ""
	}
	dir := os.Getenv("BUILD_WORKSPACE_DIRECTORY")
	if dir == "" {
		printer.Printf("No tag with the commit: not started by bazel run")
		return ""
	}
	commit, err := stamp.Of(ctx, dir)
	if err != nil {
		printer.Printf("No tag with the commit: %v", err)
	}
	return commit
}
