// Package runfiles finds the files that Bazel has put with a program.
//
// rules_go's package of that name finds single files, by way of a manifest where there is one, and
// so knows no directory that relative paths in a file could start from.
package runfiles

import (
	"fmt"
	"os"
	"path/filepath"
)

// Root returns the absolute path of the directory that the paths of runfiles start from. Path is
// that of any of the program's runfiles, as $(rlocationpath) has it.
func Root(path string) (string, error) {
	roots := []string{os.Getenv("RUNFILES_DIR"), os.Getenv("TEST_SRCDIR"), os.Args[0] + ".runfiles"}
	if self, err := os.Executable(); err == nil {
		roots = append(roots, self+".runfiles")
	}
	// Where `bazel run` starts a program: its workspace's directory in the runfiles.
	roots = append(roots, "..")
	for _, root := range roots {
		if root == "" || path == "" {
			continue
		}
		if _, err := os.Stat(filepath.Join(root, path)); err == nil {
			return filepath.Abs(root)
		}
	}
	return "", fmt.Errorf("cannot find the runfile %q in any of %q: start this program with `bazel run`", path, roots)
}
