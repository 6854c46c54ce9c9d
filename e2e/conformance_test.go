package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/internal/kubeconfig"
	"github.com/dind-cluster/dind-cluster/internal/repeated"
)

// What follows --test_arg= on the command line of `bazel test //e2e:conformance`, or -- on that of
// `bazel run`. Those with a namesake in the e2e program are handed on to it.
var (
	focus         repeated.Strings
	skip          repeated.Strings
	labelFilter   = flag.String("label-filter", "Conformance", "the specs to run, by Ginkgo's label query; empty for all")
	parallel      = flag.Int("parallel", 0, "how many specs may run at a time (default: the e2e program's)")
	flakeAttempts = flag.Int("flake-attempts", 0, "how often a spec may be tried; one that needs more than one is reported as flaky")
	missing       = flag.String("missing", "", "what to do with specs that need what the cluster does not have: fail, skip or run (default: the e2e program's)")
	nodes         = flag.Int("nodes", len(v1alpha1.Default().Expand()), "number of nodes of the cluster that is made for the run")
	keep          = flag.Bool("keep", false, "leave that cluster, and the namespaces of failed specs in it")
	existing      = flag.String("kubeconfig", "", "run against the cluster that this file leads to, instead of making one")
)

func init() {
	flag.Var(&focus, "focus", "regular expression of specs to run; may be repeated")
	flag.Var(&skip, "skip", "regular expression of specs not to run; may be repeated")
}

// reportTime is what is left, of the time that the test has, for results and logs when the specs'
// time is up.
const reportTime = 3 * time.Minute

// TestConformance runs the conformance specs, or those that the flags pick, against a cluster made
// for them.
func TestConformance(t *testing.T) {
	if *existing != "" {
		conformanceElsewhere(t)
		return
	}
	ctx, m := newMachine(t)
	directory := outputs(t)
	o := m.options(t, "conformance", *nodes)
	start := time.Now()
	var b *box
	if *keep {
		file, err := kubeconfig.Default()
		if err != nil {
			t.Fatal(err)
		}
		o.Kubeconfig = file
		b = m.createKept(ctx, t, o)
	} else {
		b = m.create(ctx, t, o)
	}
	started := time.Since(start)

	start = time.Now()
	err := b.runSuite(ctx, t, directory, suiteArgs(ctx)...)
	t.Logf("cluster: %.0f s, specs and their results: %.0f s", started.Seconds(), time.Since(start).Seconds())
	conclude(t, directory, err)
	if *keep {
		t.Logf("the cluster stays: docker exec %s kubectl get pods -A; docker rm -f -v %s", b.name, b.name)
	}
}

// suiteArgs are the arguments of the e2e program.
func suiteArgs(ctx context.Context) []string {
	args := []string{"--label-filter=" + *labelFilter}
	for _, f := range focus {
		args = append(args, "--focus="+f)
	}
	for _, s := range skip {
		args = append(args, "--skip="+s)
	}
	if *parallel != 0 {
		args = append(args, fmt.Sprintf("--parallel=%d", *parallel))
	}
	if *flakeAttempts != 0 {
		args = append(args, fmt.Sprintf("--flake-attempts=%d", *flakeAttempts))
	}
	if *missing != "" {
		args = append(args, "--missing="+*missing)
	}
	if *keep {
		args = append(args, "--keep-namespaces")
	}
	if deadline, ok := ctx.Deadline(); ok {
		args = append(args, fmt.Sprintf("--timeout=%s", time.Until(deadline.Add(-reportTime)).Round(time.Second)))
	}
	return args
}

// conclude shows the summary, and fails the test if the specs did.
func conclude(t *testing.T, directory string, err error) {
	t.Helper()
	summary, readErr := os.ReadFile(filepath.Join(directory, "summary.txt"))
	if readErr != nil {
		t.Error(readErr)
	}
	t.Logf("results in %s\n%s", directory, summary)
	if err != nil {
		t.Error(err)
		return
	}
	// The exit status alone would not do: what if no spec had run?
	results, err := readJUnit(directory)
	if err != nil {
		t.Fatal(err)
	}
	if len(results) == 0 {
		t.Error("no spec has run")
	}
	for name, status := range results {
		if status != "passed" {
			t.Errorf("%s: %s", name, status)
		}
	}
}

// conformanceElsewhere runs the specs from here, against a cluster that is there already.
func conformanceElsewhere(t *testing.T) {
	ctx := t.Context()
	if deadline, ok := t.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, deadline.Add(-spareTime), errors.New("the test's time is up"))
		defer cancel()
	}
	directory := outputs(t)
	args := append(suiteArgs(ctx), "--kubeconfig="+*existing, "--results="+directory, "--images=")
	for option, variable := range map[string]string{
		"--e2e-test": "E2E_TEST",
		"--ginkgo":   "GINKGO",
		"--kubectl":  "KUBECTL",
	} {
		args = append(args, option+"="+runfile(t, variable))
	}
	cmd := exec.CommandContext(ctx, runfile(t, "E2E"), args...)
	log := &lineWriter{t: t}
	cmd.Stdout, cmd.Stderr = log, log
	// It has results to write.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = spareTime / 2
	conclude(t, directory, cmd.Run())
}
