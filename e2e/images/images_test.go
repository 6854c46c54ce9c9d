package images

import (
	"archive/tar"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/dind-cluster/dind-cluster/e2e/images/needs"
)

// cuts are functions whose images no conformance spec needs, although the specs' code mentions them.
var cuts = []needs.Cut{
	{Func: "test/e2e.prepullImages", Reason: "runs only when asked for, with --prepull-images"},
	{Func: "test/e2e/dra/utils.Driver.SetUp", Reason: "the conformance specs of DRA are of its API only; no driver runs"},
}

// absent are images that conformance specs name because they cannot be had.
var absent = map[string]string{
	"gcr.io/google_samples/gb-redisslave:nonexistent": "a rollout that gets stuck",
}

// listed returns the names of all images that e2e.test may use.
func listed(t *testing.T) []string {
	t.Helper()
	out, err := exec.Command(*e2e, "--list-images").Output()
	if err != nil {
		t.Fatalf("e2e.test --list-images: %v", err)
	}
	return strings.Fields(string(out))
}

// sourceFiles reads the sources of e2e.test.
func sourceFiles(t *testing.T) fs.FS {
	t.Helper()
	f, err := os.Open(*sources)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	files := fstest.MapFS{}
	for tr := tar.NewReader(f); ; {
		hdr, err := tr.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatalf("%s: %v", *sources, err)
		}
		if hdr.Typeflag != tar.TypeReg {
			continue
		}
		content, err := io.ReadAll(tr)
		if err != nil {
			t.Fatalf("%s: %v", *sources, err)
		}
		files[path.Clean(hdr.Name)] = &fstest.MapFile{Data: content}
	}
}

// conformance returns the report of a dry run that selects the conformance specs.
func conformance(t *testing.T) *os.File {
	t.Helper()
	report := filepath.Join(t.TempDir(), "report.json")
	cmd := exec.Command(*e2e, "--ginkgo.dry-run", "--ginkgo.no-color", "--ginkgo.label-filter=Conformance", "--ginkgo.json-report="+report)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("a dry run of e2e.test: %v\n%s", err, out)
	}
	f, err := os.Open(report)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// TestConformance finds the images that the conformance specs use, and looks for each.
func TestConformance(t *testing.T) {
	found, err := needs.Find(sourceFiles(t), conformance(t), cuts)
	if err != nil {
		t.Fatal(err)
	}
	built := names(t, *archive)
	for _, n := range nodeImages {
		built = append(built, names(t, n)...)
	}
	unused := maps.Clone(absent)
	for _, need := range found {
		delete(unused, need.Image)
		if absent[need.Image] == "" && !slices.Contains(built, need.Image) {
			t.Errorf(`conformance specs use an image that is not built:
%s
Build it, as docs/add-a-test-image.md tells. If no conformance spec starts it, add the function that mentions it to cuts
in //e2e/images:images_test.go, with the reason.`, need)
		}
	}
	for image := range unused {
		t.Errorf("no conformance spec names %s any more: remove it from absent", image)
	}
	// An image that all kinds of specs use: without it the search has found nothing.
	if !slices.ContainsFunc(found, func(n needs.Need) bool { return strings.Contains(n.Image, "/agnhost:") }) {
		t.Errorf("conformance specs use no agnhost? They use %v", found)
	}
	t.Logf("conformance specs use %d images", len(found))
	for _, need := range found {
		t.Log(need.Image)
	}
}

// TestNames holds what is built against what e2e.test asks for.
func TestNames(t *testing.T) {
	wanted := listed(t)
	for _, image := range names(t, *archive) {
		if !slices.Contains(wanted, image) {
			t.Errorf("%s is built, but e2e.test does not ask for it. If it asks for another tag now, correct //e2e/images:tags.bzl; else remove the image. It asks for\n  %s",
				image, strings.Join(wanted, "\n  "))
		}
	}
}

// TestList checks that the sources are read as e2e.test was compiled from them.
func TestList(t *testing.T) {
	known, err := needs.Known(sourceFiles(t))
	if err != nil {
		t.Fatal(err)
	}
	wanted := listed(t)
	for name, image := range known {
		if !slices.Contains(wanted, image) {
			t.Errorf("the sources say that %s is %s, but e2e.test does not know this image", name, image)
		}
	}
}
