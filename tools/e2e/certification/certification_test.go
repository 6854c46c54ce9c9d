package certification

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/dind-cluster/dind-cluster/tools/e2e/results"
)

// fit is a run that may be sent in, with its files.
func fit(t *testing.T) (string, *results.Run) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{results.LogFile, results.JUnitFile} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	start := time.Date(2026, 11, 23, 4, 0, 0, 0, time.UTC)
	end := start.Add(47*time.Minute + 12*time.Second)
	return dir, &results.Run{
		Info: results.Info{
			Version: "v1.37.2", Server: "v1.37.2", Product: true, Conformance: true, Processes: 4, Start: start, End: &end,
			Command: []string{"ginkgo", "run", "--focus=a b"},
		},
		Complete: true,
		Specs:    []results.Spec{{Name: "a", State: results.Passed}, {Name: "b", State: results.Passed}},
	}
}

func TestWrite(t *testing.T) {
	dir, r := fit(t)
	// Twice: a report may be made again.
	for range 2 {
		if reason, err := Write(dir, r); reason != "" || err != nil {
			t.Fatal(reason, err)
		}
	}
	directory := filepath.Join(dir, "certification", "v1.37", "dind-cluster")
	entries, err := os.ReadDir(directory)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	// No others are allowed.
	if got := strings.Join(names, " "); got != "PRODUCT.yaml README.md e2e.log junit_01.xml" {
		t.Errorf("got %s", got)
	}
	read := func(name string) string {
		data, err := os.ReadFile(filepath.Join(directory, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	if read(results.LogFile) != results.LogFile || read(results.JUnitFile) != results.JUnitFile {
		t.Error("the log or the JUnit file is another one")
	}
	var product map[string]string
	if err := yaml.UnmarshalStrict([]byte(read("PRODUCT.yaml")), &product); err != nil {
		t.Fatal(err)
	}
	for _, field := range []string{"name", "version", "website_url", "repo_url", "documentation_url", "type", "description"} {
		if product[field] == "" {
			t.Errorf("PRODUCT.yaml: %s is empty", field)
		}
	}
	// Only who certifies knows these.
	for _, field := range []string{"vendor", "contact_email_address"} {
		if value, ok := product[field]; !ok || value != "" {
			t.Errorf("PRODUCT.yaml: %s is %q", field, value)
		}
	}
	if product["version"] != "v1.37.2" || product["type"] != "distribution" {
		t.Errorf("PRODUCT.yaml: %v", product)
	}
	for _, want := range []string{"dind-e2e:v1.37.2", "ginkgo run '--focus=a b'", "2 specs ran in 47m12s", "--parallel=4"} {
		if !strings.Contains(read("README.md"), want) {
			t.Errorf("README.md does not say %q:\n%s", want, read("README.md"))
		}
	}
}

func TestUnfit(t *testing.T) {
	for want, edit := range map[string]func(*results.Run){
		"inside a dind-cluster":         func(r *results.Run) { r.Product = false },
		"exactly the conformance specs": func(r *results.Run) { r.Conformance = false },
		"the cluster is v1.38.0":        func(r *results.Run) { r.Server = "v1.38.0" },
		"come to its end":               func(r *results.Run) { r.End = nil },
		"did not come to its end":       func(r *results.Run) { r.Cause = "the time is up" },
		"not come to its end":           func(r *results.Run) { r.Complete = false },
		"tried again":                   func(r *results.Run) { r.Specs[1].State = results.Flaked },
		"not everything passed":         func(r *results.Run) { r.Specs[1].State = results.Skipped },
		"everything passed":             func(r *results.Run) { r.GinkgoStatus = 1 },
		"no version of Kubernetes":      func(r *results.Run) { r.Server, r.Version = "../..", "../.." },
	} {
		dir, r := fit(t)
		if reason, err := Write(dir, r); reason != "" || err != nil {
			t.Fatal(reason, err)
		}
		edit(r)
		reason, err := Write(dir, r)
		if err != nil || !strings.Contains(reason, want) {
			t.Errorf("%s: got %q, %v", want, reason, err)
		}
		// What an earlier run left would be a lie.
		if _, err := os.Stat(filepath.Join(dir, "certification")); err == nil {
			t.Errorf("%s: the directory is there", want)
		}
	}
}

func TestFilesMissing(t *testing.T) {
	dir, r := fit(t)
	if err := os.Remove(filepath.Join(dir, results.JUnitFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := Write(dir, r); err == nil {
		t.Error("no error without junit_01.xml")
	}
	if _, err := os.Stat(filepath.Join(dir, "certification")); err == nil {
		t.Error("half a directory is left")
	}
}
