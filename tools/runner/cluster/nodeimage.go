package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/dind-cluster/dind-cluster/tools/runner/paths"
)

// nodeImage returns the name under which the node image is loaded, as its OCI layout has it.
func nodeImage() (string, error) {
	data, err := os.ReadFile(filepath.Join(paths.NodeImage, "index.json"))
	if err != nil {
		return "", fmt.Errorf("finding the node image: %w", err)
	}
	name, err := imageName(data)
	if err != nil {
		return "", fmt.Errorf("finding the node image: %w", err)
	}
	return name, nil
}

// imageName returns the name of the one image in an OCI layout.
func imageName(index []byte) (string, error) {
	var layout struct {
		Manifests []struct{ Annotations map[string]string }
	}
	if err := json.Unmarshal(index, &layout); err != nil {
		return "", fmt.Errorf("reading index.json: %w", err)
	}
	if len(layout.Manifests) != 1 {
		return "", fmt.Errorf("index.json names %d images, want one", len(layout.Manifests))
	}
	for _, key := range []string{"io.containerd.image.name", "org.opencontainers.image.ref.name"} {
		if name := layout.Manifests[0].Annotations[key]; name != "" {
			return name, nil
		}
	}
	return "", errors.New("index.json does not name the image")
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
