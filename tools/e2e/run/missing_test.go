package run

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/dind-cluster/dind-cluster/internal/progress"
	"github.com/dind-cluster/dind-cluster/tools/e2e/missing"
	"github.com/dind-cluster/dind-cluster/tools/e2e/results"
	"github.com/dind-cluster/dind-cluster/tools/e2e/suite"
)

func threeSpecs() *suite.Plan {
	return &suite.Plan{Specs: []results.Planned{{Name: "[sig-x] one"}, {Name: "[sig-x] two"}, {Name: "[sig-x] three", Serial: true}}}
}

var things = []missing.Thing{
	{What: "image registry.example/a:1", Specs: []string{"[sig-x] one", "[sig-x] three"}},
	{What: "kernel feature SCTP", Specs: []string{"[sig-x] three"}},
}

const described = "2 of 3 specs need what this cluster does not have:\n" +
	"  image registry.example/a:1, needed by 2:\n    [sig-x] one\n    [sig-x] three\n" +
	"  kernel feature SCTP, needed by 1:\n    [sig-x] three\n"

func TestMissingFail(t *testing.T) {
	plan := threeSpecs()
	o := Options{Missing: MissingFail, Images: "images.tar"}
	err := o.decide(things, plan, progress.New(&bytes.Buffer{}))
	var usage UsageError
	if !errors.As(err, &usage) || !strings.HasPrefix(err.Error(), described) || !strings.Contains(err.Error(), "--missing=skip") {
		t.Errorf("got %v", err)
	}
	if strings.Contains(err.Error(), "dind-e2e") {
		t.Errorf("%v: this is dind-e2e", err)
	}
	if err := o.decide(nil, plan, progress.New(&bytes.Buffer{})); err != nil || plan.Run() != 3 {
		t.Errorf("nothing is missing: %v", err)
	}
}

func TestMissingRun(t *testing.T) {
	plan := threeSpecs()
	var out bytes.Buffer
	o := Options{Missing: MissingRun}
	if err := o.decide(things, plan, progress.New(&out)); err != nil || plan.Run() != 3 || len(plan.LeftOut()) != 0 {
		t.Errorf("%v, %+v", err, plan)
	}
	if !strings.Contains(out.String(), described) || !strings.Contains(out.String(), "dind-e2e") {
		t.Errorf("got %s", &out)
	}
}

// What is left out is a result, too.
func TestMissingSkip(t *testing.T) {
	plan := threeSpecs()
	var out bytes.Buffer
	o := Options{Missing: MissingSkip, Images: "images.tar"}
	if err := o.decide(things, plan, progress.New(&out)); err != nil {
		t.Fatal(err)
	}
	if left := strings.Join(plan.LeftOut(), ", "); left != "[sig-x] one, [sig-x] three" || plan.Run() != 1 || plan.Parallel() != 1 {
		t.Errorf("left out: %s; %d run, %d in parallel", left, plan.Run(), plan.Parallel())
	}
	if !strings.Contains(out.String(), described) {
		t.Errorf("got %s", &out)
	}
	dir := t.TempDir()
	if err := (results.Info{Planned: plan.Specs, Selection: results.Selection{LabelFilter: "x"}}).Write(dir); err != nil {
		t.Fatal(err)
	}
	r, err := Report(dir)
	if err != nil {
		t.Fatal(err)
	}
	summary, err := os.ReadFile(dir + "/" + results.SummaryFile)
	if err != nil {
		t.Fatal(err)
	}
	if r.Count(results.Skipped) != 2 || r.Count(results.NotRun) != 1 ||
		!strings.Contains(string(summary), "[sig-x] three: this cluster does not have image registry.example/a:1, kernel feature SCTP\n") {
		t.Errorf("got %s", summary)
	}
	plan = &suite.Plan{Specs: threeSpecs().Specs[:1]}
	var usage UsageError
	if err := o.decide(things, plan, progress.New(&out)); !errors.As(err, &usage) || !strings.Contains(err.Error(), "No spec is left") {
		t.Errorf("all are left out: %v", err)
	}
}

// images.json is what crictl prints in a node.
func TestParseImages(t *testing.T) {
	out, err := os.ReadFile("testdata/images.json")
	if err != nil {
		t.Fatal(err)
	}
	names, err := parseImages(out)
	if err != nil || len(names) != 3 || names[2] != "registry.k8s.io/pause:3.10.2" {
		t.Errorf("got %q, %v", names, err)
	}
	if _, err := parseImages([]byte("FATA[0000] validate CRI v1 image API")); err == nil {
		t.Error("no error for what is no list")
	}
}
