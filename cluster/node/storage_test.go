package node

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/dind-cluster/dind-cluster/internal/kubeapi"
	"github.com/dind-cluster/dind-cluster/internal/kubeconfig"
)

// closer knows how many priority classes there were when it was closed.
type closer struct {
	made *atomic.Int32
	at   int32
}

func (c *closer) Close() error {
	c.at = c.made.Load()
	return nil
}

// The API server learns of a role a moment after it has stored it, and until then refuses what the
// role allows: kubeadm must not begin in that moment.
func TestWaitForStorage(t *testing.T) {
	bound, refused := false, 0
	var made atomic.Int32
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
			made.Add(1)
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
	as := func(user string) *kubeapi.Client {
		data, err := kubeconfig.Config{
			Name:   "test",
			Server: "https://of.kubeadm:6443",
			CA:     pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
		}.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), user+".conf")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		api, err := apiOf(path, server.URL+"/"+user)
		if err != nil {
			t.Fatal(err)
		}
		return api
	}
	queued := &closer{made: &made}
	if err := waitForStorage(t.Context(), as("super-admin"), as("admin"), queued); err != nil {
		t.Fatal(err)
	}
	if queued.at != 2 {
		t.Errorf("the kubelet's requests come to the API server after %d priority classes, want both", queued.at)
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
