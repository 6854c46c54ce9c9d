// Package census counts what containers may leave behind on a machine: containers, networks,
// volumes, network links, routes, packet filter rules, mounts, loop devices, processes and
// cgroups; and it notes the kernel's settings, which they may change.
//
// A count before and one after tell whether a removed cluster is gone altogether. Other
// programs start and end things meanwhile, and not all of those are leaks: what a
// container owns (Belongings, noted while it runs) is a leak wherever it shows up later;
// what is merely new is one unless it can belong to another program.
package census

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Docker runs docker commands.
type Docker interface {
	Output(ctx context.Context, purpose string, args ...string) ([]byte, error)
}

// Counter takes censuses of a machine.
type Counter struct {
	Docker Docker
	// Image is one with iptables-save and ip, for looking at the routes and packet filters of
	// the engine's own network. Without it they are not counted.
	Image string
	// Proc, Cgroups and Blocks are /proc, /sys/fs/cgroup and /sys/block, except in tests.
	Proc, Cgroups, Blocks string
}

// New returns a Counter for this machine and its Docker engine.
func New(client Docker) *Counter {
	return &Counter{Docker: client, Proc: "/proc", Cgroups: "/sys/fs/cgroup", Blocks: "/sys/block"}
}

// Kind is a kind of thing to count.
type Kind string

// The kinds.
const (
	Containers Kind = "containers"
	Networks   Kind = "networks"
	Volumes    Kind = "volumes"
	Links      Kind = "network links"
	Routing    Kind = "routes and packet filter rules"
	Mounts     Kind = "mounts"
	Loops      Kind = "loop devices"
	Processes  Kind = "processes"
	Cgroups    Kind = "cgroups"
	Settings   Kind = "kernel settings"
)

// Kinds are all kinds, in the order of a report.
var Kinds = []Kind{Containers, Networks, Volumes, Links, Routing, Mounts, Loops, Processes, Cgroups, Settings}

// Census is what there was at one time: per kind, what identifies a thing, and how it is described.
type Census map[Kind]map[string]string

// String has the counts.
func (c Census) String() string {
	var parts []string
	for _, k := range Kinds {
		parts = append(parts, fmt.Sprintf("%d %s", len(c[k]), k))
	}
	return strings.Join(parts, ", ")
}

// Take takes a census.
func (c *Counter) Take(ctx context.Context) (Census, error) {
	census := Census{}
	var errs []error
	// First, since it takes a container.
	routing, err := c.routing(ctx)
	if err != nil {
		errs = append(errs, fmt.Errorf("cannot list %s: %w", Routing, err))
	}
	census[Routing] = routing
	for kind, take := range map[Kind]func(context.Context) (map[string]string, error){
		Containers: c.dockerList("ps", "--all", "--no-trunc", "--format", "{{.ID}} {{.Names}} ({{.Image}})"),
		Networks:   c.dockerList("network", "ls", "--no-trunc", "--format", "{{.ID}} {{.Name}}"),
		Volumes:    c.dockerList("volume", "ls", "--format", "{{.Name}} volume"),
		Links:      links,
		Mounts:     c.mounts,
		Processes:  c.processes,
		Cgroups:    c.cgroups,
		Loops:      c.loops,
		Settings:   c.settings,
	} {
		things, err := take(ctx)
		if err != nil {
			errs = append(errs, fmt.Errorf("cannot count %s: %w", kind, err))
		}
		census[kind] = things
	}
	return census, errors.Join(errs...)
}

func (c *Counter) dockerList(args ...string) func(context.Context) (map[string]string, error) {
	return func(ctx context.Context) (map[string]string, error) {
		out, err := c.Docker.Output(ctx, "list "+args[0], args...)
		if err != nil {
			return nil, err
		}
		things := map[string]string{}
		for line := range strings.Lines(string(out)) {
			id, description, _ := strings.Cut(strings.TrimSpace(line), " ")
			things[id] = description
		}
		return things, nil
	}
}

func links(context.Context) (map[string]string, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	things := map[string]string{}
	for _, l := range all {
		things[fmt.Sprintf("%d:%s", l.Index, l.Name)] = l.Name
	}
	return things, nil
}

// routingScript prints the routes and packet filter rules of a network namespace, whatever program
// has made them.
const routingScript = `ip -4 route show table all; ip -6 route show table all
for v in iptables-nft ip6tables-nft iptables-legacy ip6tables-legacy; do echo "== $v"; $v-save; done`

// volatile is what changes by itself in its output: counters, and how long a route is still valid.
var volatile = regexp.MustCompile(`\s*(\[\d+:\d+\]|expires \d+sec)`)

func (c *Counter) routing(ctx context.Context) (map[string]string, error) {
	things := map[string]string{}
	if c.Image == "" {
		return things, nil
	}
	out, err := c.Docker.Output(ctx, "look at routes and packet filters", "run", "--rm", "--pull", "never",
		"--network", "host", "--cap-add", "NET_ADMIN", "--entrypoint", "sh", c.Image, "-c", routingScript)
	if err != nil {
		return nil, err
	}
	section := "route"
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(volatile.ReplaceAllString(line, ""))
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
			continue
		case strings.Contains(line, " proto kernel "):
			continue // a consequence of a link's address, a moment later
		case strings.HasPrefix(line, "== "), strings.HasPrefix(line, "*"):
			program, _, _ := strings.Cut(section, "*")
			if section = strings.TrimPrefix(line, "== "); strings.HasPrefix(line, "*") {
				section = program + line
			}
			continue
		}
		// The same rule may be there twice.
		key := section + " " + line
		for n := 2; things[key] != ""; n++ {
			key = fmt.Sprintf("%s %s (%d)", section, line, n)
		}
		things[key] = section
	}
	return things, nil
}

// loops are the loop devices that have a file.
func (c *Counter) loops(context.Context) (map[string]string, error) {
	files, err := filepath.Glob(filepath.Join(c.Blocks, "loop*", "loop", "backing_file"))
	if err != nil {
		return nil, err
	}
	things := map[string]string{}
	for _, f := range files {
		if data, err := os.ReadFile(f); err == nil {
			name, _, _ := strings.Cut(strings.TrimPrefix(f, c.Blocks+"/"), "/")
			things[name] = strings.TrimSpace(string(data))
		}
	}
	return things, nil
}

// changing are the settings in /proc/sys that the kernel changes by itself, since they are counters
// and the like. The last are those that a cluster raises, and says so (docs/how-it-works.md).
var changing = regexp.MustCompile(`^(fs/(dentry-state|file-nr|inode-nr|inode-state|aio-nr|quota/.*)|` +
	`kernel/(ns_last_pid|random/.*|pty/nr|perf_event_max_sample_rate|tainted)|net/netfilter/nf_conntrack_count|` +
	`(fs/inotify/max_user|user/max_inotify)_(instances|watches))$`)

// settings are all in /proc/sys: those of the whole machine, and those of the namespaces that we
// are in.
func (c *Counter) settings(context.Context) (map[string]string, error) {
	root := filepath.Join(c.Proc, "sys")
	things := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // it has gone meanwhile, as those of a network link
		}
		name := strings.TrimPrefix(path, root+"/")
		if d.IsDir() || changing.MatchString(name) {
			return nil
		}
		// Some can only be written.
		if data, err := os.ReadFile(path); err == nil {
			things[name] = strings.TrimSpace(string(data))
		}
		return nil
	})
	return things, err
}

// mounts are those of every mount namespace that we may look into: the engine's is not
// always our own.
func (c *Counter) mounts(context.Context) (map[string]string, error) {
	seen := map[string]bool{}
	things := map[string]string{}
	err := c.eachProcess(func(dir string) {
		ns, err := os.Readlink(filepath.Join(dir, "ns", "mnt"))
		if err != nil || seen[ns] {
			return
		}
		data, err := os.ReadFile(filepath.Join(dir, "mountinfo"))
		if err != nil {
			return
		}
		seen[ns] = true
		for line := range strings.Lines(string(data)) {
			id, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
			things[ns+" "+id] = rest
		}
	})
	return things, err
}

func (c *Counter) processes(context.Context) (map[string]string, error) {
	things := map[string]string{}
	err := c.eachProcess(func(dir string) {
		stat, err := os.ReadFile(filepath.Join(dir, "stat"))
		if err != nil {
			return // it has ended
		}
		// The name, in parentheses, may contain anything; the start time is the 22nd field.
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(fields) < 20 || fields[0] == "Z" {
			return
		}
		command, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		cgroup, _ := os.ReadFile(filepath.Join(dir, "cgroup"))
		ns, _ := os.Readlink(filepath.Join(dir, "ns", "pid"))
		things[filepath.Base(dir)+"@"+fields[19]] = fmt.Sprintf("%s %s %s", ns,
			strings.TrimSpace(strings.ReplaceAll(string(command), "\x00", " ")), strings.ReplaceAll(string(cgroup), "\n", ";"))
	})
	return things, err
}

func (c *Counter) eachProcess(f func(dir string)) error {
	entries, err := os.ReadDir(c.Proc)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err == nil {
			f(filepath.Join(c.Proc, e.Name()))
		}
	}
	return nil
}

func (c *Counter) cgroups(context.Context) (map[string]string, error) {
	things := map[string]string{}
	err := filepath.WalkDir(c.Cgroups, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			return nil // it has gone meanwhile
		}
		if err == nil && d.IsDir() {
			things[strings.TrimPrefix(path, c.Cgroups)] = "cgroup"
		}
		return err
	})
	return things, err
}

// Belongings are the marks by which things of a container are known: its ID, its
// volumes, its file system, its process namespaces.
type Belongings []string

// Of notes what belongs to a running container.
func (c *Counter) Of(ctx context.Context, id string) (Belongings, error) {
	var info struct {
		ID    string `json:"Id"`
		State struct{ Pid int }
		// The layer's directory is in the mount's options and place.
		GraphDriver struct{ Data map[string]string }
		Mounts      []struct{ Type, Name string }
	}
	out, err := c.Docker.Output(ctx, "look at container "+id, "container", "inspect", "--format", "{{json .}}", id)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(out, &info); err != nil {
		return nil, fmt.Errorf("cannot look at container %s: %w", id, err)
	}
	if info.ID == "" {
		return nil, fmt.Errorf("cannot look at container %s: no ID", id)
	}
	marks := Belongings{info.ID}
	if merged := info.GraphDriver.Data["MergedDir"]; merged != "" {
		marks = append(marks, filepath.Base(filepath.Dir(merged)))
	}
	for _, m := range info.Mounts {
		if m.Type == "volume" && m.Name != "" {
			marks = append(marks, m.Name)
		}
	}
	return append(marks, c.namespaces(info.State.Pid)...), nil
}

// namespaces are the process namespaces of a process and of all below it, without our own.
func (c *Counter) namespaces(pid int) []string {
	parents := map[int]int{}
	c.eachProcess(func(dir string) {
		self, _ := strconv.Atoi(filepath.Base(dir))
		f, err := os.Open(filepath.Join(dir, "status"))
		if err != nil {
			return
		}
		defer f.Close()
		for s := bufio.NewScanner(f); s.Scan(); {
			if v, ok := strings.CutPrefix(s.Text(), "PPid:"); ok {
				parents[self], _ = strconv.Atoi(strings.TrimSpace(v))
				return
			}
		}
	})
	own, _ := os.Readlink(filepath.Join(c.Proc, "self", "ns", "pid"))
	found := map[string]bool{}
	for p := range parents {
		for up := p; up > 0; up = parents[up] {
			if up != pid {
				continue
			}
			if ns, err := os.Readlink(filepath.Join(c.Proc, strconv.Itoa(p), "ns", "pid")); err == nil && ns != own {
				found[ns] = true
			}
			break
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// containerID is how Docker's and Kubernetes' containers appear in paths.
var containerID = regexp.MustCompile(`[0-9a-f]{64}`)

// Leaks returns what there is in after that was not in before and is a leak, a line for each.
func Leaks(before, after Census, belongings Belongings) []string {
	ours := func(key, text string) bool {
		return slices.ContainsFunc(belongings, func(mark string) bool {
			return strings.Contains(key, mark) || strings.Contains(text, mark)
		})
	}
	// Containers that others have made since, with networks, links and volumes of their own.
	quiet := true
	for id, text := range after[Containers] {
		if _, old := before[Containers][id]; !old && !ours(id, text) {
			quiet = false
		}
	}
	var leaks []string
	for _, kind := range Kinds {
		for key, text := range after[kind] {
			was, old := before[kind][key]
			if old && (kind != Settings || was == text) {
				continue
			}
			leak := ours(key, text)
			switch kind {
			case Settings:
				// New ones come with modules of the kernel and with network links.
				leak, text = old, fmt.Sprintf("is %q, was %q", text, was)
			case Networks, Volumes, Links, Routing, Loops:
				leak = leak || quiet
			case Cgroups:
				// A container's systemd that got hold of the machine's own tree makes cgroups at
				// its top; people's sessions and services come and go below two of them.
				leak = leak || !containerID.MatchString(key) && !strings.Contains(key, "/user.slice/") && !strings.Contains(key, "/system.slice/")
			}
			if leak {
				leaks = append(leaks, fmt.Sprintf("%s: %s %.300s", kind, key, text))
			}
		}
	}
	slices.Sort(leaks)
	return leaks
}
