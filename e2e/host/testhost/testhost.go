// Package testhost runs a machine for tests: user-mode Linux, whose kernel is a process like
// others, with a root file system of its own. It has what the machine at hand may lack: version 2
// of cgroups, and the kernel's features that third_party/linux/kernel.config names. It has no
// network. It is no sandbox: its root can mount any of the host's files that the user who started
// it can read.
//
// Programs that use it call Init first.
package testhost

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Options are what a machine has and does.
type Options struct {
	// Linux is the kernel, Root the image of the root file system, which stays as it is.
	Linux, Root string
	// Memory and Disk, for Docker, are in bytes. Of neither is more taken than what is used.
	Memory, Disk int64
	CPUs         int
	// Shares are directories of the host that the machine has at the same paths: to read, and with
	// ":rw" at the end to write.
	Shares []string
	// Command runs in Dir with Env besides the machine's own environment. Without a command it is a
	// shell on Stdin.
	Command []string
	Dir     string
	Env     []string
	Stdin   *os.File
	// What the command, or the shell, writes.
	Stdout, Stderr io.Writer
	// Log gets what the kernel and systemd say. Without it, that is part of errors only.
	Log io.Writer
}

// bootTime is how long the machine may take to be up. It takes some seconds; this is for hosts with
// much else to do.
const bootTime = 5 * time.Minute

// Descriptors of the kernel's process, and so of its consoles. Its first three are what it says by
// itself.
const (
	inFD = 3 + iota
	outFD
	errFD
	statusFD
	diskFD
)

// Run starts a machine, has it run the command, and returns the command's exit status. With the
// machine go all its processes and files.
func Run(ctx context.Context, o Options) (int, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	disk, err := temporaryFile(o.Disk)
	if err != nil {
		return 0, err
	}
	defer disk.Close()
	spec, err := json.Marshal(stage{Linux: o.Linux, Arguments: o.arguments(), Memory: o.Memory, Start: o.start()})
	if err != nil {
		return 0, err
	}

	// The kernel's process ends with the thread that has started it, should this process be killed.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args = []string{starting}
	cmd.Stdin = bytes.NewReader(spec)
	log := &tail{max: 64 << 10, also: o.Log}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	cmd.WaitDelay = 10 * time.Second

	in := o.Stdin
	if in == nil {
		if in, err = os.Open(os.DevNull); err != nil {
			return 0, err
		}
		defer in.Close()
	}
	cmd.ExtraFiles = []*os.File{in}
	// The kernel polls its consoles, which files on disk do not allow, but pipes do.
	var copying sync.WaitGroup
	boot := time.AfterFunc(bootTime, func() { cancel(fmt.Errorf("it was not up after %s", bootTime)) })
	defer boot.Stop()
	status := &statusReader{up: func() { boot.Stop() }}
	for _, to := range []io.Writer{o.Stdout, o.Stderr, status} {
		r, w, err := os.Pipe()
		if err != nil {
			return 0, err
		}
		defer r.Close()
		defer w.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, w)
		copying.Go(func() { io.Copy(to, r) })
	}
	cmd.ExtraFiles = append(cmd.ExtraFiles, disk)
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("starting the test host: %w", err)
	}
	for _, w := range cmd.ExtraFiles[outFD-inFD : diskFD-inFD] {
		w.Close()
	}
	err = cmd.Wait()
	copying.Wait()
	if status.ended {
		return status.code, nil
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	} else if err == nil {
		err = errors.New("it went down before the command had ended")
	}
	return 0, fmt.Errorf("test host: %w\n%s", err, log)
}

// temporaryFile makes a file that has no name, so that nothing of it can be left.
func temporaryFile(size int64) (*os.File, error) {
	f, err := os.CreateTemp("", "test-host-disk-")
	if err != nil {
		return nil, err
	}
	if err := errors.Join(os.Remove(f.Name()), f.Truncate(size)); err != nil {
		f.Close()
		return nil, fmt.Errorf("making a disk: %w", err)
	}
	return f, nil
}

func (o Options) arguments() []string {
	first := "null"
	if len(o.Command) == 0 {
		first = fmt.Sprintf("fd:%d", inFD)
	}
	return []string{
		fmt.Sprintf("mem=%dM", o.Memory>>20),
		fmt.Sprintf("ncpus=%d", o.CPUs),
		// Faster than ptrace, which it would take otherwise where that is allowed.
		"seccomp=on",
		// What is written to the root goes to a file beside the memory.
		"ubda=" + scratch + "/root," + o.Root,
		fmt.Sprintf("ubdb=/proc/self/fd/%d", diskFD),
		"root=/dev/ubda", "rootfstype=ext4", "rw",
		"umid=test-host", "uml_dir=" + scratch + "/",
		"con0=null,fd:1",
		fmt.Sprintf("con1=%s,fd:%d", first, outFD),
		fmt.Sprintf("con2=null,fd:%d", errFD),
		fmt.Sprintf("con3=null,fd:%d", statusFD),
		"con=null", "ssl=null", "console=tty0",
		"test-host=" + scratch + "/control",
	}
}

// start is what the machine runs as soon as it is up, in a shell.
func (o Options) start() string {
	var s strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&s, format+"\n", args...) }
	line("mkfs.ext4 -q -E nodiscard -O ^has_journal /dev/ubdb")
	line("mkdir -p /var/lib/docker && mount -o noatime /dev/ubdb /var/lib/docker")
	for _, share := range o.Shares {
		mode := "ro"
		if dir, ok := strings.CutSuffix(share, ":rw"); ok {
			share, mode = dir, "rw"
		}
		line("mkdir -p %[1]s && mount -t hostfs -o %[2]s,hostfs=%[1]s none %[1]s", quote(share), mode)
	}
	line("systemctl start docker.service")
	line("say up")
	for _, e := range o.Env {
		line("export %s", quote(e))
	}
	if o.Dir != "" {
		line("cd %s", quote(o.Dir))
	}
	command := "setsid --ctty --wait bash --login </dev/tty1 >/dev/tty1 2>&1"
	if len(o.Command) > 0 {
		line("stty -F /dev/tty1 raw -echo\nstty -F /dev/tty2 raw -echo")
		var words []string
		for _, a := range o.Command {
			words = append(words, quote(a))
		}
		command = strings.Join(words, " ") + " </dev/null >/dev/tty1 2>/dev/tty2"
	}
	line("status=0\n%s || status=$?\nended $status", command)
	return s.String()
}

// quote makes one word of a text, for a shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// statusReader reads the console on which the machine says how far it is.
type statusReader struct {
	line  []byte
	up    func()
	ended bool
	code  int
}

func (s *statusReader) Write(p []byte) (int, error) {
	s.line = append(s.line, p...)
	for {
		line, rest, found := bytes.Cut(s.line, []byte("\n"))
		if !found {
			return len(p), nil
		}
		s.line = rest
		word, arg, _ := strings.Cut(strings.TrimSpace(string(line)), " ")
		switch word {
		case "up":
			s.up()
		case "exit":
			code, err := strconv.Atoi(arg)
			s.code, s.ended = code, err == nil
		}
	}
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	max  int
	text []byte
	also io.Writer
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if len(t.text) > t.max {
		t.text = bytes.Clone(t.text[len(t.text)-t.max:])
	}
	if t.also != nil {
		return t.also.Write(p)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}

// starting is the name that this program has when it is started again, to become the kernel.
const starting = "test-host"

// scratch is where the machine has its memory and what else it writes. It is a file system of its
// own, which goes with the last of its processes.
const scratch = "/dev/shm"

// stage is what the process that becomes the kernel gets.
type stage struct {
	Linux     string
	Arguments []string
	Memory    int64
	// Start is the script for the machine to run.
	Start string
}

// Init becomes the kernel, in a process that Run has started. Call it first in main.
func Init() {
	if os.Args[0] != starting {
		return
	}
	fmt.Fprintf(os.Stderr, "starting the test host: %v\n", boot())
	os.Exit(1)
}

func boot() error {
	var s stage
	if err := json.NewDecoder(bufio.NewReader(os.Stdin)).Decode(&s); err != nil {
		return err
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	// The kernel's own data, and what is written to the root, besides the memory.
	size := s.Memory + s.Memory/4 + 1<<30
	if err := syscall.Mount("tmpfs", scratch, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, fmt.Sprintf("mode=0700,size=%d", size)); err != nil {
		return fmt.Errorf("mounting %s: %w", scratch, err)
	}
	control := filepath.Join(scratch, "control")
	if err := os.Mkdir(control, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(control, "start"), []byte(s.Start), 0o600); err != nil {
		return err
	}
	if err := os.Setenv("TMPDIR", scratch); err != nil {
		return err
	}
	return syscall.Exec(s.Linux, append([]string{s.Linux}, s.Arguments...), os.Environ())
}
