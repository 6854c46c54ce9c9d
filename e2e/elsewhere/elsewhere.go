// Package elsewhere builds this workspace a second time, in another place: from a copy of its
// sources at another path, with another output base, other file times and another umask and, where
// the machine allows it, another host name and local day. Tests compare the two builds.
package elsewhere

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// enterScript runs a command in the surroundings of a place.
//
//go:embed enter.sh
var enterScript string

// Place is a place to build in. Close it.
type Place struct {
	// Dir holds all of it.
	Dir string
	// Workspace is the copy of the sources; after a build its bazel-bin is there.
	Workspace string
	// Differs lists what is different here, a word or two for each.
	Differs []string

	source     string
	base       string // Bazel's output base
	log        string // file for Bazel's messages
	lock       *os.File
	namespaces string // argument of enter.sh: root, user or none
}

// Options are the options of New.
type Options struct {
	// Source is the workspace to build.
	Source string
	// Name identifies the place: there is one of a name at a time.
	Name string
	// Log is a directory for Bazel's messages, which outlive the place.
	Log string
	// Free is how many bytes of free disk it needs.
	Free uint64
}

// Cache returns the directory of this user's caches of the project, as scripts/bazel has it.
func Cache() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("finding the cache directory: %w", err)
	}
	return filepath.Join(cache, "dind-cluster"), nil
}

// New makes a place below the cache directory, and removes what a killed test has left there. It
// fails when another test is in a place of that name, or when the disk is too full.
func New(o Options) (*Place, error) {
	cache, err := Cache()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(cache, "elsewhere", o.Name)
	p := &Place{
		Dir:       dir,
		Workspace: filepath.Join(dir, "another", "path"),
		source:    o.Source,
		base:      filepath.Join(dir, "base"),
		log:       filepath.Join(o.Log, "bazel-"+o.Name+".log"),
		Differs:   []string{"the path", "the output base", "the files' times", "the umask"},
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return nil, err
	}
	if p.lock, err = os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(p.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		p.lock.Close()
		return nil, fmt.Errorf("another test builds in %s (%w); wait for it, or end it", dir, err)
	}
	if err := p.fill(o.Free); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// fill makes the files of the place.
func (p *Place) fill(free uint64) error {
	if err := p.clear(); err != nil {
		return fmt.Errorf("removing what an earlier test has left: %w", err)
	}
	if err := os.MkdirAll(p.Workspace, 0o700); err != nil {
		return err
	}
	var s syscall.Statfs_t
	if err := syscall.Statfs(p.Dir, &s); err != nil {
		return fmt.Errorf("looking for free disk at %s: %w", p.Dir, err)
	}
	if have := s.Bavail * uint64(s.Bsize); have < free {
		return fmt.Errorf("a second build needs %d MiB below %s, and %d MiB are free: make room, or point XDG_CACHE_HOME elsewhere",
			free>>20, p.Dir, have>>20)
	}
	// Sources are all files but git's own and Bazel's links.
	const copySources = `umask 077 && tar -C "$0" --exclude=./.git --exclude='./bazel-*' --mtime=@1000000000 -cf - . |
		tar -C "$1" --no-same-owner --no-same-permissions -xf -`
	if out, err := exec.Command("bash", "-o", "pipefail", "-c", copySources, p.source, p.Workspace).CombinedOutput(); err != nil {
		return fmt.Errorf("copying the sources: %w\n%s", err, out)
	}
	return p.chooseNamespaces()
}

// chooseNamespaces finds out whether the place can have a host name and a time zone of its own.
func (p *Place) chooseNamespaces() error {
	if err := os.WriteFile(filepath.Join(p.Dir, "localtime"), zoneData(otherZone(time.Now())), 0o644); err != nil {
		return err
	}
	p.namespaces = "user"
	if os.Getuid() == 0 {
		p.namespaces = "root"
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if p.command(ctx, "true").Run() != nil {
		p.namespaces = "none"
		return nil
	}
	p.Differs = append(p.Differs, "the host name", "the local day")
	return nil
}

// Changed lists the sources that are no longer as they were copied: then the two builds are of
// different things.
func (p *Place) Changed() (string, error) {
	out, err := exec.Command("diff", "--recursive", "--brief", "--no-dereference", "--exclude=.git", "--exclude=bazel-*",
		p.source, p.Workspace).CombinedOutput()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == 1 {
		err = nil
	}
	return string(out), err
}

// notForBazel are prefixes of a test's variables that are not for a Bazel which it starts.
var notForBazel = []string{"BAZEL_TEST", "BUILD_", "GO_TEST_", "JAVA_RUNFILES", "PYTHON_RUNFILES", "RUNFILES_", "TESTBRIDGE_",
	"TEST_", "XML_OUTPUT_FILE"}

// Bazel runs scripts/bazel of the copied workspace, with the output base of the place. The
// command's own output, if it has one, goes to output; nil is for the log. The error of a command
// that fails has the end of the log.
func (p *Place) Bazel(ctx context.Context, output io.Writer, command string, args ...string) error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	// A server that was left alone ends after half a minute.
	args = append([]string{"--output_base=" + p.base, "--max_idle_secs=30", command, "--color=no", "--curses=no",
		"--show_progress_rate_limit=10"}, args...)
	cmd := p.command(ctx, append([]string{filepath.Join(p.Workspace, "scripts/bazel")}, args...)...)
	cmd.Stdout, cmd.Stderr = log, log
	if output != nil {
		cmd.Stdout = output
	}
	start := time.Now()
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		text, _ := os.ReadFile(p.log)
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		return fmt.Errorf("bazel %s in %s, after %.0f s: %w\n%s\nThe whole log: %s", command, p.Workspace,
			time.Since(start).Seconds(), err, strings.Join(lines[max(0, len(lines)-40):], "\n"), p.log)
	}
	return nil
}

// command is a command in the surroundings of the place.
func (p *Place) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/bin/sh", append([]string{"-euc", enterScript, "enter.sh", p.namespaces,
		filepath.Join(p.Dir, "localtime")}, args...)...)
	cmd.Dir = p.Workspace
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool {
		return slices.ContainsFunc(notForBazel, func(prefix string) bool { return strings.HasPrefix(v, prefix) })
	})
	// For programs that ask TZ rather than the file, in POSIX' notation, whose offsets go west.
	cmd.Env = append(cmd.Env, "DIND_CLUSTER_DOCKER=off", fmt.Sprintf("TZ=ELSE%d", -otherZone(time.Now())/3600))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 2 * time.Second
	return cmd
}

// otherZone returns the offset of a time zone, in seconds east of UTC, where it is another day now
// than it is here.
func otherZone(now time.Time) int {
	const east, west = 14 * 3600, -12 * 3600 // more than a day apart
	if now.In(time.FixedZone("", east)).YearDay() != now.YearDay() {
		return east
	}
	return west
}

// zoneData is a file of a time zone that is always so many seconds east of UTC, in the first
// version of tzfile(5).
func zoneData(offset int) []byte {
	o := uint32(int32(offset))
	header := "TZif" + strings.Repeat("\x00", 16+4*4) + "\x00\x00\x00\x01\x00\x00\x00\x05" // one type of local time, 5 characters
	return append([]byte(header), byte(o>>24), byte(o>>16), byte(o>>8), byte(o), 0, 0, 'E', 'L', 'S', 'E', 0)
}

// Close ends Bazel and removes the place.
func (p *Place) Close() error { return errors.Join(p.clear(), p.lock.Close()) }

// clear kills the Bazel server of the place, which may be an earlier test's, and removes all files.
func (p *Place) clear() error {
	text, _ := os.ReadFile(filepath.Join(p.base, "server", "server.pid.txt"))
	if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && p.isServer(pid) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("ending Bazel's server %d: %w", pid, err)
		}
		for end := time.Now().Add(10 * time.Second); p.isServer(pid); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				return fmt.Errorf("Bazel's server %d does not end", pid)
			}
		}
	}
	err := os.RemoveAll(p.Dir)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	// Some of Bazel's directories may not be written to.
	_ = filepath.WalkDir(p.Dir, func(path string, d fs.DirEntry, _ error) error {
		if d != nil && d.IsDir() {
			_ = os.Chmod(path, 0o700)
		}
		return nil
	})
	return os.RemoveAll(p.Dir)
}

// isServer reports whether the process of that number is still the server with this output base.
func (p *Place) isServer(pid int) bool {
	cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return slices.Contains(strings.Split(string(cmdline), "\x00"), "--output_base="+p.base)
}
