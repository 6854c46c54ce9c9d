package load

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/dind-cluster/dind-cluster/image"
	"github.com/dind-cluster/dind-cluster/internal/docker"
	"github.com/dind-cluster/dind-cluster/internal/progress"
	"github.com/dind-cluster/dind-cluster/internal/runfiles"
)

// Built is an image that Bazel has put with this program.
type Built struct {
	docker   *docker.Client
	progress *progress.Printer
	files    *image.Files
}

// NewBuilt returns the image of which path is the description among the runfiles, as
// $(rlocationpath) has it. The paths in the description are relative to the runfiles, too. Sending
// the image to d is a step of p.
func NewBuilt(d *docker.Client, p *progress.Printer, path string) (*Built, error) {
	root, err := runfiles.Root(path)
	if err != nil {
		return nil, fmt.Errorf("%w, or name an image of the local Docker with --image", err)
	}
	files, err := image.ReadFiles(filepath.Join(root, path), root)
	if err != nil {
		return nil, err
	}
	return &Built{docker: d, progress: p, files: files}, nil
}

// Send sends the layers that the Docker engine lacks, and returns the image's name there.
func (b *Built) Send(ctx context.Context) (string, error) {
	img, err := image.Open(b.files)
	if err != nil {
		return "", err
	}
	step := b.progress.Step("Sending image %s to the local Docker", b.files.Name)
	sent, err := Image(ctx, b.docker, img, b.files.Name)
	if err != nil {
		step.Fail("")
		return "", docker.ExplainDiskFull(err)
	}
	removed := ""
	if sent.Removed {
		removed = "; the one of that name before is removed"
	}
	if sent.Sent == 0 {
		step.Done("it has it%s", removed)
	} else {
		step.Done("%d of %d layers, %s%s", sent.Sent, sent.Layers, progress.Size(sent.Bytes), removed)
	}
	return b.files.Name, nil
}
