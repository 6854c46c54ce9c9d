package v1alpha1

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// containerdVersion is that of containerd's configuration in the node image:
// https://github.com/containerd/containerd/blob/v2.3.0/docs/cri/config.md.
const containerdVersion = int64(3)

func checkContainerdPatch(text string) error {
	patch, err := parseContainerdPatch(text)
	if err != nil || patch == nil {
		return err
	}
	plugins, _ := patch["plugins"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(plugins)) {
		if strings.HasPrefix(name, "io.containerd.grpc.v1.cri") {
			return fmt.Errorf("containerd reads no plugin %q in a configuration of version %d: it has become \"io.containerd.cri.v1.images\" and \"io.containerd.cri.v1.runtime\"", name, containerdVersion)
		}
	}
	return nil
}

// parseContainerdPatch returns nil for a patch that is for another version.
func parseContainerdPatch(text string) (map[string]any, error) {
	var patch map[string]any
	if err := toml.Unmarshal([]byte(text), &patch); err != nil {
		return nil, fmt.Errorf("not TOML: %w", err)
	}
	version, ok := patch["version"]
	if _, number := version.(int64); ok && !number {
		return nil, fmt.Errorf("version: %v: want a whole number", version)
	}
	if ok && version != containerdVersion {
		return nil, nil
	}
	return patch, nil
}

// PatchContainerd returns containerd's configuration as patches have it: tables are merged, everything else is replaced.
func PatchContainerd(config []byte, patches []string) ([]byte, error) {
	if len(patches) == 0 {
		return config, nil
	}
	var tree map[string]any
	if err := toml.Unmarshal(config, &tree); err != nil {
		return nil, fmt.Errorf("reading containerd's configuration: %w", err)
	}
	for i, text := range patches {
		patch, err := parseContainerdPatch(text)
		if err != nil {
			return nil, fmt.Errorf("containerdConfigPatches[%d]: %w", i, err)
		}
		merge(tree, patch)
	}
	return toml.Marshal(tree)
}

func merge(into, from map[string]any) {
	for key, value := range from {
		a, ok := into[key].(map[string]any)
		b, both := value.(map[string]any)
		if ok && both {
			merge(a, b)
		} else {
			into[key] = value
		}
	}
}
