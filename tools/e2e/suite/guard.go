package suite

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// GuardVerb is the argument with which this program becomes the guard of a process group, see
// Guard.
const GuardVerb = "guard"

// Guard leads a process group, and kills it when its standard input ends: then the parent has
// closed it, or is gone. Without it the death of this program would leave ginkgo's processes to run
// their specs to the end.
func Guard() {
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	// From here on an interrupt of the group does not end it.
	os.Stdout.Close()
	_, _ = io.Copy(io.Discard, os.Stdin)
	_ = unix.Kill(0, unix.SIGKILL)
}

// guard is a running one.
type guard struct {
	cmd  *exec.Cmd
	in   io.Closer
	once sync.Once
}

func startGuard() (*guard, error) {
	cmd := exec.Command("/proc/self/exe", GuardVerb)
	cmd.Args[0] = "e2e"
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	ready, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the guard of ginkgo's processes: %w", err)
	}
	_, _ = io.Copy(io.Discard, ready)
	return &guard{cmd: cmd, in: in}, nil
}

func (g *guard) pid() int { return g.cmd.Process.Pid }

// signal sends a signal to all processes of the group. The guard itself ignores those that ask.
func (g *guard) signal(s syscall.Signal) { _ = unix.Kill(-g.pid(), s) }

// close kills the group.
func (g *guard) close() {
	g.once.Do(func() {
		g.signal(syscall.SIGKILL)
		g.in.Close()
		_ = g.cmd.Wait()
	})
}
