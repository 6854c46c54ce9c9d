package v1alpha1

import (
	"reflect"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
)

func TestPatchContainerd(t *testing.T) {
	const config = "version = 3\n[plugins.'io.containerd.cri.v1.runtime']\nrestrict_oom_score_adj = true\nmax = 1\n"
	got, _, err := PatchContainerd([]byte(config), []string{
		"[plugins.'io.containerd.cri.v1.runtime']\nmax = 2\n[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '/etc/containerd/certs.d'\n",
		"version = 1\n[plugins.'io.containerd.cri.v1.runtime']\nmax = 3\n",
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var tree struct {
		Version int
		Plugins map[string]map[string]any
	}
	if err := toml.Unmarshal(got, &tree); err != nil {
		t.Fatal(err)
	}
	runtime := tree.Plugins["io.containerd.cri.v1.runtime"]
	if tree.Version != 3 || runtime["max"] != int64(2) || runtime["restrict_oom_score_adj"] != true || tree.Plugins["io.containerd.cri.v1.images"] == nil {
		t.Errorf("got %s", got)
	}
	// What nothing is said of stays byte for byte.
	if got, _, err := PatchContainerd([]byte(config), nil, nil); err != nil || string(got) != config {
		t.Errorf("got %s, %v", got, err)
	}
	for text, want := range map[string]string{
		"a = ": "not TOML",
		"version = 1\n[plugins.'io.containerd.grpc.v1.cri']\nx = 1":                               "",
		"[plugins.'io.containerd.grpc.v1.cri'.containerd]\nx = 1":                                 "containerd.x: it is not known",
		"[plugins.'io.containerd.grpc.v1.cri'.registry.configs.'r.example'.auth]\nusername = 'x'": "set registries",
		"[plugins.'io.containerd.grpc.v1.cri'.registry.mirrors.'../x']\nendpoint = ['http://y']":  "want a registry",
		"[plugins.'io.containerd.cri.v1.images'.registry.mirrors.x]\nendpoint = ['y']":            "want a URL",
		"[plugins.'io.containerd.grpc.v1.cri'.registry.mirrors.x]\nendpoint = 'http://y'":         "want a list",
	} {
		err := checkContainerdPatch(text)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

// What kind's nodes take is moved to where containerd has it now.
func TestPatchContainerdVersion2(t *testing.T) {
	const config = "version = 4\n[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '/etc/containerd/certs.d'\n" +
		"[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]\nBinaryName = 'crun'\n"
	got, hosts, err := PatchContainerd([]byte(config), []string{`version = 2
[plugins."io.containerd.grpc.v1.cri"]
enable_cdi = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
[plugins."io.containerd.grpc.v1.cri".registry.mirrors."localhost:5001"]
endpoint = ["http://registry:5000"]
[plugins."io.containerd.grpc.v1.cri".registry.mirrors."*"]
endpoint = ["https://cache.example/v2/hub", "https://b.example"]
`, "version = 3\n[plugins.'io.containerd.cri.v1.images']\nmax_concurrent_downloads = 2\n"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var tree, want map[string]any
	if err := toml.Unmarshal(got, &tree); err != nil {
		t.Fatal(err)
	}
	if err := toml.Unmarshal([]byte(`version = 4
[plugins."io.containerd.cri.v1.images"]
snapshotter = "native"
max_concurrent_downloads = 2
[plugins."io.containerd.cri.v1.images".registry]
config_path = "/etc/containerd/certs.d"
[plugins."io.containerd.cri.v1.runtime"]
enable_cdi = true
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
BinaryName = "crun"
SystemdCgroup = false
`), &want); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(tree, want) {
		t.Errorf("got %s", got)
	}
	if len(hosts) != 2 || string(hosts["localhost:5001/hosts.toml"]) != "[host.\"http://registry:5000\"]\n" ||
		string(hosts["_default/hosts.toml"]) != "[host.\"https://cache.example/v2/hub\"]\noverride_path = true\n[host.\"https://b.example\"]\n" {
		t.Errorf("the mirrors are %q", hosts)
	}
}
