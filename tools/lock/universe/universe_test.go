package universe

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestParseUpstream(t *testing.T) {
	for _, tc := range []struct {
		in                     string
		path, fetched, version string
		bad                    bool
	}{
		{in: "k8s.io/kubernetes@v1.37.2", path: "k8s.io/kubernetes", fetched: "k8s.io/kubernetes", version: "v1.37.2"},
		{in: "sigs.k8s.io/cri-tools=github.com/kubernetes-sigs/cri-tools@v1.36.0", path: "sigs.k8s.io/cri-tools", fetched: "github.com/kubernetes-sigs/cri-tools", version: "v1.36.0"},
		{in: "k8s.io/kubernetes", bad: true},
		{in: "@v1.0.0", bad: true},
		{in: "k8s.io/kubernetes@", bad: true},
	} {
		path, fetched, version, err := parseUpstream(tc.in)
		if (err != nil) != tc.bad {
			t.Errorf("parseUpstream(%q): error %v, want one: %v", tc.in, err, tc.bad)
		}
		if err == nil && (path != tc.path || fetched != tc.fetched || version != tc.version) {
			t.Errorf("parseUpstream(%q) = %q, %q, %q", tc.in, path, fetched, version)
		}
	}
}

// A lock names the upstreams it was made for, so that it can be made anew without naming them.
func TestLockedUpstreams(t *testing.T) {
	got, err := lockedUpstreams(filepath.Join("..", "..", "..", "kubernetes", "1.37", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || !strings.HasPrefix(got[0], "k8s.io/kubernetes@v1.37.") {
		t.Errorf("upstreams of the Kubernetes 1.37 lock: %q", got)
	}

	none := filepath.Join(t.TempDir(), "go.mod")
	if err := os.WriteFile(none, []byte("module x\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := lockedUpstreams(none); err == nil || !strings.Contains(err.Error(), "name MODULE@VERSION") {
		t.Errorf("a lock without upstreams: error %v", err)
	}
}

func TestWriteMod(t *testing.T) {
	file := filepath.Join(t.TempDir(), "demo", "go.mod")
	if err := os.Mkdir(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	err := writeMod(file, "1.26.0", []string{"example.org/a@v1.2.3 2026-01-02T03:04:05Z"},
		map[string]string{"example.org/b": "v0.1.0", "example.org/a": "v1.2.3"},
		map[string]string{"example.org/b": "example.com/c v0.1.0"})
	if err != nil {
		t.Fatal(err)
	}
	mod, err := readMod(file)
	if err != nil {
		t.Fatal(err)
	}
	var requires []string
	for _, r := range mod.Require {
		requires = append(requires, r.Mod.String())
	}
	if want := []string{"example.org/a@v1.2.3", "example.org/b@v0.1.0"}; !slices.Equal(requires, want) {
		t.Errorf("requirements %q, want %q", requires, want)
	}
	if len(mod.Replace) != 1 || mod.Replace[0].New.String() != "example.com/c@v0.1.0" {
		t.Errorf("replacements %v", mod.Replace)
	}
	upstreams, err := lockedUpstreams(file)
	if err != nil || !slices.Equal(upstreams, []string{"example.org/a@v1.2.3"}) {
		t.Errorf("upstreams %q, error %v", upstreams, err)
	}
}
