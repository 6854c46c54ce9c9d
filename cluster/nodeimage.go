package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dind-cluster/dind-cluster/cluster/paths"
	"github.com/dind-cluster/dind-cluster/cluster/store"
)

// nodeImage returns the name under which the container's Docker has the node image.
func nodeImage() (string, error) {
	data, err := os.ReadFile(filepath.Join(paths.NodeStore, "index.json"))
	if err != nil {
		return "", fmt.Errorf("reading the name of the node image: %w", err)
	}
	name, err := imageName(data)
	if err != nil {
		return "", fmt.Errorf("reading the name of the node image: %w", err)
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

// storeMounts returns the options of `docker run` that mount the images of its components in a
// node. They lie unpacked in the node image, but a node's root is an overlay on an overlay, and the
// kernel stacks them two deep at most (FILESYSTEM_MAX_STACK_DEPTH in
// https://github.com/torvalds/linux/blob/v6.12/include/linux/fs.h). So the directory below the
// node's overlay is bound.
//
// nodeStore is where containerd's snapshots of the node image came from; root is that containerd's
// root directory, in which each of them is a link to the store, or a copy where the store itself
// cannot be shared.
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
