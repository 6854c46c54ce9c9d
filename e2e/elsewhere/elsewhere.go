// Package elsewhere builds this workspace a second time, in another place: a copy of its sources at another path, with another
// output base, and where the machine allows it another host name and time zone, by a process with another umask.
//
// Tests use it to hold two builds against each other. A test's main function has to call Main first.
package elsewhere

import (
	"context"
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
	"sync"
	"syscall"
	"time"
)

const (
	// killDelay is how long Bazel's client may take to end after it was asked to.
	killDelay = 2 * time.Second
	// idle ends a server that nobody has ended, in seconds.
	idle = "30"
	// tail is how many lines of Bazel's messages an error shows.
	tail = 40
)

// sourceTime is the modification time of all copied sources: another one than a checkout has.
var sourceTime = time.Unix(1_000_000_000, 0)

// Place is a place to build in. Close it.
type Place struct {
	// Dir holds all of it.
	Dir string
	// Workspace is the copy of the sources; after a build its bazel-bin is there.
	Workspace string
	// Differs says what is different here, a word or two for each.
	Differs []string

	source string
	copied map[string]fs.FileInfo // what was copied, as it was
	base   string                 // Bazel's output base
	log    string                 // file that gets Bazel's messages
	lock   *os.File
	bare   bool // without namespaces of its own
}

// Options are the options of New.
type Options struct {
	// Source is the workspace to build.
	Source string
	// Name tells places apart: there is one of a name at a time.
	Name string
	// Log is a folder that gets Bazel's messages, which outlive the place.
	Log string
	// Free is how many bytes of free disk it needs.
	Free uint64
}

// Cache is the folder of this user's caches of the project, as scripts/bazel has it.
func Cache() (string, error) {
	cache := os.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("find the cache folder: %w", err)
		}
		cache = filepath.Join(home, ".cache")
	}
	return filepath.Join(cache, "dind-cluster"), nil
}

// New makes a place below the cache folder, in the room of what a test that was killed has left there. It fails when
// another test is in a place of that name, or when the disk is too full.
func New(o Options) (p *Place, err error) {
	cache, err := Cache()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(cache, "elsewhere", o.Name)
	p = &Place{
		Dir:       dir,
		Workspace: filepath.Join(dir, "another", "path"),
		source:    o.Source,
		copied:    map[string]fs.FileInfo{},
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
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
			p = nil
		}
	}()
	if err := p.clear(); err != nil {
		return p, fmt.Errorf("remove what an earlier test has left: %w", err)
	}
	if err := enough(filepath.Dir(dir), o.Free); err != nil {
		return p, err
	}
	if err := p.copySources(); err != nil {
		return p, fmt.Errorf("copy the sources: %w", err)
	}
	p.tryNamespaces()
	return p, nil
}

// enough fails when less than so many bytes are free.
func enough(dir string, want uint64) error {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return fmt.Errorf("ask for free disk at %s: %w", dir, err)
	}
	if free := s.Bavail * uint64(s.Bsize); free < want {
		return fmt.Errorf("a second build needs %d MiB below %s, and %d MiB are free: make room, or point XDG_CACHE_HOME elsewhere", want>>20, dir, free>>20)
	}
	return nil
}

// skipped tells what is no source: git's own folder, Bazel's links, and outputs of `go build`.
func skipped(path string, d fs.DirEntry) bool {
	return path == ".git" || !strings.Contains(path, "/") && strings.HasPrefix(path, "bazel-") && d.Type() == fs.ModeSymlink
}

func (p *Place) copySources() error {
	return filepath.WalkDir(p.source, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			// An editor's file that came and went.
			if errors.Is(err, fs.ErrNotExist) && path != p.source {
				return nil
			}
			return err
		}
		name, err := filepath.Rel(p.source, path)
		if err != nil {
			return err
		}
		if skipped(name, d) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		to := filepath.Join(p.Workspace, name)
		switch {
		case d.IsDir():
			return os.MkdirAll(to, 0o700)
		case d.Type() == fs.ModeSymlink:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			return os.Symlink(target, to)
		case d.Type().IsRegular():
			p.copied[name] = info
			return copyFile(path, to, info.Mode())
		}
		return nil
	})
}

// copyFile copies a source as a process with a strict umask would have written it.
func copyFile(from, to string, mode fs.FileMode) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.WriteFile(to, content, mode&0o700); err != nil {
		return err
	}
	return os.Chtimes(to, sourceTime, sourceTime)
}

// Changed lists the sources that are not any more as they were copied: then the two builds are of different things.
func (p *Place) Changed() ([]string, error) {
	var changed []string
	seen := map[string]bool{}
	err := filepath.WalkDir(p.source, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(p.source, path)
		if err != nil {
			return err
		}
		if skipped(name, d) && d.IsDir() {
			return fs.SkipDir
		}
		if !d.Type().IsRegular() || skipped(name, d) {
			return nil
		}
		seen[name] = true
		info, err := d.Info()
		if err != nil {
			return err
		}
		old, ok := p.copied[name]
		if !ok || old.Size() != info.Size() || !old.ModTime().Equal(info.ModTime()) || old.Mode() != info.Mode() {
			changed = append(changed, name)
		}
		return nil
	})
	for name := range p.copied {
		if !seen[name] {
			changed = append(changed, name)
		}
	}
	slices.Sort(changed)
	return changed, err
}

// notForBazel are variables of a test that are not for a Bazel which it starts.
var notForBazel = []string{"BAZEL_TEST", "BUILD_", "GO_TEST_", "JAVA_RUNFILES", "PYTHON_RUNFILES", "RUNFILES_", "TESTBRIDGE_", "TEST_", "XML_OUTPUT_FILE"}

// Bazel runs scripts/bazel of the copied workspace, with the output base of the place. The error of a command that fails has
// the end of its messages, all of which are in Log.
func (p *Place) Bazel(ctx context.Context, command string, args ...string) error {
	return p.Query(ctx, nil, command, args...)
}

// Query is Bazel, with the command's own output, if it has one, going elsewhere than its messages.
func (p *Place) Query(ctx context.Context, output io.Writer, command string, args ...string) error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	begin, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	args = append([]string{"--output_base=" + p.base, "--max_idle_secs=" + idle, command, "--color=no", "--curses=no", "--show_progress_rate_limit=10"}, args...)
	cmd := p.command(ctx, filepath.Join(p.Workspace, "scripts/bazel"), args...)
	cmd.Dir = p.Workspace
	cmd.Stdout, cmd.Stderr = log, log
	if output != nil {
		cmd.Stdout = output
	}
	start := time.Now()
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("bazel %s in %s, after %.0f s: %w\n%s\nIts whole log: %s", command, p.Workspace, time.Since(start).Seconds(), err, lastLines(p.log, begin), p.log)
	}
	return nil
}

// command is a command in the surroundings of the place.
func (p *Place) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", append([]string{name}, args...)...)
	for _, v := range os.Environ() {
		if !slices.ContainsFunc(notForBazel, func(prefix string) bool { return strings.HasPrefix(v, prefix) }) {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, "DIND_CLUSTER_DOCKER=off")
	zone := ""
	if !p.bare {
		zone = p.zoneFile()
	}
	cmd.Env = append(cmd.Env, zone2TZ(time.Now()), surroundings+"="+zone)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if !p.bare {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUTS | syscall.CLONE_NEWNS
		if os.Getuid() != 0 {
			cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
			cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}}
			cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}}
			// Kept over the change to the program, which is not root here.
			cmd.SysProcAttr.AmbientCaps = []uintptr{capSysAdmin}
		}
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = killDelay
	return cmd
}

// tryNamespaces finds out whether the place can have a host name and a time zone of its own.
func (p *Place) tryNamespaces() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := os.WriteFile(p.zoneFile(), zoneData(otherZone(time.Now())), 0o644); err != nil {
		p.bare = true
		return
	}
	out, err := p.command(ctx, "/bin/sh", "-c", "cat /proc/sys/kernel/hostname").Output()
	if err != nil || strings.TrimSpace(string(out)) != hostName {
		p.bare = true
		return
	}
	p.Differs = append(p.Differs, "the host name", "the local day")
}

func (p *Place) zoneFile() string { return filepath.Join(p.Dir, "localtime") }

// Close ends Bazel and removes the place.
func (p *Place) Close() error {
	err := p.clear()
	return errors.Join(err, p.lock.Close())
}

// clear ends the Bazel server of the place, whoever started it, and removes all files. It is quick, for a test that was
// asked to end has seconds.
func (p *Place) clear() error {
	if text, err := os.ReadFile(filepath.Join(p.base, "server", "server.pid.txt")); err == nil {
		if err := endServer(strings.TrimSpace(string(text)), p.base); err != nil {
			return err
		}
	}
	// Most files are in external repositories.
	var large []string
	for _, parent := range []string{filepath.Join(p.base, "external"), p.base, p.Dir} {
		list, err := os.ReadDir(parent)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, e := range list {
			if e.Name() != "external" && filepath.Join(parent, e.Name()) != p.base {
				large = append(large, filepath.Join(parent, e.Name()))
			}
		}
	}
	paths := make(chan string)
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			for path := range paths {
				_ = removeAll(path)
			}
		})
	}
	for _, path := range large {
		paths <- path
	}
	close(paths)
	workers.Wait()
	return removeAll(p.Dir)
}

// removeAll removes a tree, also one with folders that may not be written to.
func removeAll(path string) error {
	err := os.RemoveAll(path)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	_ = filepath.WalkDir(path, func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			_ = os.Chmod(path, 0o700)
		}
		return nil
	})
	return os.RemoveAll(path)
}

// endServer ends a Bazel server, if the process of that number is still the one with this output base.
func endServer(number, base string) error {
	pid, err := strconv.Atoi(number)
	if err != nil {
		return nil // Bazel was killed as it wrote it.
	}
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || !slices.Contains(strings.Split(string(cmdline), "\x00"), "--output_base="+base) {
		return nil
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("end Bazel's server %d: %w", pid, err)
	}
	// It is no child of ours; gone, or a zombie, it has no command line.
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil || len(cmdline) == 0 {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("Bazel's server %d does not end", pid)
		}
	}
}

// lastLines is the end of what was written to a log since an offset.
func lastLines(path string, offset int64) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(text[min(offset, int64(len(text))):]), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-tail):], "\n")
}
