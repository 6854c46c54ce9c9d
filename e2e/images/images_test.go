package images

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/onsi/ginkgo/v2/types"

	"github.com/dind-cluster/dind-cluster/e2e/images/needs"
	"github.com/dind-cluster/dind-cluster/tools/e2e/missing"
	"github.com/dind-cluster/dind-cluster/tools/e2e/results"
)

// cuts are functions whose images no conformance spec needs, although the specs' code mentions
// them.
var cuts = []needs.Cut{
	{Func: "test/e2e.prepullImages", Reason: "runs only when asked for, with --prepull-images"},
}

// listed returns the names of all images that e2e.test may use.
func listed(t *testing.T) []string {
	t.Helper()
	images, err := needs.Listed(*e2e)
	if err != nil {
		t.Fatal(err)
	}
	return images
}

// sourceFiles reads the sources of e2e.test.
func sourceFiles(t *testing.T) fs.FS {
	t.Helper()
	files, err := needs.ReadSources(*sources)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// conformance returns the report of a dry run that selects the conformance specs.
func conformance(t *testing.T) *os.File {
	t.Helper()
	f, err := needs.DryRun(*e2e, filepath.Join(t.TempDir(), "report.json"), "Conformance")
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
	for _, need := range found {
		if needs.Absent[need.Image] == "" && !slices.Contains(built, need.Image) {
			t.Errorf(`conformance specs use an image that is not built:
%s
Build it, as docs/add-a-test-image.md tells. If no conformance spec starts it, add the function that mentions it to cuts
in //e2e/images:images_test.go, with the reason.`, need)
		}
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

// TestFeatures checks that each feature of the kernel that the e2e program looks for is one that a
// spec needs.
func TestFeatures(t *testing.T) {
	var reports []types.Report
	if err := json.NewDecoder(conformance(t)).Decode(&reports); err != nil {
		t.Fatal(err)
	}
	for _, f := range missing.Features {
		if !slices.ContainsFunc(reports[0].SpecReports, func(s types.SpecReport) bool {
			return f.Needs(results.Planned{Name: s.FullText(), Labels: s.Labels()})
		}) {
			t.Errorf("no spec needs %s: correct tools/e2e/missing/kernel.go", f.Name)
		}
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
