// Package suite runs Kubernetes' end-to-end specs with the programs that Kubernetes has for it:
// e2e.test, which holds the specs, and ginkgo, which spreads them over processes.
package suite

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Suite is where the programs are.
type Suite struct {
	// E2ETest, Ginkgo and Kubectl are absolute paths.
	E2ETest, Ginkgo, Kubectl string
	// Kubeconfig says which cluster.
	Kubeconfig string
	// Host is the API server's URL, if it is another than in Kubeconfig.
	Host string
}

// Find completes the paths: a program that is empty is looked up by its name on PATH.
func Find(s Suite) (*Suite, error) {
	for _, p := range []struct {
		path       *string
		name, flag string
	}{
		{&s.E2ETest, "e2e.test", "--e2e-test"},
		{&s.Ginkgo, "ginkgo", "--ginkgo"},
		{&s.Kubectl, "kubectl", "--kubectl"},
	} {
		where := *p.path
		if where == "" {
			where = p.name
		}
		found, err := exec.LookPath(where)
		if err != nil {
			return nil, fmt.Errorf("cannot find %s: %w; give its path with %s", p.name, err, p.flag)
		}
		if *p.path, err = filepath.Abs(found); err != nil {
			return nil, err
		}
	}
	// Ginkgo takes a file for a suite only under such a name.
	if filepath.Ext(s.E2ETest) != ".test" {
		return nil, fmt.Errorf("--e2e-test %s: ginkgo only runs programs whose names end in .test", s.E2ETest)
	}
	var err error
	if s.Kubeconfig, err = kubeconfig(s.Kubeconfig); err != nil {
		return nil, err
	}
	return &s, nil
}

// kubeconfig is the file that says which cluster: e2e.test takes exactly one.
func kubeconfig(path string) (string, error) {
	from := "--kubeconfig"
	if path == "" {
		from = "$KUBECONFIG"
		path = os.Getenv("KUBECONFIG")
		if list := filepath.SplitList(path); len(list) > 1 {
			return "", fmt.Errorf("$KUBECONFIG names several files, and e2e.test takes one: choose it with --kubeconfig (`kubectl config view --raw --flatten` makes one of them)")
		}
	}
	if path == "" {
		from = "the default kubeconfig"
		home, err := os.UserHomeDir()
		if err != nil {
			home = "/root"
		}
		path = filepath.Join(home, ".kube", "config")
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w; give the cluster's with --kubeconfig", from, err)
	}
	f.Close()
	return filepath.Abs(path)
}

// Version asks e2e.test for its version, such as v1.37.2.
func (s *Suite) Version(ctx context.Context) (string, error) {
	out, err := output(ctx, 30*time.Second, s.E2ETest, "--version")
	if err != nil {
		return "", fmt.Errorf("asking e2e.test for its version: %w", err)
	}
	return string(bytes.TrimSpace(out)), nil
}

// output runs a command and returns what it prints; the error has what it said about it.
func output(ctx context.Context, limit time.Duration, name string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %s", limit))
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	} else if text := cmp.Or(strings.TrimSpace(stderr.String()), strings.TrimSpace(stdout.String())); err != nil && text != "" {
		err = errors.New(lastLines(text, 10))
	}
	return stdout.Bytes(), err
}

func lastLines(s string, n int) string {
	lines := strings.Split(s, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
