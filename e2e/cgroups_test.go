package e2e

import (
	"context"
	"strings"
	"testing"
)

// testCgroups checks that a node without pods, as each is at first, keeps the cgroups in which the
// kubelet is about to make pods, while settings of the slices above change: the kubelet makes
// several pods at a time, and changes settings for each.
func testCgroups(ctx context.Context, t *testing.T, b *box) {
	const node = "alone"
	image := strings.TrimSpace(b.exec(ctx, t, "docker", "container", "inspect", "--format={{.Config.Image}}", "worker1"))
	b.exec(ctx, t, "docker", "run", "--detach", "--name", node, "--privileged", "--cgroupns", "private", "--network", "none", image)
	defer b.exec(ctx, t, "docker", "rm", "--force", "--volumes", node)
	in := func(script string) string {
		t.Helper()
		return strings.TrimSpace(b.exec(ctx, t, "docker", "exec", node, "sh", "-euc", script))
	}
	// It only boots, since no configuration makes it part of a cluster.
	in("until test -S /run/systemd/private; do sleep 0.05; done; systemctl is-system-running --wait || :")
	if in("stat --file-system --format=%T /sys/fs/cgroup") == "cgroup2fs" {
		t.Skip("with cgroup v2 there is one cgroup for all controllers")
	}
	for _, class := range []string{"burstable", "besteffort"} {
		got := in(`slice=kubepods-` + class + `.slice
			pod="kubepods.slice/$slice/kubepods-` + class + `-podtest.slice"
			cd /sys/fs/cgroup
			systemctl start "$slice"
			for controller in cpu devices memory pids; do
				mkdir -p "$controller/$pod"
			done
			systemctl set-property --runtime "$slice" CPUShares=512
			systemctl set-property --runtime "$slice" CPUShares=1024
			for controller in cpu devices memory pids; do
				test -d "$controller/$pod" || echo "$controller"
			done`)
		if got != "" {
			t.Errorf("systemd has removed the cgroup of a pod in kubepods-%s.slice: %s", class, strings.Fields(got))
		}
	}
}
