package e2e

import (
	"context"
	"strings"
	"testing"
)

// testUserNamespace checks a pod in a user namespace of its own (KEP-127): it runs, root in it is
// another user on the node, and a volume that it writes to is root's again. The runtime has
// idmapped mounts for that, and pause's image, which was not loaded but was in the node from the
// beginning, can be idmapped.
func testUserNamespace(ctx context.Context, t *testing.T, b *box) {
	b.apply(ctx, t, "userns.yaml", "AGNHOST", b.testImage(ctx, t, "registry.k8s.io/e2e-test-images/agnhost"))
	b.kubectl(ctx, t, "wait", "--for=condition=Ready", "pod/userns", "--timeout=60s")
	fields := strings.Fields(b.kubectl(ctx, t, "exec", "userns", "--", "cat", "/proc/self/uid_map"))
	if len(fields) != 3 || fields[0] != "0" || fields[1] == "0" || fields[2] != "65536" {
		t.Errorf("the pod's map of users is %q, want 65536 of them from another than 0", fields)
	}
	b.kubectl(ctx, t, "exec", "userns", "--", "touch", "/scratch/file")
	for path, want := range map[string]string{"/scratch/file": "0", "/etc/hostname": "0", "/": "0"} {
		if got := strings.TrimSpace(b.kubectl(ctx, t, "exec", "userns", "--", "stat", "-c", "%u", path)); got != want {
			t.Errorf("in the pod %s is user %s's, want %s's", path, got, want)
		}
	}
	b.kubectl(ctx, t, "delete", "pod/userns", "--wait=false")
}
