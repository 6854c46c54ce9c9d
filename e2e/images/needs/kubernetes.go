package needs

import (
	"archive/tar"
	"errors"
	"fmt"
	"go/ast"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing/fstest"
)

// Absent are images that specs name because they cannot be had.
var Absent = map[string]string{
	"gcr.io/google_samples/gb-redisslave:nonexistent": "a rollout that gets stuck",
	"invalid.registry.k8s.io/invalid/alpine:3.1":      "a pull that fails",
}

// driversPackage has a function for each storage driver.
const driversPackage = "test/e2e/storage/drivers"

var driver = regexp.MustCompile(`\[Driver: ([^\]]+)\]`)

// storageDriver returns the storage driver that a spec is of: the same code, at the same lines,
// declares the specs of all of them. It is empty if the spec is of none, or if the function that
// makes the driver is not known.
func (a *analysis) storageDriver(spec string) string {
	m := driver.FindStringSubmatch(spec)
	p := a.packages[driversPackage]
	if m == nil || p == nil || !slices.ContainsFunc(p.decls, func(d *decl) bool { return isDriver(d) && makes(d, m[1]) }) {
		return ""
	}
	return m[1]
}

// isDriver reports whether a declaration is a function that makes a storage driver, such as
// InitNFSDriver.
func isDriver(d *decl) bool {
	_, ok := d.node.(*ast.FuncDecl)
	return ok && d.file.pkg.folder == driversPackage && strings.HasPrefix(d.name, "Init")
}

// makes reports whether such a function makes the driver of a name: by its own name, to which a
// version may be added (nfs3), or by the name standing in it.
func makes(d *decl, driver string) bool {
	name, _, _ := strings.Cut(strings.TrimPrefix(d.name, "Init"), "Driver")
	found := strings.HasPrefix(strings.ToLower(driver), strings.ToLower(name))
	ast.Inspect(d.node, func(n ast.Node) bool {
		l, ok := n.(*ast.BasicLit)
		found = found || ok && l.Value == strconv.Quote(driver)
		return !found
	})
	return found
}

// Listed returns the names of all images that e2e.test knows.
func Listed(e2e string) ([]string, error) {
	out, err := exec.Command(e2e, "--list-images").Output()
	if err != nil {
		return nil, fmt.Errorf("e2e.test --list-images: %w", err)
	}
	return strings.Fields(string(out)), nil
}

// DryRun makes e2e.test write a report of all specs, and opens it.
func DryRun(e2e, report string) (*os.File, error) {
	cmd := exec.Command(e2e, "--ginkgo.dry-run", "--ginkgo.no-color", "--ginkgo.json-report="+report)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("a dry run of e2e.test: %w\n%s", err, out)
	}
	return os.Open(report)
}

// ReadSources reads the sources of e2e.test from a tar archive.
func ReadSources(file string) (fs.FS, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	files := fstest.MapFS{}
	for tr := tar.NewReader(f); ; {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if hdr.Typeflag != tar.TypeReg {
			continue
		}
		content, err := io.ReadAll(tr)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		files[path.Clean(hdr.Name)] = &fstest.MapFile{Data: content}
	}
}
