package images

import (
	"context"
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/onsi/ginkgo/v2/types"

	"github.com/dind-cluster/dind-cluster/e2e/images/needs"
	"github.com/dind-cluster/dind-cluster/tools/e2e/missing"
	"github.com/dind-cluster/dind-cluster/tools/e2e/results"
)

// listed returns the names of all images that e2e.test may use.
func listed(t *testing.T) []string {
	t.Helper()
	images, err := needs.Listed(*e2e)
	if err != nil {
		t.Fatal(err)
	}
	return images
}

// planned returns all specs that e2e.test has.
func planned(t *testing.T) (specs []results.Planned) {
	t.Helper()
	f, err := needs.DryRun(*e2e, filepath.Join(t.TempDir(), "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var reports []types.Report
	if err := json.NewDecoder(f).Decode(&reports); err != nil {
		t.Fatal(err)
	}
	for _, s := range reports[0].SpecReports {
		specs = append(specs, results.Planned{Name: s.FullText(), Labels: s.Labels()})
	}
	return specs
}

// conformance returns the conformance specs.
func conformance(t *testing.T) []results.Planned {
	t.Helper()
	specs := slices.DeleteFunc(planned(t), func(s results.Planned) bool { return !slices.Contains(s.Labels, "Conformance") })
	if len(specs) == 0 {
		t.Fatal("e2e.test has no conformance specs")
	}
	return specs
}

// TestConformance checks that every image which a conformance spec may use is built.
func TestConformance(t *testing.T) {
	table, err := missing.ReadTable(*needed)
	if err != nil {
		t.Fatal(err)
	}
	built := names(t, *archive)
	for _, n := range nodeImages {
		built = append(built, names(t, n)...)
	}
	// Without an image that all kinds of specs use, the table has found nothing.
	specs := conformance(t)
	all, err := table.Missing(t.Context(), specs, nil, func(context.Context) ([]string, error) { return nil, nil })
	if err != nil || !slices.ContainsFunc(all, func(n missing.Thing) bool { return strings.Contains(n.What, "/agnhost:") }) {
		t.Errorf("conformance specs use no agnhost? They use %v, %v", all, err)
	}
	things, err := table.Missing(t.Context(), specs, built, func(context.Context) ([]string, error) { return nil, nil })
	if err != nil {
		t.Fatal(err)
	}
	for _, thing := range things {
		t.Errorf(`%s is used by conformance specs, and is not built:
  %s
Build it, as docs/add-a-test-image.md tells. If none of them starts it, add the function that mentions it to cuts in
//e2e/images/table, with the reason.`, thing.What, strings.Join(thing.Specs, "\n  "))
	}
	t.Logf("%d conformance specs use %d images", len(specs), len(all))
}

// TestFeatures checks that each feature of the kernel that the e2e program looks for is one that a
// spec needs.
func TestFeatures(t *testing.T) {
	specs := planned(t)
	for _, f := range missing.Features {
		if !slices.ContainsFunc(specs, f.Needs) {
			t.Errorf("no spec needs %s: correct tools/e2e/missing/kernel.go", f.Name)
		}
	}
}

// TestNames checks that e2e.test asks for everything that is built.
func TestNames(t *testing.T) {
	wanted := listed(t)
	for _, image := range names(t, *archive) {
		if !slices.Contains(wanted, image) {
			t.Errorf("%s is built, but e2e.test does not ask for it. If it asks for another tag now, correct //e2e/images:tags.bzl; else remove the image. It asks for\n  %s",
				image, strings.Join(wanted, "\n  "))
		}
	}
}
