package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A setting that the kernel did not take is an error that names it, and one that is off may be left out.
func TestCheckConfig(t *testing.T) {
	dir := t.TempDir()
	wanted, config := filepath.Join(dir, "wanted"), filepath.Join(dir, "config")
	write := func(file, text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(wanted, "# CONFIG_COMMENT=y\nCONFIG_SMP=y\nCONFIG_HZ=100\nCONFIG_SOUND=n\nCONFIG_CON_CHAN=\"null\"\n")
	write(config, "CONFIG_SMP=y\nCONFIG_HZ=100\n# CONFIG_SOUND is not set\nCONFIG_CON_CHAN=\"null\"\nCONFIG_MORE=y\n")
	if err := checkConfig(wanted, config); err != nil {
		t.Error(err)
	}
	write(config, "CONFIG_HZ=1000\nCONFIG_SOUND=y\nCONFIG_CON_CHAN=\"null\"\n")
	err := checkConfig(wanted, config)
	for _, name := range []string{"CONFIG_SMP", "CONFIG_HZ", "CONFIG_SOUND"} {
		if err == nil || !strings.Contains(err.Error(), name+" is ") {
			t.Errorf("got %v, want an error that names %s", err, name)
		}
	}
	if err != nil && strings.Contains(err.Error(), "CON_CHAN") {
		t.Error(err)
	}
}
