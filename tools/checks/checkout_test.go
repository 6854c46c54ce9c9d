// Package checks_test holds the tree's own sources against its rules: the form of Go, Starlark and shell, which folder uses
// which, BUILD files against imports, and what static analysis finds.
//
// The tests read the whole checkout, which no target can name. So they leave Bazel's sandbox, and Bazel does not know when
// they would say the same again: the test program itself remembers which sources have passed.
package checks_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// build is a file of the checkout, or a link to one. The tests start in Bazel's runfiles, or in this folder.
var build = flag.String("build", "../../BUILD.bazel", "the checkout's BUILD.bazel")

func TestMain(m *testing.M) {
	flag.Parse()
	remembered := *sdk != "" && flag.Lookup("test.run").Value.String() == ""
	home, err := user.Current()
	if err != nil || !remembered {
		os.Exit(m.Run())
	}
	file := filepath.Join(home.HomeDir, ".cache/dind-cluster/checks")
	sum, err := sumOf(os.Args[0], *buildifier, *gazelle, *shellcheck, *staticcheck, *errorlint, *deadcode)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if passed, err := os.ReadFile(file); err == nil && string(passed) == sum {
		fmt.Println("The same sources have passed the same checks before:", file)
		os.Exit(0)
	}
	status := m.Run()
	if status == 0 {
		// Without the file the next run takes longer, and that is all.
		_ = os.MkdirAll(filepath.Dir(file), 0o755)
		_ = os.WriteFile(file, []byte(sum), 0o644)
	}
	os.Exit(status)
}

// sumOf returns a hash of the checkout and of programs.
func sumOf(programs ...string) (string, error) {
	dir, err := checkoutDir()
	if err != nil {
		return "", err
	}
	paths, err := files(dir)
	if err != nil {
		return "", err
	}
	for i := range paths {
		paths[i] = filepath.Join(dir, paths[i])
	}
	sum := sha256.New()
	for _, path := range append(paths, programs...) {
		data, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(sum, "%q %x\n", path, sha256.Sum256(data))
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// checkoutDir returns the folder of the checkout.
func checkoutDir() (string, error) {
	real, err := filepath.EvalSymlinks(*build)
	if err != nil {
		return "", err
	}
	return filepath.Abs(filepath.Dir(real))
}

func checkout(t *testing.T) string {
	t.Helper()
	dir, err := checkoutDir()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// files returns the files of the checkout, as paths in it. What Git and Bazel keep there, it leaves out.
func files(dir string) (found []string, err error) {
	err = fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != "." && path != ".ci":
			return fs.SkipDir
		case d.Type().IsRegular():
			found = append(found, path)
		}
		return nil
	})
	return found, err
}

// sources returns the files of the checkout that match.
func sources(t *testing.T, match func(path string) bool) []string {
	t.Helper()
	all, err := files(checkout(t))
	if err != nil {
		t.Fatal(err)
	}
	found := slices.DeleteFunc(all, func(path string) bool { return !match(path) })
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
