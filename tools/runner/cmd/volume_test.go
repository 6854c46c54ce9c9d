package cmd

import (
	"context"
	"os"
	"path/filepath"
	"testing"
)

// The provisioner's command line, with paths that are not the provisioner's.
func TestVolumeRefuses(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "pvc-1_default_data")
	if err := os.Mkdir(outside, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{
		"", "/", outside, "/var/local-path-provisioner", "/var/local-path-provisioner/", "/var/local-path-provisioner/a/b",
		"/var/local-path-provisioner/../lib", "/var/local-path-provisioner/.", "pvc-1",
	} {
		for _, action := range []string{"create", "delete"} {
			if Main(context.Background(), []string{"/volume", "-p", path, "-s", "1024", "-m", "Filesystem", "-a", action}) == 0 {
				t.Errorf("%s %q: got no error", action, path)
			}
		}
	}
	if _, err := os.Stat(outside); err != nil {
		t.Error(err)
	}
}

func TestMakeVolume(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "volumes", "pvc-1_default_data")
	for range 2 { // An attempt may be repeated.
		if err := makeVolume(dir); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(dir)
		if err != nil || info.Mode() != os.ModeDir|0o777 {
			t.Fatalf("got %v, %v", info.Mode(), err)
		}
		if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
