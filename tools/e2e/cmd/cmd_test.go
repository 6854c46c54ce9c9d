package cmd

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/tools/e2e/results"
	"github.com/dind-cluster/dind-cluster/tools/e2e/run"
)

func execute(t *testing.T, args ...string) (string, error) {
	t.Helper()
	status := 0
	root := newRoot(&status)
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&out)
	root.SetArgs(args)
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

func TestMistakes(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv("PATH", "")
	for want, args := range map[string][]string{
		"unknown flag: --nope":             {"--nope"},
		`"bogus" is no command`:            {"bogus"},
		"--parallel 0":                     {"--parallel=0"},
		"--parallel -1":                    {"--parallel=-1"},
		`invalid argument "many"`:          {"--parallel=many"},
		"it takes fail, skip or run":       {"--missing=pull"},
		"only inside a dind-cluster":       {"--missing=skip"},
		"--flake-attempts 0":               {"--flake-attempts=0"},
		"--timeout 0s":                     {"--timeout=0"},
		"--results is empty":               {"--results="},
		"no regular expression":            {"--focus=("},
		"--label-filter":                   {"--label-filter=a &&", "--dry-run"},
		"e2e-results has no results":       {"report"},
		"accepts at most 1 arg(s)":         {"report", "a", "b"},
		"cannot find e2e.test":             {"--dry-run"},
		"give its path with --e2e-test":    {"--e2e-test=/nowhere/e2e.test"},
		"--images: stat /nowhere: no such": {"--images=/nowhere"},
	} {
		_, err := execute(t, args...)
		var usage run.UsageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", args, err, want)
		}
	}
	if entries, _ := os.ReadDir("."); len(entries) > 0 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestReport(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.Mkdir(DefaultResults, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := (results.Info{Planned: []results.Planned{{Name: "[sig-x] a spec"}}}).Write(DefaultResults); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"report"}, {"report", DefaultResults}} {
		out, err := execute(t, args...)
		if err != nil || !strings.HasPrefix(out, "KILLED before it ended; 0 passed, 1 not run of 1 spec\n") {
			t.Errorf("%q: %v, %q", args, err, out)
		}
	}
	if _, err := os.Stat(filepath.Join(DefaultResults, results.PageFile)); err != nil {
		t.Error(err)
	}
}

// Proxies of the container are for images. The API server is asked by itself, where the container's
// settings put it.
func TestReachDirectly(t *testing.T) {
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "NO_PROXY", "KUBECONFIG"} {
		t.Setenv(name, "x")
	}
	var other flags
	if err := other.reachDirectly(os.Getenv, nil); err != nil || other.Suite.Host != "" {
		t.Errorf("with a kubeconfig of one's own: %q, %v", other.Suite.Host, err)
	}
	t.Setenv("KUBECONFIG", "")
	load := func() (v1alpha1.Cluster, error) {
		c := v1alpha1.Default()
		c.Networking.NodeSubnet = v1alpha1.Subnets{netip.MustParsePrefix("10.9.0.0/24")}
		return c, nil
	}
	var f flags
	if err := f.reachDirectly(os.Getenv, load); err != nil || f.Suite.Host != "https://10.9.0.2:6443" {
		t.Errorf("got %q, %v", f.Suite.Host, err)
	}
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "NO_PROXY"} {
		if value, ok := os.LookupEnv(name); ok {
			t.Errorf("%s is still %q", name, value)
		}
	}
}

// The documentation names these; each has to be there with a word about it.
func TestFlags(t *testing.T) {
	help, err := execute(t, "--help")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{
		"focus", "skip", "label-filter", "spec", "parallel", "timeout", "flake-attempts", "results", "kubeconfig", "e2e-test",
		"ginkgo", "kubectl", "images", "missing", "keep-namespaces", "dry-run", "stop-on-eof",
	} {
		if !strings.Contains(help, "--"+f+" ") {
			t.Errorf("--%s is not in the help", f)
		}
	}
}
