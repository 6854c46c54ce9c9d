package e2e

import (
	"context"
	"encoding/xml"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
)

// specs are real conformance specs, by their full names: a few of each field, quick ones, and only such
// that need no images but agnhost and pause.
var specs = []string{
	"[sig-api-machinery] Watchers should observe add, update, and delete watch notifications on configmaps [Conformance]",
	"[sig-api-machinery] server version should find the server version [Conformance]",
	"[sig-apps] ReplicaSet should serve a basic image on each replica with a public image [Conformance]",
	"[sig-cli] Kubectl client Kubectl label should update the label on a resource [Conformance]",
	"[sig-network] DNS should support configurable pod DNS nameservers [Conformance]",
	"[sig-network] Networking Granular Checks: Pods should function for intra-pod communication: http [Conformance] [NodeConformance]",
	"[sig-network] Services should be able to create a functioning NodePort service [Conformance]",
	"[sig-node] Container Lifecycle Hook when create a pod with lifecycle hook should execute poststart http hook properly [Conformance] [NodeConformance]",
	"[sig-node] Pods should get a host IP [Conformance] [NodeConformance]",
	"[sig-scheduling] LimitRange should create a LimitRange with defaults and ensure pod has those defaults applied. [Conformance]",
	"[sig-storage] ConfigMap should be consumable from pods in volume [Conformance] [NodeConformance]",
	"[sig-storage] EmptyDir volumes should support (root,0644,default) [LinuxOnly] [Conformance] [NodeConformance]",
	"[sig-storage] Secrets should be consumable from pods in volume [Conformance] [NodeConformance]",
}

// testConformance runs the specs with the e2e.test and ginkgo of the image.
func testConformance(ctx context.Context, t *testing.T, b *box) {
	const report = "/tmp/e2e-report"
	command := []string{"ginkgo", "run", "--procs=4", "--no-color", "--timeout=3m"}
	for _, s := range specs {
		command = append(command, "--focus="+regexp.QuoteMeta(s)+"$")
	}
	command = append(command, "/usr/bin/e2e.test", "--",
		"--kubeconfig=/root/.kube/config", "--provider=local", "--disable-log-dump", "--report-dir="+report)
	start := time.Now()
	out, err := b.launcher.Docker.Exec(ctx, b.name, command...)
	t.Logf("%d specs in %.0f s", len(specs), time.Since(start).Seconds())
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}

	// Not the exit status alone: a spec that was renamed would be missing without a word.
	results, err := readJUnit(b.exec(ctx, t, "sh", "-c", "cat "+report+"/junit*.xml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range specs {
		if status, ok := results[s]; status != "passed" {
			if !ok {
				status = "not run"
			}
			t.Errorf("%s: %s", s, status)
		}
	}
}

// readJUnit returns the status of each spec that was run, by its name.
func readJUnit(report string) (map[string]string, error) {
	var suites struct {
		Suites []struct {
			Cases []struct {
				Name   string `xml:"name,attr"`
				Status string `xml:"status,attr"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal([]byte(report), &suites); err != nil {
		return nil, fmt.Errorf("cannot read the JUnit report %.200q: %w", report, err)
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
