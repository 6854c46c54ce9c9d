package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/dind-cluster/dind-cluster/cluster/host"
	"github.com/dind-cluster/dind-cluster/image/load"
)

func imageUnderTest(l *host.Launcher) (host.Image, error) {
	if ref := os.Getenv("DIND_CLUSTER_IMAGE"); ref != "" {
		return host.Present(ref), nil
	}
	path := os.Getenv("DIND_CLUSTER_IMAGE_FILE")
	if path == "" {
		return nil, errors.New("no image to test: run `bazel test //e2e:smoke`, or name one that Docker has in $DIND_CLUSTER_IMAGE")
	}
	return load.NewBuilt(l.Docker, l.Progress, path)
}

// runfile returns the path of a file that the test needs. With Bazel $DIND_CLUSTER_NAME_FILE is its
// path below $TEST_SRCDIR; for a run with plain `go test` $DIND_CLUSTER_NAME is any path.
func runfile(t *testing.T, name string) string {
	t.Helper()
	variable := "DIND_CLUSTER_" + name
	if path := os.Getenv(variable); path != "" {
		return path
	}
	path, root := os.Getenv(variable+"_FILE"), os.Getenv("TEST_SRCDIR")
	if path == "" || root == "" {
		t.Fatalf("a file is missing: run this test with Bazel, or give the file's path in $%s", variable)
	}
	return filepath.Join(root, path)
}
