package v1alpha1

import (
	"bytes"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// The names of containerd's CRI plugin: before version 3 of its configuration, which kind's nodes
// have, and since, which the nodes' containerd takes:
// https://github.com/containerd/containerd/blob/v2.3.0/docs/cri/config.md.
const (
	criPlugin     = "io.containerd.grpc.v1.cri"
	imagesPlugin  = "io.containerd.cri.v1.images"
	runtimePlugin = "io.containerd.cri.v1.runtime"
)

// containerdVersions are those of the patches that are read. Tables are moved from version 2; what
// patches change is the same in 3 and 4.
var containerdVersions = []int64{2, 3, 4}

// criSettings says where containerd has moved settings of criPlugin, by their path there
// (migrateConfig in https://github.com/containerd/containerd/blob/v2.3.0/plugins/cri/images/plugin.go
// and …/runtime/plugin.go).
var criSettings = map[string][]string{
	"registry":                                {imagesPlugin, "registry"},
	"max_concurrent_downloads":                {imagesPlugin, "max_concurrent_downloads"},
	"image_pull_progress_timeout":             {imagesPlugin, "image_pull_progress_timeout"},
	"sandbox_image":                           {imagesPlugin, "pinned_images", "sandbox"},
	"containerd.snapshotter":                  {imagesPlugin, "snapshotter"},
	"containerd.disable_snapshot_annotations": {imagesPlugin, "disable_snapshot_annotations"},
	"containerd.discard_unpacked_layers":      {imagesPlugin, "discard_unpacked_layers"},
	"containerd.default_runtime_name":         {runtimePlugin, "containerd", "default_runtime_name"},
	"containerd.runtimes":                     {runtimePlugin, "containerd", "runtimes"},
	"cni.conf_dir":                            {runtimePlugin, "cni", "conf_dir"},
	"cni.conf_template":                       {runtimePlugin, "cni", "conf_template"},
	"cni.max_conf_num":                        {runtimePlugin, "cni", "max_conf_num"},
	"enable_cdi":                              {runtimePlugin, "enable_cdi"},
	"cdi_spec_dirs":                           {runtimePlugin, "cdi_spec_dirs"},
	"enable_selinux":                          {runtimePlugin, "enable_selinux"},
	"enable_unprivileged_icmp":                {runtimePlugin, "enable_unprivileged_icmp"},
	"enable_unprivileged_ports":               {runtimePlugin, "enable_unprivileged_ports"},
	"device_ownership_from_security_context":  {runtimePlugin, "device_ownership_from_security_context"},
	"max_container_log_line_size":             {runtimePlugin, "max_container_log_line_size"},
	"restrict_oom_score_adj":                  {runtimePlugin, "restrict_oom_score_adj"},
	"tolerate_missing_hugetlb_controller":     {runtimePlugin, "tolerate_missing_hugetlb_controller"},
}

func checkContainerdPatch(text string) error {
	_, _, err := parseContainerdPatch(text)
	return err
}

// parseContainerdPatch returns a patch with its settings where the nodes' containerd has them, and
// the mirrors in it as files hosts.toml by registry. A patch for another version is empty.
func parseContainerdPatch(text string) (patch map[string]any, hosts map[string][]byte, err error) {
	if err := toml.Unmarshal([]byte(text), &patch); err != nil {
		return nil, nil, fmt.Errorf("not TOML: %w", err)
	}
	if version, ok := patch["version"]; ok {
		n, number := version.(int64)
		if !number {
			return nil, nil, fmt.Errorf("version: %v: want a whole number", version)
		}
		if !slices.Contains(containerdVersions, n) {
			return nil, nil, nil
		}
		delete(patch, "version")
	}
	plugins, _ := patch["plugins"].(map[string]any)
	if old, ok := plugins[criPlugin].(map[string]any); ok {
		delete(plugins, criPlugin)
		if err := moveSettings(plugins, old, ""); err != nil {
			return nil, nil, err
		}
	}
	images, _ := plugins[imagesPlugin].(map[string]any)
	registry, _ := images["registry"].(map[string]any)
	for _, name := range []string{"configs", "auths", "headers"} {
		if _, ok := registry[name]; ok {
			return nil, nil, fmt.Errorf("registry.%s does not go with config_path, which the nodes have: mount a file hosts.toml at /etc/containerd/certs.d/REGISTRY (https://github.com/containerd/containerd/blob/v2.3.0/docs/hosts.md)", name)
		}
	}
	mirrors, _ := registry["mirrors"].(map[string]any)
	delete(registry, "mirrors")
	hosts = map[string][]byte{}
	for _, name := range slices.Sorted(maps.Keys(mirrors)) {
		dir := strings.Replace(name, "*", "_default", 1)
		if !registryName.MatchString(dir) {
			return nil, nil, fmt.Errorf("registry.mirrors: %q: want a registry such as docker.io or localhost:5000", name)
		}
		if hosts[dir], err = hostsFile(mirrors[name]); err != nil {
			return nil, nil, fmt.Errorf("registry.mirrors.%q: %w", name, err)
		}
	}
	return patch, hosts, nil
}

var registryName = regexp.MustCompile(`^[A-Za-z0-9_]([-A-Za-z0-9._]*[A-Za-z0-9_])?(:[0-9]+)?$`)

// moveSettings moves the settings of criPlugin, below a path there, to where containerd has them now.
func moveSettings(plugins, old map[string]any, below string) error {
	for _, key := range slices.Sorted(maps.Keys(old)) {
		path := below + key
		table, ok := old[key].(map[string]any)
		if to, known := criSettings[path]; known {
			value := old[key]
			for _, name := range slices.Backward(to) {
				value = map[string]any{name: value}
			}
			merge(plugins, value.(map[string]any))
		} else if !ok || path != "containerd" && path != "cni" {
			return fmt.Errorf("plugin %q: %s: it is not known where containerd has this setting now: patch \"%s\" or \"%s\" (https://github.com/containerd/containerd/blob/v2.3.0/docs/cri/config.md)", criPlugin, path, imagesPlugin, runtimePlugin)
		} else if err := moveSettings(plugins, table, path+"."); err != nil {
			return err
		}
	}
	return nil
}

// hostsFile returns hosts.toml for a registry's table of mirrors, which containerd refuses beside
// config_path. Both try one endpoint after the other and the registry itself last
// (https://github.com/containerd/containerd/blob/v2.3.0/docs/hosts.md).
func hostsFile(mirror any) ([]byte, error) {
	table, _ := mirror.(map[string]any)
	endpoints, ok := table["endpoint"].([]any)
	if !ok {
		return nil, fmt.Errorf("want a list of URLs as its endpoint")
	}
	var out bytes.Buffer
	for _, e := range endpoints {
		text, _ := e.(string)
		u, err := url.Parse(text)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || strings.ContainsAny(text, "\"\\\n") {
			return nil, fmt.Errorf("%q: want a URL such as http://registry:5000", e)
		}
		fmt.Fprintf(&out, "[host.%q]\n", text)
		if strings.Trim(u.Path, "/") != "" {
			fmt.Fprintln(&out, "override_path = true")
		}
	}
	return out.Bytes(), nil
}

// PatchContainerd returns containerd's configuration as patches have it: tables are merged,
// everything else is replaced. Mirrors of registries come as files hosts.toml, by the name of their
// directory in config_path.
func PatchContainerd(config []byte, patches []string) (patched []byte, hosts map[string][]byte, err error) {
	if len(patches) == 0 {
		return config, nil, nil
	}
	var tree map[string]any
	if err := toml.Unmarshal(config, &tree); err != nil {
		return nil, nil, fmt.Errorf("reading containerd's configuration: %w", err)
	}
	hosts = map[string][]byte{}
	for i, text := range patches {
		patch, more, err := parseContainerdPatch(text)
		if err != nil {
			return nil, nil, fmt.Errorf("containerdConfigPatches[%d]: %w", i, err)
		}
		merge(tree, patch)
		maps.Copy(hosts, more)
	}
	patched, err = toml.Marshal(tree)
	return patched, hosts, err
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
