package v1alpha1

import (
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
)

func TestPatchContainerd(t *testing.T) {
	const config = "version = 3\n[plugins.'io.containerd.cri.v1.runtime']\nrestrict_oom_score_adj = true\nmax = 1\n"
	got, err := PatchContainerd([]byte(config), []string{
		"[plugins.'io.containerd.cri.v1.runtime']\nmax = 2\n[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '/etc/containerd/certs.d'\n",
		"version = 2\n[plugins.'io.containerd.cri.v1.runtime']\nmax = 3\n",
	})
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
	if got, err := PatchContainerd([]byte(config), nil); err != nil || string(got) != config {
		t.Errorf("got %s, %v", got, err)
	}
	for text, want := range map[string]string{
		"a = ": "not TOML",
		"[plugins.'io.containerd.grpc.v1.cri'.registry.mirrors.x]\nendpoint = ['y']": "it has become",
		"version = 2\n[plugins.'io.containerd.grpc.v1.cri']\nx = 1":                  "",
	} {
		err := checkContainerdPatch(text)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}
