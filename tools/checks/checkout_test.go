// Package checks_test holds the tree's own sources against its rules: the form of Go, Starlark and shell, which folder uses
// which, BUILD files against imports, and what static analysis finds.
//
// The tests read the whole checkout, which no target can name. So they leave Bazel's sandbox, and run each time.
package checks_test

import (
	"context"
	"errors"
	"flag"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// build is a file of the checkout, or a link to one. The tests start in Bazel's runfiles, or in this folder.
var build = flag.String("build", "../../BUILD.bazel", "the checkout's BUILD.bazel")

// checkout returns the folder of the checkout.
func checkout(t *testing.T) string {
	t.Helper()
	real, err := filepath.EvalSymlinks(*build)
	if err != nil {
		t.Fatal(err)
	}
	real, err = filepath.Abs(real)
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Dir(real)
}

// sources returns the files of the checkout that match, as paths in it. What Git and Bazel keep there, it leaves out.
func sources(t *testing.T, match func(path string) bool) []string {
	t.Helper()
	var found []string
	err := fs.WalkDir(os.DirFS(checkout(t)), ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != "." && path != ".ci":
			return fs.SkipDir
		case d.Type().IsRegular() && match(path):
			found = append(found, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		t.Fatalf("no sources in %s", checkout(t))
	}
	return found
}

// program returns the absolute path of a program that Bazel gives.
func program(t *testing.T, name, path string) string {
	t.Helper()
	if path == "" {
		t.Skipf("only bazel test gives %s", name)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// silent runs a program in the checkout, which passes if it has nothing to say.
func silent(t *testing.T, env []string, name string, args ...string) {
	t.Helper()
	// A deadline before Bazel's, so that what it said by then is shown.
	ctx, cancel := context.WithCancel(t.Context())
	if deadline, ok := t.Deadline(); ok {
		ctx, cancel = context.WithDeadline(t.Context(), deadline)
	}
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = checkout(t), append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err = errors.Join(ctx.Err(), err); err != nil || len(out) > 0 {
		t.Errorf("%s: %v\n%s", filepath.Base(name), err, out)
	}
}
