package inside

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/dind-cluster/dind-cluster/cluster/nodes"
	"github.com/dind-cluster/dind-cluster/internal/docker"
	"github.com/dind-cluster/dind-cluster/tools/boot/result"
)

// containersOf returns the containers of a cluster's nodes.
func containersOf(ctx context.Context, d *docker.Client) ([]*docker.Container, error) {
	list, err := nodes.All(ctx, d)
	if err != nil {
		return nil, err
	}
	var out []*docker.Container
	for _, s := range list {
		c, err := d.Inspect(ctx, s.ID)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// Usage measures what each node takes, and the top-level container by itself.
func Usage(ctx context.Context) ([]result.Usage, error) {
	d, err := docker.Find()
	if err != nil {
		return nil, err
	}
	containers, err := containersOf(ctx, d)
	if err != nil {
		return nil, err
	}
	usage := make([]result.Usage, len(containers)+1)
	top := &usage[len(containers)]
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	for _, dir := range dirs {
		cgroup, err := os.ReadFile(dir + "/cgroup")
		if err != nil {
			// It has ended.
			continue
		}
		u := top
		for i, c := range containers {
			if bytes.Contains(cgroup, []byte(c.ID)) {
				u = &usage[i]
			}
		}
		u.Processes++
		if data, err := os.ReadFile(dir + "/stat"); err == nil {
			u.CPU += cpuTime(data)
		}
		if data, err := os.ReadFile(dir + "/smaps_rollup"); err == nil {
			u.PSS += field(data, "Pss:") << 10
		}
		if data, err := os.ReadFile(dir + "/io"); err == nil {
			u.Written += field(data, "write_bytes:") - field(data, "cancelled_write_bytes:")
		}
	}
	for i, c := range containers {
		u := &usage[i]
		u.Node = strings.TrimPrefix(c.Name, "/")
		if u.WorkingSet, err = workingSet("/sys/fs/cgroup", fmt.Sprintf("/proc/%d/cgroup", c.State.Pid), c.ID); err != nil {
			return nil, fmt.Errorf("node %s: %w", u.Node, err)
		}
		owned, err := ownDirs(c)
		if err != nil {
			return nil, fmt.Errorf("node %s: %w", u.Node, err)
		}
		for _, dir := range owned {
			n, err := diskUse(dir)
			if err != nil {
				return nil, fmt.Errorf("node %s: %w", u.Node, err)
			}
			u.Disk += n
		}
	}
	return usage, nil
}

// field returns the number after a name that begins a line, or 0.
func field(data []byte, name string) int64 {
	for line := range bytes.Lines(data) {
		words := bytes.Fields(line)
		if len(words) >= 2 && string(words[0]) == name {
			n, _ := strconv.ParseInt(string(words[1]), 10, 64)
			return n
		}
	}
	return 0
}

// cpuTime reads a /proc/PID/stat: the processor time of a process and of its children that have
// ended.
func cpuTime(stat []byte) result.Seconds {
	// The kernel gives times in hundredths of a second, on all architectures.
	const hertz = 100
	// The program's name, in brackets, may have any character.
	words := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	var ticks int64
	// utime, stime, cutime and cstime are the 14th to 17th word of the line.
	for i := 11; i <= 14 && i < len(words); i++ {
		n, _ := strconv.ParseInt(string(words[i]), 10, 64)
		ticks += n
	}
	return result.Seconds(ticks) / hertz
}

// workingSet returns a container's memory without inactive file pages. The file says in which
// cgroup its first process is: "…:memory:PATH" with cgroup v1, "0::PATH" with v2, where PATH has
// the container's ID in one of its parts.
func workingSet(root, file, id string) (int64, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for _, v := range []struct{ key, root, usage, inactive string }{
		{":memory:", root + "/memory", "memory.usage_in_bytes", "total_inactive_file"},
		{"0::", root, "memory.current", "inactive_file"},
	} {
		path, ok := cgroupPath(data, v.key, id)
		// In a cgroup namespace of its own, this container sees its own cgroup as the root.
		for ; ok && path != ""; path = parentless(path) {
			current, err := os.ReadFile(filepath.Join(v.root, path, v.usage))
			if err != nil {
				continue
			}
			stat, err := os.ReadFile(filepath.Join(v.root, path, "memory.stat"))
			if err != nil {
				return 0, err
			}
			n, err := strconv.ParseInt(string(bytes.TrimSpace(current)), 10, 64)
			return n - field(stat, v.inactive), err
		}
	}
	return 0, fmt.Errorf("no memory cgroup of container %.12s below %s: %s", id, root, data)
}

// cgroupPath returns the path of the container's cgroup.
func cgroupPath(data []byte, key, id string) (string, bool) {
	for line := range strings.Lines(string(data)) {
		_, path, ok := strings.Cut(strings.TrimSpace(line), key)
		if i := strings.Index(path, id); ok && i >= 0 {
			end := strings.IndexByte(path[i:], '/')
			if end < 0 {
				return path, true
			}
			return path[:i+end], true
		}
	}
	return "", false
}

// parentless drops the first part of a path: "/a/b" becomes "/b".
func parentless(path string) string {
	i := strings.IndexByte(path[1:], '/')
	if i < 0 {
		return ""
	}
	return path[1+i:]
}

// ownDirs returns the directories that belong to a container alone: its writable layer and its own
// volumes.
func ownDirs(c *docker.Container) ([]string, error) {
	// As a whole, since a line can be longer than a Scanner takes: an overlay of many layers.
	mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", c.State.Pid))
	if err != nil {
		return nil, err
	}
	var dirs []string
	for line := range strings.Lines(string(mounts)) {
		if upper, ok := rootUpper(strings.TrimSuffix(line, "\n")); ok {
			dirs = append(dirs, upper)
			break
		}
	}
	for _, m := range c.Mounts {
		if m.Type == "volume" {
			dirs = append(dirs, m.Source)
		}
	}
	if len(dirs) == 0 {
		return nil, errors.New("neither a writable layer nor a volume")
	}
	return dirs, nil
}

// rootUpper returns the upper directory if a line of mountinfo is about an overlay that is the
// root.
func rootUpper(line string) (string, bool) {
	before, after, ok := strings.Cut(line, " - ")
	words := strings.Fields(before)
	if !ok || len(words) < 5 || words[4] != "/" || !strings.HasPrefix(after, "overlay ") {
		return "", false
	}
	_, options, ok := strings.Cut(after, "upperdir=")
	upper, _, _ := strings.Cut(options, ",")
	return upper, ok && upper != ""
}

// diskUse returns what a tree takes on disk. Links are not followed, other file systems mounted in
// it do not count, and a file that goes away meanwhile does not matter.
func diskUse(dir string) (int64, error) {
	info, err := os.Lstat(dir)
	if err != nil {
		return 0, err
	}
	device := info.Sys().(*syscall.Stat_t).Dev
	seen := map[uint64]bool{}
	var total int64
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		stat := info.Sys().(*syscall.Stat_t)
		if stat.Dev != device {
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if stat.Nlink > 1 && !e.IsDir() {
			if seen[stat.Ino] {
				return nil
			}
			seen[stat.Ino] = true
		}
		total += stat.Blocks * 512
		return nil
	})
	return total, err
}
