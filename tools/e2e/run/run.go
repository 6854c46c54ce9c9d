// Package run is a run of Kubernetes' end-to-end specs from beginning to end: what is asked for is
// checked, the images are loaded, ginkgo runs the specs, and its results, the nodes' logs and a
// summary are left in a directory.
package run

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/onsi/ginkgo/v2/types"
	"golang.org/x/sys/unix"

	"github.com/dind-cluster/dind-cluster/internal/progress"
	"github.com/dind-cluster/dind-cluster/tools/e2e/collect"
	"github.com/dind-cluster/dind-cluster/tools/e2e/ginkgolog"
	"github.com/dind-cluster/dind-cluster/tools/e2e/results"
	"github.com/dind-cluster/dind-cluster/tools/e2e/suite"
)

// Options are what the command line says.
type Options struct {
	Suite     suite.Suite
	Selection results.Selection
	// Processes run specs side by side; 0 for a good number.
	Processes int
	// FlakeAttempts is how often a spec is tried at most.
	FlakeAttempts int
	// Timeout is for all of the run but the collecting of logs.
	Timeout time.Duration
	// Results is the directory.
	Results string
	// Images is an archive of test images to load into all nodes; empty for none.
	Images string
	// Needs is the table of the images that specs need: missing.Table.
	Needs string
	// Missing is what to do with specs that need what the cluster does not have.
	Missing Missing
	// KeepNamespaces leaves the namespaces of specs that fail.
	KeepNamespaces bool
	// Product reports whether this is the top-level container of a dind-cluster.
	Product bool
}

// UsageError is a mistake of the caller, found before anything ran.
type UsageError struct{ Err error }

func (e UsageError) Error() string { return e.Err.Error() }

// Unwrap returns the error itself.
func (e UsageError) Unwrap() error { return e.Err }

// StoppedError is for a run that was stopped, or whose time was up, before there was anything
// to report.
type StoppedError struct{ Err error }

func (e StoppedError) Error() string { return e.Err.Error() }

// Unwrap returns the error itself.
func (e StoppedError) Unwrap() error { return e.Err }

// failed says whose fault an error is.
func failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return StoppedError{err}
	}
	return UsageError{err}
}

// plan checks what is asked for, and finds out which specs that is.
func (o *Options) plan(ctx context.Context) (*suite.Suite, *suite.Plan, error) {
	if err := suite.CheckSelection(o.Selection); err != nil {
		return nil, nil, UsageError{err}
	}
	o.Selection = suite.Default(o.Selection)
	s, err := suite.Find(o.Suite)
	if err != nil {
		return nil, nil, UsageError{err}
	}
	plan, err := s.Plan(ctx, o.Selection)
	if err != nil {
		return nil, nil, failed(ctx, err)
	}
	return s, plan, nil
}

// List writes the full names of the specs that would run, one in each line.
func List(ctx context.Context, o Options, out, note io.Writer) error {
	_, plan, err := o.plan(ctx)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(out)
	for _, s := range plan.Specs {
		fmt.Fprintln(w, s.Name)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(note, "%d of %d specs, %d of them serial\n", len(plan.Specs), plan.Total, len(plan.Specs)-plan.Parallel())
	return nil
}

// Run runs the specs. The exit status is that of the results; an error means that there are none,
// and that the directory is as it was. What goes on is written to out, a line at a time.
func Run(ctx context.Context, o Options, out io.Writer) (status int, err error) {
	start := time.Now()
	p := progress.New(out).Since(start)
	ctx, cancel := context.WithTimeoutCause(ctx, o.Timeout, fmt.Errorf("not done after %s (--timeout)", o.Timeout))
	defer cancel()

	if o.Results, err = filepath.Abs(o.Results); err != nil {
		return 0, err
	}
	if err := results.Check(o.Results); err != nil {
		return 0, UsageError{err}
	}
	if err := checkImages(o.Images); err != nil {
		return 0, UsageError{err}
	}
	s, plan, err := o.plan(ctx)
	if err != nil {
		return 0, err
	}
	version, err := s.Version(ctx)
	if err != nil {
		return 0, failed(ctx, err)
	}
	server, err := s.Server(ctx)
	if err != nil {
		return 0, failed(ctx, err)
	}
	nodes, err := s.Nodes(ctx)
	if err != nil {
		return 0, failed(ctx, err)
	}
	if o.Product { // Only here the nodes' images and kernel are known.
		things, err := o.findMissing(ctx, plan, version, p)
		if err == nil {
			err = o.decide(things, plan, p)
		}
		if err != nil {
			return 0, failed(ctx, err)
		}
	}
	info := results.Info{
		Version: version, Server: server, PID: os.Getpid(), Product: o.Product, Selection: o.Selection,
		Conformance: plan.Conformance, Total: plan.Total,
		FlakeAttempts: o.FlakeAttempts, Start: start, Planned: plan.Specs, GinkgoStatus: -1,
	}
	options := suite.Options{
		Selection:      o.Selection,
		LeaveOut:       plan.LeftOut(),
		Nodes:          nodes,
		Processes:      processes(o.Processes, plan),
		FlakeAttempts:  o.FlakeAttempts,
		Timeout:        o.Timeout + time.Minute,
		ReportDir:      filepath.Join(o.Results, results.ArtifactsDir),
		KeepNamespaces: o.KeepNamespaces,
	}
	info.Processes, info.Command = options.Processes, s.Command(options)

	unlock, err := lock(o.Results)
	if err != nil {
		return 0, UsageError{err}
	}
	defer unlock()
	p.Printf("%s: %d specs (%d serial) with %d at a time, results in %s",
		cluster(info), plan.Run(), plan.Run()-plan.Parallel(), options.Processes, o.Results)
	stop, err := o.provideImages(ctx, p)
	if err != nil {
		return 0, err
	}
	defer stop()

	if err := results.Prepare(o.Results); err != nil {
		return 0, UsageError{err}
	}
	if err := info.Write(o.Results); err != nil {
		return 0, err
	}
	if info.GinkgoStatus, err = o.specs(ctx, s, options, info, p); err != nil {
		return 0, err
	}
	end := time.Now()
	info.End = &end
	if ctx.Err() != nil {
		info.Cause = context.Cause(ctx).Error()
	}
	return o.finish(ctx, s, info, p, out)
}

// provideImages brings the test images to the nodes, until stop is called.
func (o *Options) provideImages(ctx context.Context, p *progress.Printer) (stop func(), err error) {
	if o.Images == "" {
		return func() {}, nil
	}
	err = loadImages(ctx, o.Images, p)
	if err == nil {
		if !o.Product {
			return func() {}, nil
		}
		stop, err = serveImages(ctx, o.Images, p)
	}
	if err != nil && ctx.Err() != nil {
		err = StoppedError{context.Cause(ctx)}
	}
	return stop, err
}

// cluster says which Kubernetes is tested.
func cluster(i results.Info) string {
	if i.Server == i.Version {
		return "Kubernetes " + i.Server
	}
	return fmt.Sprintf("Kubernetes %s, with the specs of %s", i.Server, i.Version)
}

// processes is how many processes to start: not more than there are specs for them.
func processes(asked int, plan *suite.Plan) int {
	n := asked
	if n == 0 {
		n = suite.DefaultProcesses()
	}
	return max(1, min(n, plan.Parallel()))
}

// specs runs ginkgo, with all that it prints in e2e.log and each spec that ends in progress.jsonl.
func (o *Options) specs(ctx context.Context, s *suite.Suite, so suite.Options, info results.Info, p *progress.Printer) (status int, err error) {
	log, err := os.Create(filepath.Join(o.Results, results.LogFile))
	if err != nil {
		return -1, err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	progressFile, err := os.Create(filepath.Join(o.Results, results.ProgressFile))
	if err != nil {
		return -1, err
	}
	defer func() { err = errors.Join(err, progressFile.Close()) }()
	// Each line with a single write: a kill leaves no more than one that is broken.
	lines := json.NewEncoder(progressFile)
	// The first lines of the log say how it came about; Ginkgo says less.
	fmt.Fprintf(log, "%s, e2e.test %s, started %s\n%s\n", cluster(info), info.Version,
		info.Start.UTC().Format(time.RFC3339), info.CommandLine())

	live := newLive(len(info.Planned)-len(so.LeaveOut), p)
	var failed error
	parser := ginkgolog.New(info.Planned, func(r types.SpecReport) {
		r.EndTime = time.Now()
		r.StartTime = r.EndTime.Add(-r.RunTime)
		live.ended(&r)
		if err := lines.Encode(r); err != nil && failed == nil {
			failed = fmt.Errorf("writing the results: %w", err)
		}
	})
	so.Output = io.MultiWriter(log, parser)
	status, err = s.Run(ctx, so)
	parser.Close()
	return status, errors.Join(err, failed)
}

// logsTime is how long the collecting of logs may take.
const logsTime = time.Minute

// finish makes the summary and the pages, and collects logs where something went wrong. The results
// come first: stopping now loses the logs only.
func (o *Options) finish(ctx context.Context, s *suite.Suite, info results.Info, p *progress.Printer, out io.Writer) (int, error) {
	if err := info.Write(o.Results); err != nil {
		return 0, err
	}
	r, err := report(o.Results, false)
	if err != nil {
		return 0, err
	}
	status, _ := r.Verdict()
	if status != results.ExitPassed || r.Count(results.Flaked) > 0 {
		step := p.Step("logs of nodes and pods")
		// The run's own context may have ended; it takes another signal to stop this.
		logs, stop := Signals(context.WithoutCancel(ctx))
		logs, cancel := context.WithTimeoutCause(logs, logsTime, fmt.Errorf("not done after %s", logsTime))
		if err := collect.Collect(logs, filepath.Join(o.Results, results.LogsDir), collect.Options{
			Suite: s, Product: o.Product,
		}); err != nil {
			step.Fail("%v", err)
		} else {
			step.Done("%s", filepath.Join(o.Results, results.LogsDir))
		}
		cancel()
		stop()
		// Once more, with links to the logs.
		if r, err = report(o.Results, false); err != nil {
			return 0, err
		}
	}
	fmt.Fprintf(out, "\n%s\nResults: %s\n", r.Summary(), o.Results)
	return status, nil
}

// lock makes the directory and keeps a second run from using it. Unlock removes the directory if it
// was made and nothing came into it.
func lock(dir string) (unlock func(), err error) {
	_, missing := os.Stat(dir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("cannot make the results directory: %w; give another one with --results", err)
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot use the results directory: %w; give another one with --results", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		who := "another run"
		if info, err := results.ReadInfo(dir); err == nil {
			who = fmt.Sprintf("another run (process %d)", info.PID)
		}
		return nil, fmt.Errorf("%s is writing its results to %s: wait for it, stop it, or give another directory with --results", who, dir)
	}
	return func() {
		if missing != nil {
			_ = os.Remove(dir)
		}
		f.Close()
	}, nil
}

// locked reports whether a run is going on that writes into the directory.
func locked(dir string) bool {
	f, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

func checkImages(file string) error {
	if file == "" {
		return nil
	}
	if _, err := os.Stat(file); err != nil {
		return fmt.Errorf("--images: %w; --images= loads none", err)
	}
	if _, err := exec.LookPath("loader"); err != nil {
		return fmt.Errorf("--images %s: there is no loader here, which is in a dind-cluster only: bring the images into the cluster in another way, and give --images=", file)
	}
	return nil
}

// loadImages loads the images that the specs use into all nodes. Those that are there already cost
// nothing.
func loadImages(ctx context.Context, file string, p *progress.Printer) error {
	step := p.Step("test images of %s into all nodes", file)
	cmd := exec.CommandContext(ctx, "loader", "load", "--quiet", file)
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	cmd.WaitDelay = suite.Grace
	out, err := cmd.CombinedOutput()
	if err != nil {
		step.Fail("failed")
		return fmt.Errorf("loading the test images: %w: %s", err, strings.TrimSpace(string(out)))
	}
	step.Done("")
	return nil
}
