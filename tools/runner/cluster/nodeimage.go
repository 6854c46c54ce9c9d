package cluster

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/dind-cluster/dind-cluster/tools/runner/paths"
)

// nodeImageFile holds the node image's name, next to its OCI layout.
var nodeImageFile = filepath.Join(filepath.Dir(paths.NodeImage), "node-image.name")

// nodeImage returns the name under which the node image is loaded.
func nodeImage() (string, error) {
	data, err := os.ReadFile(nodeImageFile)
	if err != nil {
		return "", fmt.Errorf("finding the node image: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}

// loadNodeImage puts the node image, which came with this container's image, into the container's Docker.
func (c *cluster) loadNodeImage(ctx context.Context) (string, error) {
	cmd := exec.CommandContext(ctx, "loader", "load", "--to", "docker", paths.NodeImage)
	cmd.WaitDelay = 2 * time.Second
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%w:\n%s", err, bytes.TrimSpace(output.Bytes()))
	}
	return "", nil
}
