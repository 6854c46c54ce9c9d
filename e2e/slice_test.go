package e2e

import (
	"context"
	"testing"
	"time"
)

// slice are conformance specs by their full names, some of each field and quick ones.
var slice = []string{
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

// testSlice runs the slice.
func testSlice(ctx context.Context, t *testing.T, b *box) {
	var args []string
	for _, s := range slice {
		args = append(args, "--spec="+s)
	}
	folder := outputs(t)
	start := time.Now()
	if err := b.runSuite(ctx, t, folder, args...); err != nil {
		t.Error(err)
	}
	t.Logf("%d specs in %.0f s", len(slice), time.Since(start).Seconds())
	checkSpecs(t, folder, slice)
}

// checkSpecs checks that the specs have run and passed, and no others. The program's exit status says so too, but it is
// what this shall find out.
func checkSpecs(t *testing.T, folder string, want []string) {
	t.Helper()
	results, err := readJUnit(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range want {
		if status, ok := results[s]; status != "passed" {
			if !ok {
				status = "not run"
			}
			t.Errorf("%s: %s", s, status)
		}
	}
	if len(results) != len(want) {
		t.Errorf("%d specs have run, want %d", len(results), len(want))
	}
}
