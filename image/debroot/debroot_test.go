package debroot

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
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

// Packages that use the links of base-files are laid out after it, whatever their order.
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
		t.Error("a package has written outside of the directory")
	}
}

// An archive has the files that are kept and a database that dpkg reads; its lists have all files.
func TestArchive(t *testing.T) {
	base := debtest.Package{Name: "base-files", Version: "13", Files: []debtest.File{{Path: "./"}, {Path: "./usr/"}, {Path: "./usr/bin/"}, {Path: "./bin", Link: "usr/bin"}}}.Write(t)
	lib := debtest.Package{Name: "lib", Version: "1:2", Control: "Multi-Arch: same", Files: []debtest.File{
		{Path: "./usr/"}, {Path: "./usr/lib/"}, {Path: "./usr/lib/a", Content: "library", UID: 7, Mode: 0o640}, {Path: "./usr/lib/b", HardLink: "./usr/lib/a"},
		{Path: "./usr/share/"}, {Path: "./usr/share/doc/", Mode: 0o700}, {Path: "./usr/share/doc/text", Content: "text"},
	}}.Write(t)
	var b bytes.Buffer
	if err := Archive(&b, []string{lib, base}, func(path string) bool { return path != "usr/share/doc/text" }); err != nil {
		t.Fatal(err)
	}
	var got []string
	content := map[string]string{}
	tr := tar.NewReader(&b)
	for {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s %o %d %s", hdr.Name, hdr.Mode, hdr.Uid, hdr.Linkname))
		text, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		content[hdr.Name] = string(text)
	}
	want := []string{
		"usr/ 755 0 ", "usr/bin/ 755 0 ", "bin 777 0 usr/bin", "var/lib/dpkg/info/base-files.list 644 0 ",
		"usr/lib/ 755 0 ", "usr/lib/a 640 7 ", "usr/lib/b 644 0 usr/lib/a", "usr/share/ 755 0 ", "usr/share/doc/ 700 0 ",
		"var/lib/dpkg/info/lib:amd64.list 644 0 ",
		"var/lib/dpkg/status 644 0 ", "var/lib/dpkg/available 644 0 ", "var/lib/dpkg/info/format 644 0 ",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if got := content["usr/lib/a"]; got != "library" {
		t.Errorf("usr/lib/a is %q", got)
	}
	if got, want := content["var/lib/dpkg/info/lib:amd64.list"], "/.\n/usr\n/usr/lib\n/usr/lib/a\n/usr/lib/b\n/usr/share\n/usr/share/doc\n/usr/share/doc/text\n"; got != want {
		t.Errorf("the list is %q, want %q", got, want)
	}
	admin := t.TempDir()
	if err := os.WriteFile(filepath.Join(admin, "status"), []byte(content["var/lib/dpkg/status"]), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath("dpkg-query"); err != nil {
		t.Skip("this machine has no dpkg-query")
	}
	out, err := exec.Command("dpkg-query", "--admindir="+admin, "--show", "--showformat=${Package} ${Version} ${db:Status-Abbrev}\n").CombinedOutput()
	if err != nil || string(out) != "base-files 13 ii \nlib 1:2 ii \n" {
		t.Errorf("dpkg-query: %v: %s", err, out)
	}
}

// A package with a path that leads out of the root is refused.
func TestPathsLeadNowhereElse(t *testing.T) {
	for _, f := range []debtest.File{{Path: "./../out", Content: "x"}, {Path: "./out", HardLink: "./../../etc/passwd"}} {
		p := debtest.Package{Name: "outside", Files: []debtest.File{f}}.Write(t)
		keep := func(string) bool { return true }
		for verb, err := range map[string]error{"Lay": Lay(t.TempDir(), []string{p}, keep), "Archive": Archive(io.Discard, []string{p}, keep)} {
			if err == nil || !strings.Contains(err.Error(), "leads out of the root") {
				t.Errorf("%s of %+v: %v", verb, f, err)
			}
		}
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
