package snapshot

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Processes are stopped by signal, and not by the cgroup freezer, for two reasons. One that is
// stopped can be killed, while one that is frozen by a freezer of cgroup v1 cannot, not even by
// `docker rm --force` of the whole container: the container would stay until somebody thawed it by
// hand. And the Docker engine does not learn of it, so that what it has on the disk does not say that
// its containers are paused.

const (
	// Limit bounds how long everything may stand still. The control plane gives a node up after 50
	// seconds without a sign of life (NodeMonitorGracePeriod in
	// https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/controller/nodelifecycle/config/v1alpha1/defaults.go).
	Limit = 30 * time.Second
	// stopLimit bounds how long it takes to stop everything: a process that waits for the disk stops
	// afterwards.
	stopLimit = 10 * time.Second
	// heldWord is the first word of what Keep writes when everything stands still.
	heldWord = "held"
)

// errLimit means that everything stood still for too long, and goes on.
var errLimit = fmt.Errorf("it took longer than %v while all processes of the cluster stood still, so they went on", Limit)

// Hold stops all processes of the nodes, and the engine below them, until release is called. It
// leaves this to another process, the command, which has to call Keep: if this one ends, by whatever
// signal, that one has everything go on, and if that one ends, this one does.
func Hold(ctx context.Context, command ...string) (_ context.Context, release func() error, err error) {
	cmd := exec.Command(command[0], command[1:]...)
	// Ctrl-C is not for it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, fmt.Errorf("stopping the cluster's processes: %w", err)
	}
	// failed returns why the process ended.
	failed := func(err error) error {
		if text := strings.TrimPrefix(strings.TrimSpace(stderr.String()), "error: "); text != "" {
			return errors.New(text)
		}
		return fmt.Errorf("stopping the cluster's processes: %w", err)
	}
	lines := bufio.NewReader(out)
	line, err := lines.ReadString('\n')
	word, list, _ := strings.Cut(strings.TrimSpace(line), " ")
	if err != nil || word != heldWord {
		in.Close()
		err = errors.Join(err, cmd.Wait())
		if cmd.ProcessState.ExitCode() < 0 {
			goOnAll() // it was killed half way
		}
		return nil, nil, failed(err)
	}
	held, cancel := context.WithCancelCause(ctx)
	done := make(chan error, 1)
	go func() {
		_, _ = io.Copy(io.Discard, lines) // until it ends
		err := cmd.Wait()
		if err != nil {
			for pid := range strings.FieldsSeq(list) {
				if n, err := strconv.Atoi(pid); err == nil {
					_ = unix.Kill(n, unix.SIGCONT)
				}
			}
			err = failed(err)
		}
		cancel(cmp.Or(err, context.Canceled))
		done <- err
	}()
	return held, func() error {
		in.Close()
		return <-done
	}, nil
}

// Keep stops all processes of the nodes, and the engine below them, says so on out, and has them go
// on when in ends, ctx does, or the limit is reached.
func Keep(ctx context.Context, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithTimeoutCause(ctx, Limit, errLimit)
	defer cancel()
	ended, end := context.WithCancel(ctx)
	defer end()
	go func() {
		_, _ = io.Copy(io.Discard, in)
		end()
	}()
	s := &stopper{proc: "/proc", kill: unix.Kill}
	defer s.goOn()
	if err := s.stop(ended); err != nil {
		return err
	}
	line := heldWord
	for _, pid := range s.stopped {
		line += " " + strconv.Itoa(pid)
	}
	if _, err := fmt.Fprintln(out, line); err != nil {
		return err
	}
	<-ended.Done()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// stopper stops processes.
type stopper struct {
	proc    string
	kill    func(pid int, signal unix.Signal) error
	stopped []int
}

// stop stops the processes, round after round until there is none that runs: a process may make
// others until it is stopped itself.
//
// A process is stopped before its children, which have higher numbers by and large, and goes on after
// them, so that shells do not see that their jobs were stopped.
//
// One that has called vfork(2) stops only when its child is another program. If that one was stopped
// before, it has to go on for a moment.
func (s *stopper) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stopLimit)
	defer cancel()
	before := map[int]bool{}
	for first := true; ; first = false {
		all, err := processes(s.proc)
		if err != nil {
			return err
		}
		var running []process
		waiting := map[int]bool{}
		for _, p := range all {
			if first && p.stands {
				before[p.pid] = true // as its user wants it
			}
			if !p.ours || p.stands || before[p.pid] {
				continue
			}
			running = append(running, p)
			if slices.Contains(s.stopped, p.pid) {
				waiting[p.pid] = true
			}
			if err := s.kill(p.pid, unix.SIGSTOP); errors.Is(err, unix.ESRCH) {
				continue
			} else if err != nil {
				return fmt.Errorf("stopping %s (process %d): %w", p.name, p.pid, err)
			}
			if !waiting[p.pid] {
				s.stopped = append(s.stopped, p.pid)
			}
		}
		if len(running) == 0 {
			return nil
		}
		for _, p := range all {
			if waiting[p.parent] && p.stands && slices.Contains(s.stopped, p.pid) {
				_ = s.kill(p.pid, unix.SIGCONT)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s (process %d) does not stop, nor do %d others: the disk is slow, or does not answer", running[0].name, running[0].pid, len(running)-1)
		case <-time.After(time.Millisecond):
		}
	}
}

func (s *stopper) goOn() {
	for _, pid := range slices.Backward(s.stopped) {
		_ = s.kill(pid, unix.SIGCONT)
	}
	s.stopped = nil
}

// goOnAll has all processes go on that may have been stopped.
func goOnAll() {
	all, err := processes("/proc")
	if err != nil {
		return
	}
	for _, p := range slices.Backward(all) {
		if p.ours {
			_ = unix.Kill(p.pid, unix.SIGCONT)
		}
	}
}

type process struct {
	pid, parent int
	name        string
	// ours reports whether it may write to the volume.
	ours bool
	// stands reports whether it is stopped, in all its threads, or dead.
	stands bool
}

// engine has the names of the programs outside the nodes that write to the volume.
var engine = []string{"containerd", "dockerd"}

// processes returns all processes, by their numbers.
func processes(proc string) ([]process, error) {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return nil, fmt.Errorf("looking at the processes: %w", err)
	}
	var all []process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		p := process{pid: pid, stands: true}
		dir := filepath.Join(proc, e.Name())
		status, err := os.ReadFile(filepath.Join(dir, "status"))
		if gone(err) {
			continue
		} else if err != nil {
			return nil, err
		}
		levels := 0
		for line := range strings.Lines(string(status)) {
			key, value, _ := strings.Cut(line, ":")
			switch key {
			case "Name":
				p.name = strings.TrimSpace(value)
			case "PPid":
				p.parent, _ = strconv.Atoi(strings.TrimSpace(value))
			case "NSpid":
				levels = len(strings.Fields(value))
			}
		}
		// A node's processes are in a PID namespace below that of this container.
		p.ours = levels > 1 || slices.Contains(engine, p.name)
		if p.ours {
			if p.stands, err = stands(dir); err != nil {
				return nil, err
			}
		}
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b process) int { return a.pid - b.pid })
	return all, nil
}

// stands reports whether no thread of a process runs: whether each is stopped (T, t) or dead (Z, X).
func stands(dir string) (bool, error) {
	threads, err := os.ReadDir(filepath.Join(dir, "task"))
	if gone(err) {
		return true, nil
	} else if err != nil {
		return false, err
	}
	for _, t := range threads {
		stat, err := os.ReadFile(filepath.Join(dir, "task", t.Name(), "stat"))
		if gone(err) {
			continue
		} else if err != nil {
			return false, err
		}
		// Behind the name, in which there may be anything (proc_pid_stat(5)).
		rest := bytes.TrimSpace(stat[bytes.LastIndexByte(stat, ')')+1:])
		if len(rest) == 0 || !bytes.ContainsRune([]byte("TtZX"), rune(rest[0])) {
			return false, nil
		}
	}
	return true, nil
}

func gone(err error) bool { return errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) }
