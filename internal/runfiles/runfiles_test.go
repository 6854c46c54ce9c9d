package runfiles

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRoot(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "image.json"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("RUNFILES_DIR", dir)
	if got, err := Root("image.json"); err != nil || got != dir {
		t.Errorf("got %s, %v, want %s", got, err, dir)
	}
	for _, path := range []string{"no-such-image.json", ""} {
		if got, err := Root(path); err == nil || !strings.Contains(err.Error(), "bazel run") {
			t.Errorf("%q: got %q, %v, want an error that names bazel run", path, got, err)
		}
	}
}
