package run

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/onsi/ginkgo/v2/types"
	"golang.org/x/sys/unix"

	"github.com/dind-cluster/dind-cluster/internal/progress"
	"github.com/dind-cluster/dind-cluster/tools/e2e/results"
	"github.com/dind-cluster/dind-cluster/tools/e2e/suite"
)

// copyRun copies a real run's directory.
func copyRun(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("../testdata", name))); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestReport(t *testing.T) {
	for run, want := range map[string]string{
		"failed":       "FAILED: 5 passed, 2 failed, 6 skipped of 13 specs",
		"killed":       "KILLED before it ended; 3 passed, 3 not run of 6 specs",
		"setup-failed": "FAILED in [SynchronizedBeforeSuite]",
	} {
		t.Run(run, func(t *testing.T) {
			dir := copyRun(t, run)
			// As often as one likes.
			for range 2 {
				r, err := Report(dir)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := os.Stat(filepath.Join(dir, results.CertificationDir)); err == nil {
					t.Error("there is a directory for the certification")
				}
				summary, err := os.ReadFile(filepath.Join(dir, results.SummaryFile))
				if err != nil || !strings.HasPrefix(string(summary), want) || string(summary) != r.Summary() {
					t.Errorf("%v: %s", err, summary)
				}
				if page, err := os.ReadFile(filepath.Join(dir, results.PageFile)); err != nil || len(page) < 1000 {
					t.Errorf("the page: %v, %d bytes", err, len(page))
				}
			}
		})
	}
	if _, err := Report(t.TempDir()); err == nil || !strings.Contains(err.Error(), "has no results") {
		t.Errorf("got %v", err)
	}
}

// A report in the middle of a run leaves the run's files alone.
func TestReportWhileRunning(t *testing.T) {
	dir := copyRun(t, "killed")
	unlock, err := lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Report(dir)
	if err != nil {
		t.Fatal(err)
	}
	if status, text := r.Verdict(); status != results.ExitInterrupted || text != "STILL RUNNING: 3 passed, 3 not run of 6 specs" {
		t.Errorf("got %d %q", status, text)
	}
	unlock()
	if r, err = Report(dir); err != nil || r.Running || len(r.Notes) == 0 || !strings.HasPrefix(r.Notes[0], "This run was killed") {
		t.Errorf("after its end: %v, running %t, %q", err, r.Running, r.Notes)
	}
}

func TestLive(t *testing.T) {
	var out bytes.Buffer
	l := newLive(20, progress.New(&out))
	add := func(n int, r types.SpecReport) {
		if r.LeafNodeType == types.NodeTypeInvalid {
			r.LeafNodeType = types.NodeTypeIt
		}
		r.EndTime = time.Now()
		r.StartTime = r.EndTime.Add(-r.RunTime)
		for range n {
			l.ended(&r)
		}
	}
	step := types.SpecReport{LeafNodeType: types.NodeTypeSynchronizedBeforeSuite, State: types.SpecStateFailed}
	passed := types.SpecReport{LeafNodeText: "a", State: types.SpecStatePassed, NumAttempts: 1}
	add(3, passed)
	add(1, types.SpecReport{LeafNodeText: "[sig-x] b", State: types.SpecStateTimedout, RunTime: 12340 * time.Millisecond,
		Failure: types.Failure{Message: "first\n  second \x1b[1mline\x1b[0m " + strings.Repeat("ä", 200)}})
	add(1, types.SpecReport{LeafNodeText: "[sig-x] c", State: types.SpecStatePassed, NumAttempts: 3, MaxFlakeAttempts: 3})
	add(2, types.SpecReport{LeafNodeText: "d", State: types.SpecStateInterrupted})
	step.Failure.Message = "no cluster"
	add(1, step)
	step.Failure.Message = "\x1b[1mSynchronizedBeforeSuite failed on Ginkgo parallel process #1\x1b[0m"
	add(3, step)
	add(15, passed)
	var got []string
	for line := range strings.Lines(out.String()) {
		_, line, _ = strings.Cut(line, "]   ")
		got = append(got, strings.TrimSuffix(line, "\n"))
	}
	want := []string{
		" 10 %: 2 of 20 done",
		"FAILED [sig-x] b (12.3 s): first second line " + strings.Repeat("ä", 91) + " …",
		" 20 %: 4 of 20 done, 1 failed",
		"FLAKED [sig-x] c: attempt 3 passed",
		"FAILED [SynchronizedBeforeSuite] (0.0 s): no cluster",
		" 30 %: 6 of 20 done, 1 failed, 1 flaked",
		" 40 %: 8 of 20 done, 1 failed, 1 flaked",
		" 50 %: 10 of 20 done, 1 failed, 1 flaked",
		" 60 %: 12 of 20 done, 1 failed, 1 flaked",
		" 70 %: 14 of 20 done, 1 failed, 1 flaked",
		" 80 %: 16 of 20 done, 1 failed, 1 flaked",
		" 90 %: 18 of 20 done, 1 failed, 1 flaked",
		"100 %: 20 of 20 done, 1 failed, 1 flaked",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
}

func TestLock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "results")
	unlock, err := lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !locked(dir) {
		t.Error("it is not locked")
	}
	if err := (results.Info{PID: 4711}).Write(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := lock(dir); err == nil || !strings.Contains(err.Error(), "process 4711") {
		t.Errorf("got %v", err)
	}
	unlock()
	unlock, err = lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	unlock()
	if _, err := os.Stat(dir); err != nil {
		t.Errorf("results are gone: %v", err)
	}
	// A directory that nothing came into does not stay, unless it was there.
	made, mine := filepath.Join(t.TempDir(), "made"), t.TempDir()
	for _, dir := range []string{made, mine} {
		unlock, err := lock(dir)
		if err != nil {
			t.Fatal(err)
		}
		unlock()
	}
	if _, err := os.Stat(made); err == nil {
		t.Error("an empty directory is left")
	}
	if _, err := os.Stat(mine); err != nil {
		t.Errorf("a directory that was there is gone: %v", err)
	}
}

func TestProcesses(t *testing.T) {
	plan := &suite.Plan{Specs: []results.Planned{{Name: "a"}, {Name: "b"}, {Name: "c"}, {Name: "d", Serial: true}}}
	for asked, want := range map[int]int{1: 1, 2: 2, 3: 3, 4: 3, 100: 3, 0: 3} {
		if got := processes(asked, plan); got != want {
			t.Errorf("%d: got %d", asked, got)
		}
	}
	if got := processes(5, &suite.Plan{Specs: plan.Specs[3:]}); got != 1 {
		t.Errorf("serial specs only: got %d", got)
	}
}

// Mistakes are found before anything is written.
func TestMistakes(t *testing.T) {
	dir := t.TempDir()
	mine := filepath.Join(dir, "mine")
	if err := os.MkdirAll(mine, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(mine, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	for want, o := range map[string]Options{
		"holds no earlier results": {Results: mine},
		"--images: ":               {Results: filepath.Join(dir, "r"), Images: filepath.Join(dir, "none")},
		"there is no loader here":  {Results: filepath.Join(dir, "r"), Images: filepath.Join(mine, "file")},
		"no regular expression":    {Results: filepath.Join(dir, "r"), Selection: results.Selection{Focus: []string{"("}}},
		"cannot find e2e.test":     {Results: filepath.Join(dir, "r")},
	} {
		o.Timeout = time.Minute
		_, err := Run(t.Context(), o, io.Discard)
		var usage UsageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "r")); err == nil {
		t.Error("a results directory is left")
	}
}

func TestSignals(t *testing.T) {
	for s, want := range map[unix.Signal]string{
		unix.SIGTERM: "stopped by a signal (terminated)",
		unix.SIGHUP:  "stopped by a signal (hangup)",
		unix.SIGPIPE: "its output was closed",
	} {
		ctx, stop := Signals(t.Context())
		if err := unix.Kill(os.Getpid(), s); err != nil {
			t.Fatal(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Second):
			t.Fatal("nothing happens")
		}
		if got := context.Cause(ctx).Error(); got != want {
			t.Errorf("got %q", got)
		}
		stop()
	}
}

// TestIgnoredSignal has a run go on after a signal that nohup has it ignore.
func TestIgnoredSignal(t *testing.T) {
	signal.Ignore(unix.SIGHUP)
	// Reset would leave it to be called ignored.
	defer func() {
		c := make(chan os.Signal, 1)
		signal.Notify(c, unix.SIGHUP)
		signal.Stop(c)
	}()
	ctx, stop := Signals(t.Context())
	defer stop()
	for _, s := range []unix.Signal{unix.SIGHUP, unix.SIGTERM} {
		if err := unix.Kill(os.Getpid(), s); err != nil {
			t.Fatal(err)
		}
	}
	<-ctx.Done()
	if got := context.Cause(ctx).Error(); got != "stopped by a signal (terminated)" {
		t.Errorf("got %q", got)
	}
}

func TestUntil(t *testing.T) {
	r, w := io.Pipe()
	ctx, stop := Until(t.Context(), r)
	defer stop()
	if _, err := w.Write([]byte("anything")); err != nil {
		t.Fatal(err)
	}
	if ctx.Err() != nil {
		t.Error("it ended too early")
	}
	w.Close()
	<-ctx.Done()
	if got := context.Cause(ctx).Error(); !strings.Contains(got, "--stop-on-eof") {
		t.Errorf("got %q", got)
	}
}
