package manifest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func configMap(name string) string {
	return "{apiVersion: v1, kind: ConfigMap, metadata: {name: " + name + "}}"
}

func TestRead(t *testing.T) {
	dir, host := t.TempDir(), t.TempDir()
	write(t, dir+"/2.yml", configMap("c")+"\n---\n"+configMap("d"))
	write(t, dir+"/1.yaml", configMap("a"))
	write(t, dir+"/1/b.json", `{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}}`)
	write(t, dir+"/readme.txt", "nothing of ours")
	write(t, host+"/srv/one", configMap("e"))
	// As a mounted ConfigMap has its files.
	if err := os.Symlink("2.yml", dir+"/3.yaml"); err != nil {
		t.Fatal(err)
	}
	c := v1alpha1.Cluster{Manifests: []v1alpha1.Manifest{{HostPath: "/srv/one"}, {Name: "mine", Content: configMap("f")}}}
	all, err := read(dir, host, c)
	var names []string
	for _, d := range all {
		names = append(names, d.Name)
	}
	if want := []string{"b", "a", "c", "d", "c", "d", "e", "f"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("got %q, %v, want %q", names, err, want)
	}
	if got := all[len(all)-1].String(); got != "mine: document 1: ConfigMap f" {
		t.Errorf("got %q", got)
	}
	if all, err := read(dir+"/none", host, v1alpha1.Cluster{}); err != nil || len(all) != 0 {
		t.Errorf("got %v, %v", all, err)
	}
}

func TestReadErrors(t *testing.T) {
	dir, host := t.TempDir(), t.TempDir()
	write(t, dir+"/a.yaml", "a: [")
	write(t, dir+"/b.yaml", "kind: Pod")
	_, err := read(dir, host, v1alpha1.Cluster{Manifests: []v1alpha1.Manifest{{HostPath: "/srv/none"}}})
	for _, want := range []string{
		dir + "/a.yaml: document 1: not YAML", dir + "/b.yaml: document 1: no Kubernetes object",
		"manifests[0] wants /srv/none of the Docker host, which this container does not have: start it with `docker run --volume /srv/none:" + host + "/srv/none`",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
