package suite

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dind-cluster/dind-cluster/tools/e2e/results"
)

// The guard is this very program, under another verb.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == GuardVerb {
		Guard()
	}
	os.Exit(m.Run())
}

func TestCheckSelection(t *testing.T) {
	for _, test := range []struct {
		sel  results.Selection
		want string
	}{
		{results.Selection{}, ""},
		{results.Selection{Focus: []string{`\[Conformance\]`}, Skip: []string{"a|b"}, LabelFilter: "sig-node && !Slow"}, ""},
		{results.Selection{Focus: []string{"("}}, `--focus "(" is no regular expression`},
		{results.Selection{Skip: []string{"[z-a]"}}, `--skip "[z-a]" is no regular expression`},
		{results.Selection{Focus: []string{""}}, "--focus is empty"},
		{results.Selection{Skip: []string{""}}, "--skip is empty"},
		{results.Selection{LabelFilter: "a &&"}, `--label-filter "a &&": `},
		{results.Selection{LabelFilter: "/(/"}, `--label-filter "/(/": `},
		{results.Selection{Specs: []string{" "}}, "--spec is empty"},
	} {
		err := CheckSelection(test.sel)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%v: got %v, want %q", test.sel, err, test.want)
		}
		if err != nil && strings.ContainsAny(err.Error(), "\n{\x1b") {
			t.Errorf("%q has Ginkgo's margins and colours", err)
		}
	}
}

// plan.json is what e2e.test's own dry run reports for the label Conformance, with few of its
// specs.
func readPlan(t *testing.T, sel results.Selection) (*Plan, error) {
	t.Helper()
	data, err := os.ReadFile("testdata/plan.json")
	if err != nil {
		t.Fatal(err)
	}
	return parsePlan(data, sel)
}

func TestParsePlan(t *testing.T) {
	plan, err := readPlan(t, Default(results.Selection{}))
	if err != nil {
		t.Fatal(err)
	}
	if plan.Total != 9 || len(plan.Specs) != 5 || plan.Parallel() != 3 || !plan.Conformance {
		t.Errorf("%d of %d specs, %d parallel, conformance %t", len(plan.Specs), plan.Total, plan.Parallel(), plan.Conformance)
	}
	for _, s := range plan.Specs {
		if !strings.Contains(s.Name, "[Conformance]") || s.Serial != strings.Contains(s.Name, "[Serial]") || len(s.Labels) == 0 {
			t.Errorf("%+v", s)
		}
	}
}

func TestPlanErrors(t *testing.T) {
	plan, err := readPlan(t, Default(results.Selection{}))
	if err != nil {
		t.Fatal(err)
	}
	name := plan.Specs[0].Name
	other := "[sig-storage] "
	for _, test := range []struct {
		name string
		sel  results.Selection
		want []string
	}{
		{"no such spec", results.Selection{Specs: []string{"nothing like it"}}, []string{"no spec of this full name", "--dry-run"}},
		{"a part of a name", results.Selection{Specs: []string{name[5:30]}}, []string{"no spec of this full name", name}},
		{"excluded", results.Selection{Specs: []string{unselected(t, other)}, LabelFilter: "Conformance"}, []string{"--skip or --label-filter excludes it"}},
	} {
		_, err := readPlan(t, test.sel)
		for _, want := range test.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v, want %q", test.name, err, want)
			}
		}
	}
	all := map[string]bool{"[sig-a] one": false, "[sig-b] two": false, "[sig-b] three": false}
	for want, sel := range map[string]results.Selection{
		"--focus alone matches none of 3 specs":                               {Focus: []string{"zero"}},
		"--focus alone matches 2 specs, but --skip or --label-filter":         {Focus: []string{"sig-b"}, Skip: []string{"."}},
		"--dry-run lists what other values select":                            {LabelFilter: "Nothing"},
		"--focus matches 2 specs, but e2e.test never runs them":               {Focus: []string{"^Kubernetes e2e suite .sig-b"}},
		"no spec is selected by --focus=sig-b --label-filter=Slow --skip=xyz": {Focus: []string{"sig-b"}, LabelFilter: "Slow", Skip: []string{"xyz"}},
	} {
		if got := nothing(sel, all); !strings.Contains(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for _, broken := range []string{"", "[]", "{}", `[{"SpecReports":[]}]`} {
		if _, err := parsePlan([]byte(broken), results.Selection{}); err == nil {
			t.Errorf("%q is a plan", broken)
		}
	}
}

// unselected is the full name of a spec of plan.json that its filter left out.
func unselected(t *testing.T, prefix string) string {
	t.Helper()
	data, err := os.ReadFile("testdata/plan.json")
	if err != nil {
		t.Fatal(err)
	}
	var reports []struct {
		SpecReports []struct {
			ContainerHierarchyTexts []string
			LeafNodeText, State     string
		}
	}
	if err := json.Unmarshal(data, &reports); err != nil {
		t.Fatal(err)
	}
	for _, s := range reports[0].SpecReports {
		if name := strings.Join(append(s.ContainerHierarchyTexts, s.LeafNodeText), " "); s.State == "skipped" && strings.HasPrefix(name, prefix) {
			return name
		}
	}
	t.Fatalf("plan.json has no unselected spec %s…", prefix)
	return ""
}

func TestCommand(t *testing.T) {
	s := &Suite{E2ETest: "/usr/bin/e2e.test", Ginkgo: "/usr/bin/ginkgo", Kubectl: "/usr/bin/kubectl", Kubeconfig: "/k", Host: "https://10.0.0.2:1"}
	got := s.Command(Options{
		Selection: results.Selection{
			Focus: []string{"a.*b"}, Specs: []string{"[sig-x] y (z)"}, Skip: []string{"s"}, LabelFilter: "l",
		},
		LeaveOut: []string{"[sig-x] z [Slow]"}, Nodes: 2,
		Processes: 4, FlakeAttempts: 2, Timeout: time.Hour, ReportDir: "/r", KeepNamespaces: true,
	})
	want := []string{
		"/usr/bin/ginkgo", "run", "--procs=4", "-v", "--no-color", "--timeout=1h0m0s", "--flake-attempts=2",
		"--focus=a.*b", `--focus=^Kubernetes e2e suite \[sig-x\] y \(z\)$`, "--skip=s", "--label-filter=l",
		`--skip=^Kubernetes e2e suite \[sig-x\] z \[Slow\]$`,
		"/usr/bin/e2e.test", "--", "--kubeconfig=/k", "--kubectl-path=/usr/bin/kubectl", "--provider=skeleton", "--num-nodes=2", "--disable-log-dump",
		"--report-dir=/r", "--report-complete-ginkgo", "--host=https://10.0.0.2:1", "--delete-namespace-on-failure=false",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

// nodes.json is what an API server answers: a control plane, three workers of which one is cordoned
// and one not ready, and a node that waits for its cloud.
func TestSchedulable(t *testing.T) {
	list, err := os.ReadFile("testdata/nodes.json")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := schedulable(list); err != nil || n != 1 {
		t.Errorf("got %d, %v, want 1", n, err)
	}
	if _, err := schedulable([]byte("Unauthorized")); err == nil {
		t.Error("no error for what is no list")
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"e2e.test", "ginkgo", "kubectl", "config", "tests"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
	t.Setenv("HOME", dir)
	t.Setenv("KUBECONFIG", filepath.Join(dir, "config"))
	s, err := Find(Suite{})
	if err != nil {
		t.Fatal(err)
	}
	want := Suite{
		E2ETest: filepath.Join(dir, "e2e.test"), Ginkgo: filepath.Join(dir, "ginkgo"), Kubectl: filepath.Join(dir, "kubectl"),
		Kubeconfig: filepath.Join(dir, "config"),
	}
	if *s != want {
		t.Errorf("got %+v", *s)
	}
	for _, test := range []struct {
		suite  Suite
		config string
		want   string
	}{
		{Suite{Ginkgo: filepath.Join(dir, "none")}, want.Kubeconfig, "--ginkgo"},
		{Suite{E2ETest: filepath.Join(dir, "tests")}, want.Kubeconfig, "names end in .test"},
		{Suite{Kubeconfig: filepath.Join(dir, "none")}, want.Kubeconfig, "--kubeconfig"},
		{Suite{}, "a:b", "several files"},
		{Suite{}, "", "the default kubeconfig"},
		{Suite{}, filepath.Join(dir, "none"), "$KUBECONFIG"},
	} {
		t.Setenv("KUBECONFIG", test.config)
		if _, err := Find(test.suite); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v %q: got %v, want %q", test.suite, test.config, err, test.want)
		}
	}
}

// script stands for ginkgo: what happens to its processes is ours to decide, whatever they are.
func script(t *testing.T, text string) *Suite {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ginkgo")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return &Suite{Ginkgo: path, E2ETest: filepath.Join(t.TempDir(), "e2e.test")}
}

// firstLine cancels when a line has come, and keeps it.
type firstLine struct {
	text bytes.Buffer
	came func()
}

func (f *firstLine) Write(p []byte) (int, error) {
	n, err := f.text.Write(p)
	if f.came != nil && bytes.IndexByte(f.text.Bytes(), '\n') >= 0 {
		f.came()
		f.came = nil
	}
	return n, err
}

func TestRunStatus(t *testing.T) {
	for _, want := range []int{0, 1, 197} {
		status, err := script(t, fmt.Sprintf("echo hello; exit %d", want)).Run(t.Context(), Options{Output: &firstLine{}})
		if status != want || err != nil {
			t.Errorf("got %d, %v", status, err)
		}
	}
	s := script(t, "")
	s.Ginkgo = filepath.Join(t.TempDir(), "none")
	if _, err := s.Run(t.Context(), Options{Output: &firstLine{}}); err == nil {
		t.Error("no error without ginkgo")
	}
}

// Whoever stops when asked to has time to say what has come of it.
func TestRunInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	out := &firstLine{came: func() { cancel(errors.New("enough")) }}
	start := time.Now()
	status, err := script(t, `trap "sleep 0.5; echo stops; exit 3" INT; echo ready; while :; do sleep 0.05; done`).
		Run(ctx, Options{Output: out})
	if status != 3 || err != nil || !strings.HasSuffix(out.text.String(), "ready\nstops\n") {
		t.Errorf("got %d, %v, %q", status, err, out.text.String())
	}
	if took := time.Since(start); took > Grace {
		t.Errorf("it took %s", took)
	}
}

// Whoever does not stop is killed, with all children, and so are those who stay behind when ginkgo
// has ended.
func TestRunLeavesNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the grace period")
	}
	for name, text := range map[string]string{
		"deaf":        `trap "" INT; sleep 1000 & echo $! $$; wait`,
		"left behind": `sleep 1000 & echo $! $$`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancelCause(t.Context())
			out := &firstLine{came: func() { cancel(errors.New("enough")) }}
			start := time.Now()
			status, err := script(t, text).Run(ctx, Options{Output: out})
			took := time.Since(start)
			if err != nil || took > Grace+5*time.Second {
				t.Errorf("status %d, %v, after %s", status, err, took)
			}
			for _, word := range strings.Fields(out.text.String()) {
				gone(t, word)
			}
		})
	}
}

// gone waits until a process is no more; a killed one needs a moment.
func gone(t *testing.T, word string) {
	t.Helper()
	pid, err := strconv.Atoi(word)
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if unix.Kill(pid, 0) != nil {
			return
		}
		if stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); bytes.Contains(stat, []byte(") Z ")) {
			return
		}
	}
	t.Errorf("process %d is left", pid)
}

// When this program is killed, the guard ends ginkgo's processes.
func TestGuardOutlivesUs(t *testing.T) {
	g, err := startGuard()
	if err != nil {
		t.Fatal(err)
	}
	// To be asked does not end it.
	g.signal(unix.SIGINT)
	g.signal(unix.SIGTERM)
	g.signal(unix.SIGHUP)
	if err := unix.Kill(g.pid(), 0); err != nil {
		t.Fatalf("the guard is gone: %v", err)
	}
	// All that the death of this program does to it.
	g.in.Close()
	done := make(chan error, 1)
	go func() { done <- g.cmd.Wait() }()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Error("the guard does not end")
	}
	if !strings.Contains(g.cmd.ProcessState.String(), "killed") {
		t.Errorf("the guard did not kill its group: %s", g.cmd.ProcessState)
	}
}

func TestDefaultProcesses(t *testing.T) {
	if n := DefaultProcesses(); n < 8 || n > 25 {
		t.Errorf("got %d", n)
	}
}

func FuzzCheckSelection(f *testing.F) {
	f.Add("sig-node && !Slow", "a.*b")
	f.Add("a: {b, c} || /x.*/", "(")
	f.Fuzz(func(t *testing.T, filter, focus string) {
		sel := results.Selection{Focus: []string{focus}, LabelFilter: filter}
		if CheckSelection(sel) != nil {
			return
		}
		// What has passed does not stop us later.
		const name = "[sig-a] one"
		got := nothing(sel, map[string]bool{name: false})
		if matches := regexp.MustCompile(focus).MatchString(description + " " + name); matches == strings.HasSuffix(got, "matches none of 1 specs") {
			t.Errorf("%q: %q", focus, got)
		}
	})
}
