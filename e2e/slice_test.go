package e2e

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// slice are specs by their full names: quick ones of each field, most of them of conformance, that
// rely on as different parts of a cluster as possible, from webhooks and aggregated API servers to
// host ports and pulls. Those of Services among the granular checks skip themselves, which fails
// the run, in a process of e2e.test that does not know the number of nodes.
var slice = []string{
	"[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to deny pod and configmap creation [Conformance]",
	"[sig-api-machinery] Aggregator Should be able to support the 1.17 Sample API Server using the current Aggregator [LinuxOnly] [Conformance]",
	"[sig-api-machinery] Garbage collector should delete pods created by rc when not orphaning [Conformance]",
	"[sig-api-machinery] Watchers should observe add, update, and delete watch notifications on configmaps [Conformance]",
	"[sig-api-machinery] server version should find the server version [Conformance]",
	"[sig-apps] Deployment RollingUpdateDeployment should delete old pods and create new ones [Conformance]",
	"[sig-apps] Job should run a job to completion when tasks sometimes fail and are locally restarted [Conformance]",
	"[sig-apps] ReplicaSet should serve a basic image on each replica with a public image [Conformance]",
	"[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] should have a working scale subresource [Conformance]",
	"[sig-auth] ServiceAccounts should mount an API token into pods [Conformance]",
	"[sig-cli] Kubectl client Kubectl label should update the label on a resource [Conformance]",
	"[sig-cli] Kubectl client Update Demo should scale a replication controller [Conformance]",
	"[sig-network] DNS should provide DNS for services [Conformance]",
	"[sig-network] DNS should support configurable pod DNS nameservers [Conformance]",
	"[sig-network] HostPort validates that there is no conflict between pods with same hostPort but different hostIP and protocol [LinuxOnly] [Conformance]",
	"[sig-network] KubeProxy should set TCP CLOSE_WAIT timeout [Privileged]",
	"[sig-network] Networking Granular Checks: Pods should function for intra-pod communication: http [Conformance] [NodeConformance]",
	"[sig-network] Networking Granular Checks: Pods should function for node-pod communication: udp [LinuxOnly] [Conformance] [NodeConformance]",
	"[sig-network] Networking Granular Checks: Services should function for endpoint-Service: udp",
	"[sig-network] Networking Granular Checks: Services should function for pod-Service: http",
	"[sig-network] Proxy version v1 should proxy through a service and a pod [Conformance]",
	"[sig-network] Services should be able to create a functioning NodePort service [Conformance]",
	"[sig-network] Services should have session affinity work for service with type clusterIP [LinuxOnly] [Conformance]",
	"[sig-node] Container Lifecycle Hook when create a pod with lifecycle hook should execute poststart http hook properly [Conformance] [NodeConformance]",
	"[sig-node] ImageVolume should succeed with pod and pull policy of Always [LinuxOnly] [MinimumKubeletVersion:1.35] [Conformance]",
	"[sig-node] InitContainer should invoke init containers on a RestartAlways pod [Conformance] [NodeConformance]",
	"[sig-node] Kubelet when scheduling a busybox command in a pod should print the output to logs [Conformance] [NodeConformance]",
	"[sig-node] Pods should get a host IP [Conformance] [NodeConformance]",
	"[sig-node] Secrets should be consumable via the environment [Conformance] [NodeConformance]",
	"[sig-node] Sysctls [LinuxOnly] should support sysctls [Environment:NotInUserNS] [Conformance] [NodeConformance]",
	"[sig-scheduling] LimitRange should create a LimitRange with defaults and ensure pod has those defaults applied. [Conformance]",
	"[sig-scheduling] SchedulerPredicates validates that NodeSelector is respected if matching [Conformance] [Serial]",
	"[sig-storage] ConfigMap should be consumable from pods in volume [Conformance] [NodeConformance]",
	"[sig-storage] EmptyDir volumes should support (root,0644,default) [LinuxOnly] [Conformance] [NodeConformance]",
	"[sig-storage] Projected secret should be consumable in multiple volumes in a pod [Conformance] [NodeConformance]",
	"[sig-storage] Secrets should be consumable from pods in volume [Conformance] [NodeConformance]",
	"[sig-storage] Subpath Atomic writer volumes should support subpaths with configmap pod [Conformance]",
}

// testSlice runs the slice.
func testSlice(ctx context.Context, t *testing.T, b *box) {
	var args []string
	for _, s := range slice {
		args = append(args, "--spec="+s)
	}
	directory := outputs(t)
	start := time.Now()
	if err := b.runSuite(ctx, t, directory, args...); err != nil {
		t.Error(err)
	}
	t.Logf("%d specs in %.0f s", len(slice), time.Since(start).Seconds())
	checkSpecs(t, directory, slice)
}

// testMissing asks for a spec whose image is not built here: it is not run, and does not wait for
// the image.
func testMissing(ctx context.Context, t *testing.T, b *box) {
	const image, spec = "image registry.k8s.io/sig-storage/hostpathplugin:", "[sig-node] [DRA] control plane must deallocate after use"
	start := time.Now()
	cmd := exec.CommandContext(ctx, b.launcher.Docker.Path, "exec", b.name, "e2e", "--results=/missing", "--spec="+spec)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 2 || !strings.Contains(string(out), image) || !strings.Contains(string(out), spec) {
		t.Errorf("got %v, and\n%s\nwant exit status 2, %s and the spec", err, out, image)
	}
	t.Logf("it took %.1f s to say so", time.Since(start).Seconds())
}

// checkSpecs checks that the specs have run and passed, and no others. The program's exit status
// says so too, but it is what this shall find out.
func checkSpecs(t *testing.T, directory string, want []string) {
	t.Helper()
	results, err := readJUnit(directory)
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
