package cmd

import (
	"context"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/dind-cluster/dind-cluster/cluster/component"
	"github.com/dind-cluster/dind-cluster/internal/kubeconfig"
)

// The test's own program plays the runner when it is called by the name of a component.
func TestMain(m *testing.M) {
	if component.Waits(filepath.Base(os.Args[0])) {
		os.Exit(Main(context.Background(), os.Args))
	}
	os.Exit(m.Run())
}

func TestAwait(t *testing.T) {
	var asked atomic.Int32
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" || asked.Add(1) < 3 {
			http.Error(w, "not yet", http.StatusInternalServerError)
		}
	}))
	defer server.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	data, err := kubeconfig.Config{Name: "x", Server: server.URL, CA: ca}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "config")
	if err := os.WriteFile(config, data, 0o600); err != nil {
		t.Fatal(err)
	}
	// The runner is in front of the component, and a directory of the component's name is not it.
	path := func(elements ...string) string { return filepath.Join(append([]string{dir}, elements...)...) }
	for _, d := range []string{"front", "odd/kube-scheduler", "back"} {
		if err := os.MkdirAll(path(d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, path("front", "kube-scheduler")); err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\necho \"component: $@\"; exit 7\n"
	if err := os.WriteFile(path("back", "kube-scheduler"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	call := func(folders string, args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), path("front", "kube-scheduler"), args...)
		cmd.Env = append(os.Environ(), "PATH="+strings.ReplaceAll(folders, "DIR", dir))
		out, err := cmd.CombinedOutput()
		return string(out), err
	}

	// The flags are the component's, also those that the runner has.
	out, err := call("DIR/front:DIR/odd:DIR/back:/bin:/usr/bin", "--kubeconfig="+config, "--help", "x")
	if want := "component: --kubeconfig=" + config + " --help x\n"; out != want || err == nil || err.Error() != "exit status 7" {
		t.Errorf("got %q, %v, want %q", out, err, want)
	}
	if n := asked.Load(); n != 3 {
		t.Errorf("asked %d times", n)
	}
	for _, test := range []struct{ folders, arg, want string }{
		{"DIR/front:DIR/odd", "--kubeconfig=" + config, "there is no program kube-scheduler on PATH"},
		{"DIR/front:DIR/back", "--v=2", "no --kubeconfig=FILE"},
		{"DIR/front:DIR/back", "--kubeconfig=" + config + "x", "no such file"},
	} {
		if out, err := call(test.folders, test.arg); err == nil || err.Error() != "exit status 1" || !strings.Contains(out, test.want) {
			t.Errorf("%+v: got %q, %v", test, out, err)
		}
	}
}
