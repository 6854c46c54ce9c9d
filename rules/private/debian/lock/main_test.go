package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestReadList(t *testing.T) {
	file := filepath.Join(t.TempDir(), "demo.packages")
	if err := os.WriteFile(file, []byte("# a list\nbash\n\n  dash # a shell\n!containerd\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	wanted, provided, err := readList(file)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(wanted, []string{"bash", "dash"}) || !slices.Equal(provided, []string{"containerd"}) {
		t.Errorf("wanted %q, provided %q", wanted, provided)
	}
	if err := os.WriteFile(file, []byte("# nothing\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := readList(file); err == nil {
		t.Error("an empty list is no error")
	}
}

// Every lock holds what its list asks for, and nothing that the repository rules could not check.
func TestLocks(t *testing.T) {
	folder := filepath.Join("..", "..", "..", "..", "third_party", "debian")
	lists, err := filepath.Glob(filepath.Join(folder, "*.packages"))
	if err != nil || len(lists) == 0 {
		t.Fatalf("no lists in %s: %v", folder, err)
	}
	hash := regexp.MustCompile(`^[0-9a-f]{64}$`)
	for _, list := range lists {
		name := strings.TrimSuffix(list, ".packages")
		data, err := os.ReadFile(name + ".lock.json")
		if err != nil {
			t.Error(err)
			continue
		}
		var lock lockFile
		if err := json.Unmarshal(data, &lock); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		has := map[string]bool{}
		for _, p := range lock.Packages {
			has[p.Name] = true
			if !hash.MatchString(p.SHA256) || p.Size <= 0 || p.Version == "" {
				t.Errorf("%s: entry of %s is not complete", filepath.Base(name), p.Name)
			}
			if !strings.HasPrefix(p.Path, "pool/") {
				t.Errorf("%s: path %q of %s is not a pool path", filepath.Base(name), p.Path, p.Name)
			}
		}
		wanted, provided, err := readList(list)
		if err != nil {
			t.Error(err)
		}
		for _, w := range wanted {
			if !has[w] {
				t.Errorf("%s asks for %s, which its lock does not hold: run scripts/lock debian %s", filepath.Base(list), w, filepath.Base(name))
			}
		}
		for _, p := range provided {
			if has[p] {
				t.Errorf("%s provides %s itself, but its lock holds it", filepath.Base(list), p)
			}
		}
	}
}
