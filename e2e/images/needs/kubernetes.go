package needs

import (
	"archive/tar"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"strings"
	"testing/fstest"
)

// Absent are images that specs name because they cannot be had.
var Absent = map[string]string{
	"gcr.io/google_samples/gb-redisslave:nonexistent": "a rollout that gets stuck",
	"invalid.registry.k8s.io/invalid/alpine:3.1":      "a pull that fails",
}

// Listed returns the names of all images that e2e.test knows.
func Listed(e2e string) ([]string, error) {
	out, err := exec.Command(e2e, "--list-images").Output()
	if err != nil {
		return nil, fmt.Errorf("e2e.test --list-images: %w", err)
	}
	return strings.Fields(string(out)), nil
}

// DryRun makes e2e.test write a report of all specs, of which the ones with the labels that a filter asks for are
// selected, and opens it.
func DryRun(e2e, report string, filter ...string) (*os.File, error) {
	args := []string{"--ginkgo.dry-run", "--ginkgo.no-color", "--ginkgo.json-report=" + report}
	for _, f := range filter {
		args = append(args, "--ginkgo.label-filter="+f)
	}
	if out, err := exec.Command(e2e, args...).CombinedOutput(); err != nil {
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
		if err == io.EOF {
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
