package v1alpha1

import (
	"bytes"
	"fmt"
	"maps"
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
// the mirrors in it as registries. A patch for another version is empty.
func parseContainerdPatch(text string) (patch map[string]any, registries map[string]Registry, err error) {
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
			return nil, nil, fmt.Errorf("registry.%s does not go with config_path, which the nodes have: set registries, which has passwords and certificates", name)
		}
	}
	mirrors, _ := registry["mirrors"].(map[string]any)
	delete(registry, "mirrors")
	registries = map[string]Registry{}
	for _, name := range slices.Sorted(maps.Keys(mirrors)) {
		if _, err := registryDir(name); err != nil {
			return nil, nil, fmt.Errorf("registry.mirrors: %w", err)
		}
		table, _ := mirrors[name].(map[string]any)
		endpoints, ok := table["endpoint"].([]any)
		if !ok {
			return nil, nil, fmt.Errorf("registry.mirrors.%q: want a list of URLs as its endpoint", name)
		}
		var r Registry
		for _, e := range endpoints {
			text, _ := e.(string)
			if _, err := mirrorURL(text); err != nil {
				return nil, nil, fmt.Errorf("registry.mirrors.%q: %w", name, err)
			}
			r.Mirrors = append(r.Mirrors, text)
		}
		registries[name] = r
	}
	return patch, registries, nil
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

// registryDir returns the directory of a registry below config_path.
func registryDir(name string) (string, error) {
	dir := strings.Replace(name, "*", "_default", 1)
	if !registryName.MatchString(dir) {
		return "", fmt.Errorf("%q: want a registry such as docker.io or localhost:5000", name)
	}
	return dir, nil
}

// RegistriesDir is the directory that the nodes' containerd has as config_path.
const RegistriesDir = "/etc/containerd/certs.d"

// The files of a registry in its directory. containerd does not look for them by itself.
const (
	hostsToml  = "hosts.toml"
	caFile     = "ca.pem"
	clientFile = "client.pem"
	keyFile    = "client-key.pem"
)

// registryFiles returns the files that make registries what they are to containerd, by their paths
// below RegistriesDir.
func registryFiles(all map[string]Registry) (map[string][]byte, error) {
	files := map[string][]byte{}
	for name, r := range all {
		dir, err := registryDir(name)
		if err != nil {
			return nil, err
		}
		for file, text := range map[string]string{caFile: r.CACertificates, clientFile: r.ClientCertificate, keyFile: r.ClientKey} {
			if text != "" {
				files[dir+"/"+file] = []byte(text)
			}
		}
		if text := hostsFile(name, r, all); len(text) > 0 {
			files[dir+"/"+hostsToml] = text
		}
	}
	return files, nil
}

// hostsFile returns hosts.toml for a registry: containerd tries one mirror after the other and the registry itself last, which the
// settings before the first table are about (https://github.com/containerd/containerd/blob/v2.3.0/docs/hosts.md).
func hostsFile(name string, r Registry, all map[string]Registry) []byte {
	var out bytes.Buffer
	if r.PlainHTTP {
		fmt.Fprintf(&out, "server = %q\n", "http://"+name)
	}
	writeTLS(&out, name, r)
	for _, text := range r.Mirrors {
		u, err := mirrorURL(text)
		if err != nil {
			continue // as has been checked
		}
		fmt.Fprintf(&out, "[host.%q]\n", text)
		if strings.Trim(u.Path, "/") != "" {
			fmt.Fprintln(&out, "override_path = true")
		}
		if u.Scheme == "https" {
			writeTLS(&out, u.Host, all[u.Host])
		}
	}
	return out.Bytes()
}

// writeTLS writes how the certificates of a host are dealt with.
func writeTLS(out *bytes.Buffer, name string, r Registry) {
	dir, _ := registryDir(name)
	dir = RegistriesDir + "/" + dir + "/"
	if r.Insecure {
		fmt.Fprintln(out, "skip_verify = true")
	}
	if r.CACertificates != "" {
		fmt.Fprintf(out, "ca = %q\n", dir+caFile)
	}
	if r.ClientCertificate != "" {
		fmt.Fprintf(out, "client = [[%q, %q]]\n", dir+clientFile, dir+keyFile)
	}
}

// credentials returns the part of containerd's configuration with the passwords of registries, which
// hosts.toml has no place for. It is nil if there are none.
func credentials(all map[string]Registry) map[string]any {
	configs := map[string]any{}
	for name, r := range all {
		if r.Username == "" {
			continue
		}
		if name == "docker.io" {
			name = "registry-1.docker.io" // that is where it is
		}
		configs[name] = map[string]any{"auth": map[string]any{"username": r.Username, "password": r.Password}}
	}
	if len(configs) == 0 {
		return nil
	}
	return map[string]any{"plugins": map[string]any{imagesPlugin: map[string]any{"registry": map[string]any{"configs": configs}}}}
}

// PatchContainerd returns containerd's configuration as patches and registries have it: tables are
// merged, everything else is replaced. Registries, and mirrors in patches, come as files, by their
// paths below RegistriesDir. Both may have secrets in them.
func PatchContainerd(config []byte, patches []string, registries map[string]Registry) (patched []byte, files map[string][]byte, err error) {
	if len(patches) == 0 && len(registries) == 0 {
		return config, nil, nil
	}
	var tree map[string]any
	if err := toml.Unmarshal(config, &tree); err != nil {
		return nil, nil, fmt.Errorf("reading containerd's configuration: %w", err)
	}
	all := map[string]Registry{}
	for i, text := range patches {
		patch, more, err := parseContainerdPatch(text)
		if err != nil {
			return nil, nil, fmt.Errorf("containerdConfigPatches[%d]: %w", i, err)
		}
		merge(tree, patch)
		maps.Copy(all, more)
	}
	for name, r := range registries {
		if r.Mirrors == nil {
			r.Mirrors = all[name].Mirrors
		}
		all[name] = r
	}
	merge(tree, credentials(all))
	if files, err = registryFiles(all); err != nil {
		return nil, nil, err
	}
	patched, err = toml.Marshal(tree)
	return patched, files, err
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
