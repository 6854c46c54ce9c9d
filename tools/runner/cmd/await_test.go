package cmd

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/dind-cluster/dind-cluster/tools/runner/kubeconfig"
)

// The test's own process becomes the runner when it is told so.
func TestMain(m *testing.M) {
	if os.Getenv("AWAIT_TEST") != "" {
		os.Exit(Main(append([]string{"runner", "await"}, os.Args[1:]...)))
	}
	os.Exit(m.Run())
}

func await(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), "AWAIT_TEST=1")
	out, err := cmd.CombinedOutput()
	return string(out), err
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
	data, err := kubeconfig.Config{Name: "x", Server: server.URL, CA: ca, Token: "a.b"}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	// The program's flags are its own, also those that the runner has.
	out, err := await(t, path, "sh", "-c", `echo "$0 $@"; exit 7`, "--help", "-x=1", "--")
	if want := "--help -x=1 --\n"; out != want || !strings.Contains(err.Error(), "exit status 7") {
		t.Errorf("got %q, %v, want %q", out, err, want)
	}
	if n := asked.Load(); n != 3 {
		t.Errorf("asked %d times", n)
	}
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{path}, "requires at least 2 arg(s)"},
		{[]string{path, "no-such-program"}, "no-such-program"},
		{[]string{path + "x", "sh"}, "no such file"},
	} {
		if out, err := await(t, test.args...); err == nil || !strings.Contains(out, test.want) {
			t.Errorf("%q: got %q, %v", test.args, out, err)
		}
	}
}
