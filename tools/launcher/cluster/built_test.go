package cluster

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRunfiles(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "image.json"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("RUNFILES_DIR", dir)
	if got, err := runfiles("image.json"); err != nil || got != dir {
		t.Errorf("got %s, %v, want %s", got, err, dir)
	}
	if _, err := runfiles("no-such-image.json"); err == nil || !strings.Contains(err.Error(), "--image") {
		t.Errorf("got %v, want an error that names --image", err)
	}
}
