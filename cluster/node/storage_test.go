package node

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dind-cluster/dind-cluster/internal/kubeconfig"
)

// The API server learns of a role a moment after it has stored it, and until then refuses what the
// role allows: kubeadm must not begin in that moment.
func TestWaitForStorage(t *testing.T) {
	bound, refused := false, 0
	var first []string
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Each user's kubeconfig names a server with the user in its path.
		path, admin := strings.CutPrefix(r.URL.Path, "/admin/")
		if len(first) < 2 {
			first = append(first, r.Method+" "+path)
		}
		switch {
		case r.Method == http.MethodPatch && !admin && strings.HasSuffix(path, "/clusterrolebindings/kubeadm:cluster-admins"):
			bound = true
		case r.Method == http.MethodPatch && !admin && strings.Contains(path, "/priorityclasses/"):
		case r.Method == http.MethodGet && !admin:
		case r.Method == http.MethodGet && bound && refused >= 3:
		default:
			if bound {
				refused++
			}
			http.Error(w, "forbidden", http.StatusForbidden)
		}
	}))
	defer server.Close()
	write := func(user string) string {
		data, err := kubeconfig.Config{
			Name:   "test",
			Server: server.URL + "/" + user,
			CA:     pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
		}.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), user+".conf")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if err := waitForStorage(t.Context(), write("super-admin"), write("admin")); err != nil {
		t.Fatal(err)
	}
	// Before the kubelet makes mirror pods.
	slices.Sort(first)
	if want := []string{
		"PATCH /super-admin/apis/scheduling.k8s.io/v1/priorityclasses/system-cluster-critical",
		"PATCH /super-admin/apis/scheduling.k8s.io/v1/priorityclasses/system-node-critical",
	}; !slices.Equal(first, want) {
		t.Errorf("it begins with %q, want %q", first, want)
	}
	if !bound || refused != 3 {
		t.Errorf("kubeadm would begin too early: role bound: %t, refused %d times of 3", bound, refused)
	}
}
