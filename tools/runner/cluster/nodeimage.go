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
	"github.com/dind-cluster/dind-cluster/tools/runner/store"
	"github.com/dind-cluster/dind-cluster/tools/runner/timeline"
)

// nodeImage returns the name under which the container's Docker has the node image.
func nodeImage() (string, error) {
	data, err := os.ReadFile(filepath.Join(paths.NodeStore, "index.json"))
	if errors.Is(err, os.ErrNotExist) {
		data, err = os.ReadFile(filepath.Join(paths.NodeImage, "index.json"))
	}
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

// storeMounts returns the options of `docker run` by which a node has the images of its components: they lie unpacked in
// the node image, and the node's own root file system is an overlay already, on which no further one can be mounted. What
// is bound is the folder below that overlay.
//
// The store is where containerd's snapshots of the node image came from; root is that containerd's root directory, in
// which each of them is a link to the store, or a copy where the store itself cannot be shared.
func storeMounts(nodeStore, root string) ([]string, error) {
	found, err := filepath.Glob(filepath.Join(nodeStore, store.Snapshots, "*", "fs", paths.Stores, "*"))
	if err != nil {
		return nil, err
	}
	var args []string
	for _, group := range found {
		relative, err := filepath.Rel(nodeStore, group)
		if err != nil {
			return nil, err
		}
		source, err := filepath.EvalSymlinks(filepath.Join(root, relative))
		if err != nil {
			return nil, fmt.Errorf("finding the images of the nodes' components: %w", err)
		}
		args = append(args, "--volume", source+":"+filepath.Join(paths.Stores, filepath.Base(group))+":ro")
	}
	return args, nil
}

// loadNodeImage puts the node image, which came with this container's image, into the container's Docker.
func (c *cluster) loadNodeImage(ctx context.Context) (string, error) {
	if seeded, err := store.Read(paths.Seeded); err == nil {
		c.spans.Add(timeline.Span{Name: "images", Start: seeded.Start, End: seeded.Start.Add(seeded.Took)})
		return "there already", nil
	}
	cmd := exec.CommandContext(ctx, "loader", "load", "--node", "local", "--namespace", "moby", paths.NodeImage)
	cmd.WaitDelay = 2 * time.Second
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%w:\n%s", err, bytes.TrimSpace(output.Bytes()))
	}
	return "", nil
}
