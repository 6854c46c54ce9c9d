package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dind-cluster/dind-cluster/image"
	"github.com/dind-cluster/dind-cluster/image/load"
	"github.com/dind-cluster/dind-cluster/internal/progress"
)

// Built returns an image that Bazel has built. Path is that of its description among the runfiles, as $(rlocationpath) has
// it; the paths in the description are relative to the runfiles, too.
func (l *Launcher) Built(path string) (Image, error) {
	root, err := runfiles(path)
	if err != nil {
		return nil, err
	}
	files, err := image.ReadFiles(filepath.Join(root, path), root)
	if err != nil {
		return nil, err
	}
	return &built{launcher: l, files: files}, nil
}

// runfiles returns the folder that holds, at path below it, what Bazel has put with this program. rules_go's package of that
// name finds single files, by way of a manifest where there is one, and so has no such folder.
func runfiles(path string) (string, error) {
	roots := []string{os.Getenv("RUNFILES_DIR"), os.Getenv("TEST_SRCDIR"), os.Args[0] + ".runfiles"}
	if self, err := os.Executable(); err == nil {
		roots = append(roots, self+".runfiles")
	}
	// Where `bazel run` starts a program: its workspace's folder in the runfiles.
	roots = append(roots, "..")
	for _, root := range roots {
		if root == "" {
			continue
		}
		if _, err := os.Stat(filepath.Join(root, path)); err == nil {
			return filepath.Abs(root)
		}
	}
	return "", fmt.Errorf("cannot find the image's files (%s) in any of %q: start this program with `bazel run`, or name an image of the local Docker with --image", path, roots)
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
