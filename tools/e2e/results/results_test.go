package results

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// The directories are those of real runs against a cluster, with most of what the specs wrote left
// out.
const testdata = "../testdata"

var update = flag.Bool("update", false, "write the golden summaries")

func load(t *testing.T, name string) *Run {
	t.Helper()
	r, err := Load(filepath.Join(testdata, name))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestVerdicts(t *testing.T) {
	for _, test := range []struct {
		run     string
		status  int
		verdict string
	}{
		{"failed", ExitFailed, "FAILED: 5 passed, 2 failed, 6 skipped of 13 specs"},
		{"flaked", ExitPassed, "PASSED WITH FLAKES: 2 passed, 1 flaked of 3 specs"},
		{"one-process", ExitFailed, "FAILED: 1 passed, 1 failed, 1 flaked, 1 skipped of 4 specs"},
		{"setup-failed", ExitFailed, "FAILED in [SynchronizedBeforeSuite]; 0 passed, 8 not run of 8 specs"},
		{"interrupted", ExitInterrupted, "INTERRUPTED: stopped by a signal (interrupt); 1 passed, 4 not finished, 2 not run of 7 specs"},
		{"killed", ExitInterrupted, "KILLED before it ended; 3 passed, 3 not run of 6 specs"},
	} {
		t.Run(test.run, func(t *testing.T) {
			status, verdict := load(t, test.run).Verdict()
			if status != test.status || verdict != test.verdict {
				t.Errorf("got %d %q", status, verdict)
			}
		})
	}
}

func TestSummaries(t *testing.T) {
	for _, run := range []string{"failed", "flaked", "one-process", "setup-failed", "interrupted", "killed"} {
		t.Run(run, func(t *testing.T) {
			got := load(t, run).Summary()
			golden := filepath.Join("testdata", run+".summary.txt")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("the summary is not %s (go test ./tools/e2e/results -update writes it):\n%s", golden, got)
			}
		})
	}
}

// Without Ginkgo's report, the lines that were written meanwhile tell the same.
func TestProgressAgreesWithReport(t *testing.T) {
	for _, run := range []string{"failed", "flaked", "one-process", "setup-failed", "interrupted"} {
		t.Run(run, func(t *testing.T) {
			want := load(t, run)
			dir := t.TempDir()
			for _, name := range []string{InfoFile, ProgressFile} {
				data, err := os.ReadFile(filepath.Join(testdata, run, name))
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			got, err := Load(dir)
			if err != nil {
				t.Fatal(err)
			}
			if got.Complete {
				t.Error("it is complete without Ginkgo's report")
			}
			type outcome struct {
				State        State
				Attempts     int
				Reason       string
				First, Where string
			}
			of := func(r *Run) map[string]outcome {
				out := map[string]outcome{}
				for _, s := range append(r.Specs, r.Setup...) {
					o := outcome{State: s.State, Attempts: s.Attempts, Reason: s.Reason}
					if len(s.Failures) > 0 && s.State != Flaked {
						o.First, o.Where = firstLine(s.Failures[0].Message), s.Failures[0].Location
					}
					if s.State != Passed && s.State != Flaked {
						o.Attempts = 0
					}
					out[s.Name] = o
				}
				return out
			}
			if g, w := of(got), of(want); !reflect.DeepEqual(g, w) {
				for name := range w {
					if g[name] != w[name] {
						t.Errorf("%s:\n got %+v\nwant %+v", name, g[name], w[name])
					}
				}
			}
			for i := range want.Specs {
				g, w := got.Specs[i], want.Specs[i]
				if w.Ran() && (g.Duration()-w.Duration()).Abs() > 2*time.Millisecond {
					t.Errorf("%s: took %s, and %s in the report", w.Name, g.Duration(), w.Duration())
				}
			}
		})
	}
}

func TestReportIsBroken(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{InfoFile, ProgressFile} {
		data, err := os.ReadFile(filepath.Join(testdata, "failed", name))
		if err != nil {
			t.Fatal(err)
		}
		if name == ProgressFile {
			// The last line is broken off, too.
			data = data[:len(data)-20]
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, ReportFile), []byte(`[{"SuitePath": "/usr`), 0o644); err != nil {
		t.Fatal(err)
	}
	r, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if r.Count(Failed) != 2 || r.Count(NotRun) != 1 || len(r.Notes) != 2 {
		t.Errorf("%d failed, %d not run, notes: %q", r.Count(Failed), r.Count(NotRun), r.Notes)
	}
}

// newRun is a run of specs in the given states that came to its end.
func newRun(states ...State) *Run {
	end := time.Now()
	r := &Run{Info: Info{End: &end, Start: end.Add(-time.Minute)}}
	for i, s := range states {
		r.Specs = append(r.Specs, Spec{Name: string(rune('a' + i)), State: s})
	}
	return r
}

// Nothing that is not passed ends with the status 0.
func TestExitStatus(t *testing.T) {
	for _, test := range []struct {
		name string
		run  *Run
		edit func(*Run)
		want int
	}{
		{"passed", newRun(Passed, Passed), nil, ExitPassed},
		{"flaked", newRun(Passed, Flaked), nil, ExitPassed},
		{"failed", newRun(Passed, Failed), nil, ExitFailed},
		{"not run", newRun(Passed, NotRun), nil, ExitFailed},
		{"not finished", newRun(Passed, Unfinished), nil, ExitFailed},
		{"some skipped", newRun(Passed, Skipped), nil, ExitPassed},
		{"all skipped", newRun(Skipped, Skipped), nil, ExitFailed},
		{"conformance skipped", newRun(Passed, Skipped), func(r *Run) { r.Conformance = true }, ExitFailed},
		{"named spec skipped", newRun(Passed, Skipped), func(r *Run) { r.Selection.Specs = []string{"b"} }, ExitFailed},
		{"ginkgo failed", newRun(Passed), func(r *Run) { r.GinkgoStatus = 1 }, ExitFailed},
		{"suite failed", newRun(Passed), func(r *Run) { r.Setup = []Spec{{Name: "[AfterSuite]", State: Failed}} }, ExitFailed},
		{"stopped", newRun(Passed), func(r *Run) { r.Cause = "x" }, ExitInterrupted},
		{"stopped after a failure", newRun(Failed), func(r *Run) { r.Cause = "x" }, ExitInterrupted},
		{"running", newRun(Passed), func(r *Run) { r.End, r.Running = nil, true }, ExitInterrupted},
		{"killed", newRun(Passed), func(r *Run) { r.End = nil }, ExitInterrupted},
	} {
		if test.edit != nil {
			test.edit(test.run)
		}
		if status, text := test.run.Verdict(); status != test.want {
			t.Errorf("%s: got %d (%s), want %d", test.name, status, text, test.want)
		}
	}
}

func TestPrepare(t *testing.T) {
	write := func(t *testing.T, dir, name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("none", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "a", "b")
		if err := Prepare(dir); err != nil {
			t.Fatal(err)
		}
		if err := (Info{}).Write(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadInfo(dir); err != nil {
			t.Error(err)
		}
	})
	t.Run("ours", func(t *testing.T) {
		dir := t.TempDir()
		if err := (Info{}).Write(dir); err != nil {
			t.Fatal(err)
		}
		write(t, dir, LogFile, "old")
		write(t, dir, "notes.txt", "a person's")
		if err := Prepare(dir); err != nil {
			t.Fatal(err)
		}
		entries, _ := os.ReadDir(dir)
		if len(entries) != 1 || entries[0].Name() != "notes.txt" {
			t.Errorf("left: %v", entries)
		}
	})
	for name, text := range map[string]string{
		"foreign": `{"some": "file"}`,
		"other":   `{"kind": "dind-cluster e2e run", "format": 99}`,
		"broken":  `{`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, InfoFile, text)
			if err := Prepare(dir); err == nil || !strings.Contains(err.Error(), "--results") {
				t.Errorf("got %v", err)
			}
			if data, _ := os.ReadFile(filepath.Join(dir, InfoFile)); string(data) != text {
				t.Error("it was changed")
			}
		})
	}
	t.Run("a file", func(t *testing.T) {
		dir := t.TempDir()
		write(t, dir, "file", "")
		if err := Prepare(filepath.Join(dir, "file")); err == nil {
			t.Error("no error")
		}
	})
}

func TestGather(t *testing.T) {
	dir := t.TempDir()
	artifacts := filepath.Join(dir, ArtifactsDir)
	for _, name := range []string{"junit_01.xml", "ginkgo/report.json", "ginkgo/report.xml"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(artifacts, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(artifacts, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := Gather(dir); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if want := []string{JUnitFile, ReportFile}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestSelectionString(t *testing.T) {
	s := Selection{Focus: []string{"a b", `it's \[x\]`}, LabelFilter: "!Slow", Specs: []string{"one"}}
	want := `--focus='a b' --focus='it'\''s \[x\]' --spec=one --label-filter='!Slow'`
	if got := s.String(); got != want {
		t.Errorf("got %s", got)
	}
}

func TestLocation(t *testing.T) {
	for in, want := range map[string]string{
		"external/kubernetes_1_37__io_k8s_kubernetes/test/e2e/apps/x.go:9": "test/e2e/apps/x.go:9",
		"k8s.io/kubernetes/test/e2e/apps/x.go:9":                           "k8s.io/kubernetes/test/e2e/apps/x.go:9",
		"":                                                                 "",
	} {
		if got := Location(in); got != want {
			t.Errorf("%q: got %q", in, got)
		}
	}
}

// FuzzLoad: whatever a killed run leaves, every planned spec has a state, and none has passed
// without a word of it.
func FuzzLoad(f *testing.F) {
	for _, run := range []string{"flaked", "killed", "interrupted"} {
		info, err := os.ReadFile(filepath.Join(testdata, run, InfoFile))
		if err != nil {
			f.Fatal(err)
		}
		progress, err := os.ReadFile(filepath.Join(testdata, run, ProgressFile))
		if err != nil {
			f.Fatal(err)
		}
		report, _ := os.ReadFile(filepath.Join(testdata, run, ReportFile))
		f.Add(info, report, progress)
	}
	f.Fuzz(func(t *testing.T, info, report, progress []byte) {
		i, err := parseInfo(info)
		if err != nil {
			return
		}
		r := &Run{Info: i}
		specs, err := parseReport(report)
		if err != nil {
			specs, _ = parseProgress(progress)
		}
		r.add(specs)
		n := 0
		for _, s := range States {
			n += r.Count(s)
		}
		if n != len(i.Planned) {
			t.Errorf("%d of %d specs have a state", n, len(i.Planned))
		}
		if len(report)+len(progress) == 0 && r.Count(Passed)+r.Count(Flaked) > 0 {
			t.Error("specs passed without a word")
		}
		status, text := r.Verdict()
		if status == ExitPassed && r.Count(Passed)+r.Count(Flaked) == 0 {
			t.Errorf("nothing passed, and yet: %s", text)
		}
		if r.Summary() == "" || r.CommandLine() == "" && len(r.Command) > 0 {
			t.Error("no summary")
		}
		if _, err := json.Marshal(r.Info); err != nil {
			t.Error(err)
		}
	})
}
