package e2e

import (
	"context"
	"encoding/xml"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// suiteResults is where the e2e program in the image writes, unless it is told otherwise.
const suiteResults = "/e2e-results"

// outputs is the folder for what people look at after the test.
func outputs(t *testing.T) string {
	dir := os.Getenv("TEST_UNDECLARED_OUTPUTS_DIR")
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "dind-cluster-e2e-"); err != nil {
			t.Fatal(err)
		}
		t.Logf("results: %s", dir)
	}
	return dir
}

// runSuite runs specs with the e2e program of the image, and copies its results to a folder, whatever came out. The
// error is the program's.
func (b *box) runSuite(ctx context.Context, t *testing.T, folder string, args ...string) error {
	t.Helper()
	// Not with the test's context, whose end would end the client, not the specs.
	cmd := exec.Command(b.launcher.Docker.Path, append([]string{"exec", b.name, "e2e"}, args...)...)
	log := &lineWriter{t: t}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		ctx, cancel := cleanup(t)
		defer cancel()
		if err := endSuite(ctx, b.launcher, b.name); err != nil {
			t.Error(err)
		}
		<-done
		err = context.Cause(ctx)
	}
	copying, cancel := cleanup(t)
	defer cancel()
	if err := copyResults(copying, b.launcher, b.name, folder); err != nil {
		t.Error(err)
	}
	return err
}

// readJUnit returns the status of each spec that was run, by its name.
func readJUnit(folder string) (map[string]string, error) {
	path := filepath.Join(folder, "junit_01.xml")
	report, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var suites struct {
		Suites []struct {
			Cases []struct {
				Name   string `xml:"name,attr"`
				Status string `xml:"status,attr"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(report, &suites); err != nil {
		return nil, fmt.Errorf("cannot read the JUnit report %s: %w", path, err)
	}
	results := map[string]string{}
	for _, suite := range suites.Suites {
		for _, c := range suite.Cases {
			if name, ok := strings.CutPrefix(c.Name, "[It] "); ok && c.Status != "skipped" {
				results[name] = c.Status
			}
		}
	}
	return results, nil
}
