package cluster

import (
	"context"

	"github.com/dind-cluster/dind-cluster/image"
	"github.com/dind-cluster/dind-cluster/image/load"
	"github.com/dind-cluster/dind-cluster/internal/progress"
)

// Built returns the image that Bazel has built: description is the file that says where its
// parts are below runfiles.
func (l *Launcher) Built(description, runfiles string) (Image, error) {
	files, err := image.ReadFiles(description, runfiles)
	if err != nil {
		return nil, err
	}
	return &built{launcher: l, files: files}, nil
}

type built struct {
	launcher *Launcher
	files    *image.Files
}

// Send implements Image: the local Docker gets the layers that it lacks.
func (b *built) Send(ctx context.Context) (string, error) {
	img, err := image.Open(b.files)
	if err != nil {
		return "", err
	}
	step := b.launcher.Progress.Step("Sending image %s to the local Docker", b.files.Name)
	sent, err := load.Image(ctx, b.launcher.Docker, img, b.files.Name)
	if err != nil {
		step.Fail("")
		return "", explainSend(err)
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
