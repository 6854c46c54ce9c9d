package database

import (
	"flag"
	"os"
	"testing"

	"golang.org/x/mod/modfile"
)

var (
	ours    = flag.String("ours", "../../../go.mod", "the go.mod that this code is built with")
	theirs  = flag.String("theirs", "../../../third_party/containerd/go.mod", "the lock of the containerd that the images get")
	modules = []string{"github.com/containerd/containerd/v2", "go.etcd.io/bbolt"}
)

func versions(t *testing.T, path string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := modfile.Parse(path, text, nil)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, r := range f.Require {
		all[r.Mod.Path] = r.Mod.Version
	}
	return all
}

// TestVersion makes sure that the databases are written by the same code that will read them.
func TestVersion(t *testing.T) {
	written, read := versions(t, *ours), versions(t, *theirs)
	for _, m := range modules {
		if written[m] == "" || written[m] != read[m] {
			t.Errorf("the databases are written with %s %q, and read with %q: change go.mod with the lock", m, written[m], read[m])
		}
	}
}
