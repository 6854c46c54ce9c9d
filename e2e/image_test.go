package e2e

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/dind-cluster/dind-cluster/cluster/host"
	"github.com/dind-cluster/dind-cluster/image/load"
)

// Where Bazel has put the images, below $TEST_SRCDIR. For a run with plain `go test`, the
// second of each pair: a name that the local Docker has, and any path of an archive.
const (
	imageFile, imageName     = "DIND_CLUSTER_IMAGE_FILE", "DIND_CLUSTER_IMAGE"
	agnhostFile, agnhostPath = "DIND_CLUSTER_AGNHOST_FILE", "DIND_CLUSTER_AGNHOST"
)

func imageUnderTest(l *host.Launcher) (host.Image, error) {
	if ref := os.Getenv(imageName); ref != "" {
		return host.Present(ref), nil
	}
	path := os.Getenv(imageFile)
	if path == "" {
		return nil, fmt.Errorf("no image to test: run `bazel test //e2e:smoke`, or set %s and %s", imageName, agnhostPath)
	}
	return load.NewBuilt(l.Docker, l.Progress, path)
}

func agnhostArchive() (string, error) {
	if path := os.Getenv(agnhostPath); path != "" {
		return path, nil
	}
	path, root := os.Getenv(agnhostFile), os.Getenv("TEST_SRCDIR")
	if path == "" || root == "" {
		return "", fmt.Errorf("no agnhost image: run `bazel test //e2e:smoke`, or set %s", agnhostPath)
	}
	return filepath.Join(root, path), nil
}
