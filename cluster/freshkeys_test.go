package cluster

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/cluster/node"
	"github.com/dind-cluster/dind-cluster/cluster/topology"
	"github.com/dind-cluster/dind-cluster/internal/kubeapi"
	"github.com/dind-cluster/dind-cluster/internal/kubeconfig"
	"github.com/dind-cluster/dind-cluster/internal/pki"
)

// A node's configuration gets new keys, and the right ones.
func TestRenewNode(t *testing.T) {
	before, err := newSecrets(pki.ECDSAP256, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	after, err := newSecrets(pki.ECDSAP256, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	top := topology.Resolve(v1alpha1.Default())
	c := &cluster{topology: top, state: &state{Secrets: *after}}
	for _, n := range top.Nodes[:2] {
		config := node.Config{Topology: top, Node: n, Timeout: time.Minute, MTU: 1400, CA: before.CA}
		if n.Role == topology.ControlPlane {
			config.Shared = &before.Shared
		} else {
			config.CA.Key = nil
		}
		dir := t.TempDir()
		if err := config.Write(dir); err != nil {
			t.Fatal(err)
		}
		if err := c.renewNode(dir, n, time.Now()); err != nil {
			t.Fatal(err)
		}
		got, err := node.ReadConfig(dir)
		if err != nil {
			t.Fatal(err)
		}
		if string(got.CA.Cert) != string(after.CA.Cert) || len(got.Kubelet.Cert) == 0 || got.MTU != 1400 || got.Node.Name != n.Name {
			t.Errorf("%s: got %+v", n.Name, got)
		}
		control := n.Role == topology.ControlPlane
		if control != (len(got.CA.Key) > 0) || control != (got.Shared != nil) {
			t.Errorf("%s has what it should not have, or lacks something", n.Name)
		}
		if control && string(got.Shared.ServiceAccounts.Key) != string(after.Shared.ServiceAccounts.Key) {
			t.Errorf("%s has the old key of service accounts", n.Name)
		}
	}
}

func TestClearMachineIDs(t *testing.T) {
	root, image := t.TempDir(), t.TempDir()
	write := func(path string) string {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("0123\n"), 0o444); err != nil {
			t.Fatal(err)
		}
		return path
	}
	own := write(filepath.Join(root, "7/fs/etc/machine-id"))
	theirs := write(filepath.Join(image, "fs/etc/machine-id"))
	if err := os.Symlink(image, filepath.Join(root, "3")); err != nil {
		t.Fatal(err)
	}
	if err := clearMachineIDs(root); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{own: "", theirs: "0123\n"} {
		if data, err := os.ReadFile(path); err != nil || string(data) != want {
			t.Errorf("%s has %q, want %q (%v)", path, data, want, err)
		}
	}
}

// The objects that hold the old authority get the new one, and nodes are told last.
func TestRenewObjects(t *testing.T) {
	secrets, err := newSecrets(pki.ECDSAP256, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	old := base64.StdEncoding.EncodeToString([]byte("old authority"))
	var mu sync.Mutex
	patches := map[string]map[string]any{}
	var order []string
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.Method == http.MethodPatch {
			body, _ := io.ReadAll(r.Body)
			var patch map[string]any
			if err := json.Unmarshal(body, &patch); err != nil {
				t.Error(err)
			}
			patches[r.URL.Path], order = patch, append(order, r.URL.Path)
			fmt.Fprint(w, "{}")
			return
		}
		switch r.URL.Path + "?" + r.URL.RawQuery {
		case "/readyz?":
		case "/api/v1/configmaps?fieldSelector=metadata.name%3Dkube-root-ca.crt":
			fmt.Fprint(w, `{"items":[{"metadata":{"namespace":"a","name":"kube-root-ca.crt"}},{"metadata":{"namespace":"b","name":"kube-root-ca.crt"}}]}`)
		case "/api/v1/secrets?fieldSelector=type%3Dkubernetes.io%2Fservice-account-token":
			fmt.Fprint(w, `{"items":[{"metadata":{"namespace":"a","name":"token"}}]}`)
		case "/api/v1/namespaces/kube-public/configmaps/cluster-info?":
			text, _ := json.Marshal("clusters:\n- cluster:\n    certificate-authority-data: " + old + "\n    server: https://x\n")
			fmt.Fprintf(w, `{"data":{"kubeconfig":%s}}`, text)
		default:
			http.Error(w, r.URL.String(), http.StatusNotFound)
		}
	}))
	defer server.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	api, err := kubeapi.New(kubeconfig.Config{Server: server.URL, CA: ca, Cert: secrets.Runner.Cert, Key: secrets.Runner.Key})
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{api: api, state: &state{Secrets: *secrets}}
	// That the file with the mark is not there is the only error.
	if _, err := c.renewObjects(t.Context()); !os.IsNotExist(err) {
		t.Errorf("got %v", err)
	}
	field := func(path string, names ...string) any {
		t.Helper()
		var at any = patches[path]
		for _, name := range names {
			m, ok := at.(map[string]any)
			if !ok {
				t.Fatalf("%s was not changed, or not so: %v", path, patches[path])
			}
			value, ok := m[name]
			if !ok {
				t.Errorf("%s: %q is not in %v", path, name, m)
			}
			at = value
		}
		return at
	}
	const namespaces = "/api/v1/namespaces/"
	for _, path := range []string{namespaces + "a/configmaps/kube-root-ca.crt", namespaces + "b/configmaps/kube-root-ca.crt"} {
		if got := field(path, "data", "ca.crt"); got != string(secrets.CA.Cert) {
			t.Errorf("%s has %v", path, got)
		}
	}
	if got := field(namespaces+"a/secrets/token", "data", "token"); got != nil {
		t.Errorf("a token is %v", got)
	}
	if got := field(namespaces+"kube-system/configmaps/extension-apiserver-authentication", "data", "requestheader-client-ca-file"); got != string(secrets.Shared.FrontProxyCA.Cert) {
		t.Errorf("the front proxy's authority is %v", got)
	}
	text, _ := field(namespaces+"kube-public/configmaps/cluster-info", "data", "kubeconfig").(string)
	if strings.Contains(text, old) || !strings.Contains(text, "    certificate-authority-data: LS0t") || !strings.Contains(text, "\n    server: https://x\n") {
		t.Errorf("cluster-info has %q", text)
	}
	last := namespaces + "kube-system/configmaps/kubeadm-config"
	if got := field(last, "metadata", "annotations", node.KeysAnnotation); got != node.KeysID(secrets.CA.Cert) {
		t.Errorf("the mark is %v", got)
	}
	if order[len(order)-1] != last {
		t.Errorf("the order was %q", order)
	}
}
