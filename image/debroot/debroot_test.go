package debroot

import (
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dind-cluster/dind-cluster/image/deb/debtest"
)

func TestMain(m *testing.M) {
	Init()
	os.Exit(m.Run())
}

// Packages that use the links of base-files are unpacked after it, in whatever order they are
// given.
func TestLay(t *testing.T) {
	base := debtest.Package{Name: "base-files", Files: []debtest.File{{Path: "./usr/bin/"}, {Path: "./bin", Link: "usr/bin"}}}.Write(t)
	tool := debtest.Package{Name: "a-tool", Files: []debtest.File{
		{Path: "./bin/"}, {Path: "./bin/tool", Content: "#!", Mode: 0o755}, {Path: "./bin/same", HardLink: "./bin/tool"},
		{Path: "./usr/share/"}, {Path: "./usr/share/doc/"}, {Path: "./usr/share/doc/text", Content: "text"},
	}}.Write(t)
	dir := t.TempDir()
	keep := func(path string) bool { return !strings.HasPrefix(path, "usr/share/") }
	if err := Lay(dir, []string{tool, base}, keep); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{"usr/bin/tool": true, "usr/bin/same": true, "usr/share/doc/text": false} {
		info, err := os.Lstat(filepath.Join(dir, path))
		if got := err == nil; got != want || got && info.Mode() != 0o755 {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}

	outside := debtest.Package{Name: "outside", Files: []debtest.File{{Path: "./out", Link: "/"}, {Path: "./out/etc/file", Content: "x"}}}.Write(t)
	if err := Lay(dir, []string{outside}, keep); err == nil {
		t.Error("a package has written outside of the folder")
	}
}

// A program in a directory sees nothing else, and its own processes only.
func TestInside(t *testing.T) {
	if err := exec.Command("unshare", "--user", "--mount", "true").Run(); err != nil {
		t.Skipf("this machine makes no user namespaces: %v", err)
	}
	if info, err := elf.Open("/proc/self/exe"); err != nil {
		t.Fatal(err)
	} else if libraries, _ := info.ImportedLibraries(); len(libraries) > 0 {
		t.Skip("this program needs libraries: build it with CGO_ENABLED=0, as Bazel does")
	}
	dir := t.TempDir()
	// The test program itself, which is static, in the directory: it lists the directory and tells
	// its process ID.
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "program"), self, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := Inside(t.Context(), dir, "/program", "-test.run=^TestSeen$", "-test.v")
	cmd.Env = append(cmd.Env, "DEBROOT_SEEN=1")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "[dev proc program tmp] 1 0\n") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestSeen is what TestInside has run.
func TestSeen(t *testing.T) {
	if os.Getenv("DEBROOT_SEEN") == "" {
		t.Skip("it is part of TestInside")
	}
	var names []string
	entries, err := os.ReadDir("/")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	fmt.Println(names, os.Getpid(), os.Getuid())
}
