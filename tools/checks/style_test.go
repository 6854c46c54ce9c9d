package checks_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"flag"
	"go/format"
	"go/parser"
	"go/token"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var (
	buildifier = flag.String("buildifier", "", "Bazel's formatter and linter of Starlark")
	gazelle    = flag.String("gazelle", "", "the program that writes BUILD files after imports")
	shellcheck = flag.String("shellcheck", "", "tar archive of a Debian root with shellcheck")
)

const module = "github.com/dind-cluster/dind-cluster/"

func isGo(path string) bool { return strings.HasSuffix(path, ".go") }

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(checkout(t), path))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestGofmt(t *testing.T) {
	for _, path := range sources(t, isGo) {
		text := read(t, path)
		if formatted, err := format.Source(text); err != nil || !bytes.Equal(text, formatted) {
			t.Errorf("%s is not formatted; gofmt -w does it. %v", path, err)
		}
	}
}

func TestBuildifier(t *testing.T) {
	name := program(t, "buildifier", *buildifier)
	files := sources(t, func(path string) bool {
		return strings.HasSuffix(path, ".bzl") || strings.HasSuffix(path, "BUILD.bazel") || path == "WORKSPACE"
	})
	silent(t, nil, name, append([]string{"-mode=check", "-lint=warn"}, files...)...)
}

// BUILD files agree with imports, as far as Gazelle writes rules of their kind; its directives are in those files.
func TestGazelle(t *testing.T) {
	silent(t, nil, program(t, "gazelle", *gazelle), "update", "-mode=diff", "-repo_root=.", "-external=static", ".")
}

var fuzzFunction = regexp.MustCompile(`(?m)^func Fuzz\w+\(f \*testing\.F\)`)

// What can be fuzzed is fuzzed.
func TestFuzzed(t *testing.T) {
	for _, path := range sources(t, func(path string) bool { return strings.HasSuffix(path, "_test.go") }) {
		build := filepath.Join(filepath.Dir(path), "BUILD.bazel")
		// The fuzzer's own test fuzzes, too.
		if filepath.Dir(path) != "tools/fuzz" && fuzzFunction.Match(read(t, path)) && !bytes.Contains(read(t, build), []byte("\nfuzz_test(")) {
			t.Errorf("%s has a Fuzz function, but %s no fuzz_test", path, build)
		}
	}
}

// columns say how far to the right a folder stands in docs/how-it-works.md, "The tree".
var columns = map[string]int{
	"internal": 0,
	"image":    1, "api": 1, "cluster": 2, // It reads the layout of a store that image writes.
	"tools":   3,
	"scripts": 4, "rules": 4, "third_party": 4, "kubernetes": 4,
	"debs": 5, "images": 5,
	"e2e":  6,
	"docs": 7,
}

// against are the arrows to the right that there are.
var against = map[string]string{
	"images/reproducible/reproducible_test.go": "e2e/elsewhere", // It builds in another checkout, as //e2e/remote_cache does.
	"e2e/docs_test.go":                         "docs/blocks",   // It runs the documents' commands.
}

// A folder imports only those to its left.
func TestArrows(t *testing.T) {
	for _, path := range sources(t, isGo) {
		file, err := parser.ParseFile(token.NewFileSet(), path, read(t, path), parser.ImportsOnly)
		if err != nil {
			t.Error(err)
			continue
		}
		from, _, _ := strings.Cut(path, "/")
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			pkg, ours := strings.CutPrefix(imported, module)
			to, _, _ := strings.Cut(pkg, "/")
			if !ours || to == from || against[path] == pkg {
				continue
			}
			left, known := columns[to]
			right, both := columns[from]
			if !known || !both {
				t.Errorf("%s imports %s: this test does not know where one of the folders stands", path, pkg)
			} else if left >= right {
				t.Errorf("%s imports %s, which is not to its left in docs/how-it-works.md, \"The tree\"", path, pkg)
			}
		}
	}
}

var shell = regexp.MustCompile(`\A(#!\S*[/ ](ba|da)?sh\b|# shellcheck shell=)`)

func TestShellcheck(t *testing.T) {
	root := t.TempDir()
	unpack(t, program(t, "shellcheck", *shellcheck), root)
	var scripts []string
	for _, path := range sources(t, func(path string) bool { return !isGo(path) }) {
		f, err := os.Open(filepath.Join(checkout(t), path))
		if err != nil {
			t.Fatal(err)
		}
		head := make([]byte, 100)
		n, err := io.ReadFull(f, head)
		f.Close()
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatal(err)
		}
		if shell.Match(head[:n]) {
			scripts = append(scripts, path)
		}
	}
	if len(scripts) < 20 {
		t.Fatalf("scripts: %q", scripts)
	}
	// Without entering the root, which takes rights: its loader starts the program with its libraries.
	silent(t, []string{"LC_ALL=C.UTF-8"}, filepath.Join(root, "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"), append([]string{
		"--library-path", filepath.Join(root, "usr/lib/x86_64-linux-gnu"), filepath.Join(root, "usr/bin/shellcheck"),
		"--external-sources", "--format=gcc",
	}, scripts...)...)
}

// unpack lays out the files and links of a tar archive. Links in it may only lead inside.
func unpack(t *testing.T, archive, dir string) {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for tr := tar.NewReader(f); ; {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err == nil {
			err = lay(root, hdr, tr)
		}
		if err != nil {
			t.Fatalf("unpacking %s: %v", archive, err)
		}
	}
}

func lay(root *os.Root, hdr *tar.Header, content io.Reader) error {
	name := filepath.Clean(hdr.Name)
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	switch hdr.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(name, 0o755)
	case tar.TypeSymlink:
		return root.Symlink(hdr.Linkname, name)
	case tar.TypeReg:
		out, err := root.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_EXCL, hdr.FileInfo().Mode().Perm())
		if err != nil {
			return err
		}
		_, err = io.Copy(out, content)
		return errors.Join(err, out.Close())
	}
	return nil
}
