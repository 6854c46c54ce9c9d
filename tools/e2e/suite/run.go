package suite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dind-cluster/dind-cluster/tools/e2e/results"
)

// How long ginkgo has to clean up and to write its reports when it is told to stop: little when a
// caller waits for our end, as `docker stop` does, more when only the time is up. On a busy machine
// the reports alone take seconds.
const (
	Grace        = 10 * time.Second
	TimeoutGrace = 30 * time.Second
)

// Options say how to run the specs.
type Options struct {
	Selection results.Selection
	// LeaveOut are full names of specs that the selection has and that are not to run.
	LeaveOut []string
	// Nodes is the number of nodes that specs can start pods on.
	Nodes int
	// Processes run specs side by side.
	Processes int
	// FlakeAttempts is how often a spec is tried at most.
	FlakeAttempts int
	// Timeout is ginkgo's own: it should never be reached, since the context ends before.
	Timeout time.Duration
	// ReportDir gets e2e.test's reports.
	ReportDir string
	// KeepNamespaces leaves the namespaces of specs that fail.
	KeepNamespaces bool
	// Output gets all that ginkgo prints.
	Output io.Writer
}

// DefaultProcesses is how many specs to run side by side. Specs mostly wait: for images, for
// probes, for a pod's end. So there are two per CPU, and eight at least: on two CPUs, eight took
// four fifths of the time that four took for the conformance specs. But one API server and one etcd
// serve them all, and 25 is what Kubernetes' own CI asks of a cluster.
func DefaultProcesses() int { return min(max(8, 2*runtime.GOMAXPROCS(0)), 25) }

// Command is ginkgo's command line.
func (s *Suite) Command(o Options) []string {
	command := []string{
		s.Ginkgo, "run",
		fmt.Sprintf("--procs=%d", o.Processes),
		// Each spec's steps and its end, as they come: an interrupted run has no other record.
		"-v",
		"--no-color",
		"--timeout=" + o.Timeout.String(),
	}
	if o.FlakeAttempts > 1 {
		command = append(command, fmt.Sprintf("--flake-attempts=%d", o.FlakeAttempts))
	}
	command = append(command, selectionArgs(o.Selection, "")...)
	for _, name := range o.LeaveOut {
		command = append(command, "--skip="+exactly(name))
	}
	command = append(command, s.E2ETest, "--",
		"--kubeconfig="+s.Kubeconfig,
		"--kubectl-path="+s.Kubectl,
		"--provider=skeleton",
		fmt.Sprintf("--num-nodes=%d", o.Nodes),
		"--disable-log-dump",
		"--report-dir="+o.ReportDir,
		"--report-complete-ginkgo",
	)
	if s.Host != "" {
		command = append(command, "--host="+s.Host)
	}
	if o.KeepNamespaces {
		command = append(command, "--delete-namespace-on-failure=false")
	}
	return command
}

// Run runs the specs and returns ginkgo's exit status, -1 if it was killed. When the context ends,
// ginkgo and e2e.test get some time to clean up and to write their reports, and are killed then. In
// no case a process is left.
func (s *Suite) Run(ctx context.Context, o Options) (status int, err error) {
	g, err := startGuard()
	if err != nil {
		return -1, err
	}
	// After this no process holds the output open, and Wait returns.
	defer g.close()
	command := s.Command(o)
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir = filepath.Dir(s.E2ETest)
	cmd.Stdout, cmd.Stderr = o.Output, o.Output
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true, Pgid: g.pid()}
	// For processes that outlive ginkgo.
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return -1, fmt.Errorf("starting ginkgo: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	err = wait(ctx, g, ended)
	var exit *exec.ExitError
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return cmd.ProcessState.ExitCode(), nil
	case errors.As(err, &exit):
		return exit.ExitCode(), nil
	}
	return -1, fmt.Errorf("running ginkgo: %w", err)
}

// wait waits until ginkgo ends, and stops it when the context has ended. To an interrupt Ginkgo's
// processes answer by stopping their specs and cleaning up after them, to a second one by leaving
// the rest of that and writing the reports.
func wait(ctx context.Context, g *guard, ended <-chan error) error {
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	grace := Grace
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		grace = TimeoutGrace
	}
	for range 2 {
		g.signal(syscall.SIGINT)
		select {
		case err := <-ended:
			return err
		case <-time.After(grace / 2):
		}
	}
	g.close()
	return <-ended
}
