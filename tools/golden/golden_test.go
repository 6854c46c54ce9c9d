package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const head = "#mtree\n/set type=file uid=0 gid=0 mode=0644\n"

const small = "# layer small\n" + head + `./usr type=dir mode=0755
./usr/a size=1 sha256=aaaaaaaaaaaa
`

const large = "# layer large\n" + head + `./usr type=dir mode=0755
./usr/a size=1 sha256=aaaaaaaaaaaa
./usr/b mode=0755 size=2 sha256=bbbbbbbbbbbb
`

const top = "# layer top\n" + head + `./etc/c size=3 sha256=cccccccccccc
`

// stored has small, large, and top with the directory above its file, each in a directory of its
// own, and large beside them.
const stored = "# layer store\n" + head + `./store type=dir mode=0755
./store/1 type=dir mode=0755
./store/1/usr type=dir mode=0755
./store/1/usr/a size=1 sha256=aaaaaaaaaaaa
./store/2 type=dir mode=0755
./store/2/usr type=dir mode=0755
./store/2/usr/a size=1 sha256=aaaaaaaaaaaa
./store/2/usr/b mode=0755 size=2 sha256=bbbbbbbbbbbb
./store/3 type=dir mode=0700
./store/3/etc type=dir mode=0755
./store/3/etc/c size=3 sha256=cccccccccccc
./store/blobs type=dir mode=0755
./store/blobs/sha256 type=dir mode=0755
./store/blobs/sha256/0123 size=5 sha256=dddddddddddd
./store/blobs/sha256/4567 size=5 sha256=eeeeeeeeeeee
./store/index size=6 sha256=ffffffffffff
./usr type=dir mode=0755
./usr/a size=1 sha256=aaaaaaaaaaaa
./usr/b mode=0755 size=2 sha256=bbbbbbbbbbbb
`

const shortStore = "# layer store\n" + head + `./store type=dir mode=0755
./store/1 type=dir mode=0755
./store/1/* layer=//:small
./store/2 type=dir mode=0755
./store/2/* layer=//:large
./store/3 type=dir mode=0700
./store/3/etc type=dir mode=0755
./store/3/* layer=//:top
./store/blobs type=dir mode=0755
./store/blobs/sha256 type=dir mode=0755
./store/blobs/sha256/* files=2
./store/index
./* layer=//:large
`

// Files that are known are named, and only if all of them are there as they are known.
func TestRefer(t *testing.T) {
	names := []source{{"//:small", parse(small)}, {"//:large", parse(large)}, {"//:top", parse(top)}}
	l := parse(stored)
	l.refer(names)
	l.count(func(p string) bool { return p == "/store/blobs/sha256" })
	if got := strings.Replace(l.String(), "index size=6 sha256=ffffffffffff", "index", 1); got != shortStore {
		t.Errorf("got\n%s\nwant\n%s", got, shortStore)
	}
	for change, to := range map[string]string{
		"./store/2/usr/b mode=0755":                         "./store/2/usr/b mode=0750",
		"./store/2/usr/b ":                                  "./store/2/usr/other ",
		"./store/2/usr type=dir mode=0755\n./store/2/usr/a": "./store/2/usr type=dir mode=0700\n./store/2/usr/a",
	} {
		l := parse(strings.Replace(stored, change, to, 1))
		l.refer(names[1:])
		if got := l.String(); strings.Contains(got, "./store/2/*") || !strings.Contains(got, "./store/2/usr/a ") || !strings.Contains(got, "\n./* layer=//:large\n") {
			t.Errorf("with %s:\n%s", to, got)
		}
	}
	// Two layers lie in one directory.
	l = parse(head + "./etc/c size=3 sha256=cccccccccccc\n./other size=1\n./usr type=dir mode=0755\n./usr/a size=1 sha256=aaaaaaaaaaaa\n")
	l.refer(names)
	if got, want := l.String(), head+"./other size=1\n./* layer=//:small,//:top\n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	// A directory is nothing that a layer could be known by.
	l = parse(small)
	l.refer([]source{{"//:directory", parse(head + "./usr type=dir mode=0755\n")}})
	if l.String() != small {
		t.Errorf("got\n%s", l)
	}
}

// A golden is written, compared with what it was written from, and with something else.
func TestRun(t *testing.T) {
	dir, workspace := t.TempDir(), t.TempDir()
	t.Chdir(dir)
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("small", small)
	write("large", large)
	write("top", top)
	write("store", stored)
	do := func(update bool) error {
		t.Helper()
		text, err := json.Marshal(spec{Update: update, Goldens: []golden{{
			Path: "images/golden.mtree", Listings: []string{"top", "store"},
			Known:         []known{{"//:small", "small"}, {"//:large", "large"}, {"//:top", "top"}},
			IgnoreContent: []string{"/store/index"}, Count: []string{"*/blobs/sha256"}, UpdateCommand: "bazel run //:update",
		}}})
		if err != nil {
			t.Fatal(err)
		}
		write("spec.json", string(text))
		return run("spec.json", workspace)
	}
	if err := do(false); err == nil || !strings.Contains(err.Error(), "images/golden.mtree") {
		t.Errorf("without a golden: %v", err)
	}
	for range 2 {
		if err := do(true); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(filepath.Join(workspace, "images/golden.mtree"))
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.Replace(top, "./etc/c size=3 sha256=cccccccccccc", "./* layer=//:top", 1) + shortStore; string(got) != want {
		t.Errorf("the golden is\n%s\nwant\n%s", got, want)
	}
	t.Chdir(workspace)
	for _, name := range []string{"small", "large", "top", "store"} {
		write(name, map[string]string{"small": small, "large": large, "top": top, "store": stored}[name])
	}
	if err := do(false); err != nil {
		t.Error(err)
	}
	// Neither the content of the index nor the names of blobs count; how many there are does, and
	// what was known no more.
	changed := strings.NewReplacer("index size=6", "index size=7", "sha256/4567", "sha256/89ab").Replace(stored)
	write("store", changed)
	if err := do(false); err != nil {
		t.Error(err)
	}
	write("store", strings.Replace(strings.Replace(changed, "./store/3/etc/c size=3", "./store/3/etc/c size=4", 1), "./store/blobs/sha256/0123 size=5 sha256=dddddddddddd\n", "", 1))
	err = do(false)
	if err == nil {
		t.Fatal("no difference")
	}
	for _, want := range []string{
		"3 paths differ from images/golden.mtree", "- ./store/3/* layer=//:top", "+ ./store/3/etc/c size=4", "- ./store/blobs/sha256/* files=2\n+ ./store/blobs/sha256/* files=1",
		"If this is as it should be: bazel run //:update",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\ndoes not say %q", err, want)
		}
	}
	if err := run("spec.json", ""); err == nil {
		t.Error("no difference")
	}
	if err := run("", ""); err == nil || !strings.Contains(err.Error(), specVariable) {
		t.Errorf("without a spec: %v", err)
	}
}
