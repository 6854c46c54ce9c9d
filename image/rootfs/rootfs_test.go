package rootfs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// links are symbolic links by path; an empty target stands for a directory or file.
type links map[string]string

func (l links) readlink(p string) (string, bool) { return l[p], l[p] != "" }

var merged = links{
	"usr": "", "usr/bin": "", "usr/bin/a": "",
	"bin": "usr/bin", "usr/bin/b": "/bin/a", "usr/c": "../bin/./b", "usr/up": "..", "over": "../../../usr", "root": "/",
	"loop": "loop", "ping": "pong/x", "pong": "ping", "gone": "not/there",
}

func TestResolve(t *testing.T) {
	for p, want := range map[string][2]string{ // the path, and that of an entry to be written
		"":               {"", ""},
		"usr/bin/a":      {"usr/bin/a", "usr/bin/a"},
		"bin":            {"usr/bin", "bin"},
		"bin/":           {"usr/bin", "usr/bin"},
		"bin/a":          {"usr/bin/a", "usr/bin/a"},
		"bin/b":          {"usr/bin/a", "usr/bin/b"},
		"usr/c":          {"usr/bin/a", "usr/c"},
		"./usr//bin/./a": {"usr/bin/a", "usr/bin/a"},
		// What .. leads to depends on where a link led, not on how the path is written.
		"bin/../c":  {"usr/bin/a", "usr/c"},
		"usr/up/up": {"up", "up"},
		// Nothing leads out.
		"../../bin/a":  {"usr/bin/a", "usr/bin/a"},
		"over/bin":     {"usr/bin", "usr/bin"},
		"root/root":    {"", "root"},
		"gone/x":       {"not/there/x", "not/there/x"},
		"gone":         {"not/there", "gone"},
		"nowhere/at/x": {"nowhere/at/x", "nowhere/at/x"},
	} {
		for i, resolve := range []func(string, Readlink) (string, error){Resolve, ResolveParent} {
			if got, err := resolve(p, merged.readlink); err != nil || got != want[i] {
				t.Errorf("%d %q leads to %q, %v, want %q", i, p, got, err, want[i])
			}
		}
	}
	for _, p := range []string{"loop", "loop/x", "ping", "pong"} {
		if got, err := Resolve(p, merged.readlink); err == nil || !strings.Contains(err.Error(), "/"+p+" leads through more than 40") {
			t.Errorf("%s leads to %q, %v", p, got, err)
		}
	}
	if got, err := ResolveParent("loop", merged.readlink); err != nil || got != "loop" {
		t.Errorf("a link that is about to be replaced: %q, %v", got, err)
	}
}

func TestWhiteout(t *testing.T) {
	for p, want := range map[string]struct {
		removed string
		all, ok bool
	}{
		"a/b":                 {"", false, false},
		"a.wh.b":              {"", false, false},
		"a/.wh.b":             {"a/b", false, true},
		".wh.b":               {"b", false, true},
		"a/b/.wh..wh..opq":    {"a/b", true, true},
		".wh..wh..opq":        {"", true, true},
		".wh.a/b":             {"", false, false},
		"a/.wh..wh.plnk/.wh.": {"a/.wh..wh.plnk/", false, true},
	} {
		if removed, all, ok := Whiteout(p); removed != want.removed || all != want.all || ok != want.ok {
			t.Errorf("%s: %q, %v, %v, want %+v", p, removed, all, ok, want)
		}
	}
}

// FuzzResolve compares what a path leads to with what the kernel finds, in a directory that stands
// for the root.
func FuzzResolve(f *testing.F) {
	f.Add("bin/../x", "usr/bin", "..")
	f.Add("a/b/c", "b", "/a")
	f.Fuzz(func(t *testing.T, p, a, b string) {
		l := links{"a": a, "b": b, "d": "", "d/a": b}
		if strings.ContainsRune(p+a+b, 0) || len(p+a+b) > 1000 {
			return
		}
		got, err := Resolve(p, l.readlink)
		if err != nil {
			return
		}
		for _, part := range strings.Split(got, "/") {
			if part == ".." || part == "." || got != "" && part == "" {
				t.Fatalf("%q leads to %q", p, got)
			}
		}
		if again, err := Resolve(got, l.readlink); err != nil || again != got {
			t.Fatalf("%q leads to %q, and that to %q, %v", p, got, again, err)
		}
		// The kernel has no root of its own here: only what stays below it can be compared.
		if strings.Contains(p+a+b, "..") || strings.HasPrefix(a, "/") || strings.HasPrefix(b, "/") {
			return
		}
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "d"), 0o755); err != nil {
			t.Fatal(err)
		}
		for at, target := range l {
			if target != "" && os.Symlink(target, filepath.Join(dir, at)) != nil {
				return
			}
		}
		want, err := filepath.EvalSymlinks(filepath.Join(dir, p))
		if err != nil {
			return
		}
		if rel, err := filepath.Rel(dir, want); err != nil || Clean(rel) != got {
			t.Fatalf("%q leads to %q, and in a directory to %q", p, got, rel)
		}
	})
}
