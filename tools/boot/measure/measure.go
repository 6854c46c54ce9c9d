// Package measure starts clusters, and what is less than a cluster, on the local Docker, and
// measures them.
package measure

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dind-cluster/dind-cluster/internal/docker"
	"github.com/dind-cluster/dind-cluster/internal/progress"
	"github.com/dind-cluster/dind-cluster/tools/boot/inside"
	"github.com/dind-cluster/dind-cluster/tools/boot/result"
)

// program is where this program is in the containers that it measures.
const program = "/usr/local/bin/boot_benchmark"

// removeTime bounds the removal of a container.
const removeTime = 2 * time.Minute

// Measurer measures on one Docker engine.
type Measurer struct {
	Docker *docker.Client
	// Progress gets one line per measurement.
	Progress *progress.Printer
	// Image is the clusters' image, NodeImage that of their nodes, as the engine knows them.
	Image, NodeImage string
	// PauseImage is what the test Deployment runs. Every node has it.
	PauseImage string
	// Env are settings of the clusters, each as NAME=VALUE.
	Env []string
	// Limit is how long one start or one floor may take.
	Limit time.Duration
	// Settle is how long a cluster is left alone before it is looked at what it takes.
	Settle time.Duration
}

// Machine describes where it is measured.
func (m *Measurer) Machine(ctx context.Context) (result.Machine, error) {
	info, err := m.Docker.Info(ctx)
	if err != nil {
		return result.Machine{}, err
	}
	version, err := m.Docker.Version(ctx)
	if err != nil {
		return result.Machine{}, err
	}
	out := result.Machine{
		CPUs: info.NCPU, MemoryBytes: info.MemTotal, Docker: version.Version,
		StorageDriver: info.Driver, CgroupVersion: info.CgroupVersion,
	}
	if data, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		out.Kernel = strings.TrimSpace(string(data))
	}
	if data, err := os.ReadFile("/proc/loadavg"); err == nil {
		if first, _, ok := strings.Cut(string(data), " "); ok {
			out.Load, _ = strconv.ParseFloat(first, 64)
		}
	}
	return out, nil
}

// serial makes names that are not used yet.
var serial atomic.Int32

func newName(kind string) string {
	return fmt.Sprintf("boot-benchmark-%d-%s-%d", os.Getpid(), kind, serial.Add(1))
}

// Start measures one start of a cluster, from nothing to ready, and removes it. A start that fails
// is a result too; the error is ctx's, or what makes going on useless.
func (m *Measurer) Start(ctx context.Context, nodes, round int) (result.Start, error) {
	s := result.Start{Nodes: nodes, Round: round}
	step := m.Progress.Step("%d node(s), round %d", nodes, round)
	err := m.start(ctx, &s)
	if cause := context.Cause(ctx); cause != nil {
		step.Fail("")
		return s, cause
	}
	if err != nil {
		step.Fail("")
		s.Error = err.Error()
		m.Progress.Printf("%d node(s), round %d: %v", nodes, round, err)
		return s, nil
	}
	step.Done("ready after %.2f s", s.Marks[result.Ready])
	return s, nil
}

func (m *Measurer) start(ctx context.Context, s *result.Start) (err error) {
	name := newName("cluster")
	defer func() {
		begin := time.Now()
		err = errors.Join(err, m.remove(ctx, name))
		s.Removed = result.Since(begin, time.Now())
	}()
	args := []string{
		"--name", name, "--hostname", name, "--privileged", "--init=false", "--pids-limit", "1000000",
		"--publish", "127.0.0.1::6443", "--env", "NODES=" + strconv.Itoa(s.Nodes), "--env", "TIMEOUT=" + m.Limit.String(),
	}
	for _, e := range m.Env {
		args = append(args, "--env", e)
	}
	create := time.Now()
	if _, err := m.Docker.Create(ctx, append(args, m.Image)...); err != nil {
		return err
	}
	created := time.Since(create)
	if err := m.copyProgram(ctx, name); err != nil {
		return err
	}
	start := time.Now()
	// As if the copying above had not been.
	s.Begin = start.Add(-created)
	if err := m.Docker.Start(ctx, name); err != nil {
		return err
	}
	started := time.Now()

	watching, cancel := context.WithTimeoutCause(ctx, m.Limit+30*time.Second, fmt.Errorf("not ready within %v", m.Limit))
	defer cancel()
	var seen inside.Watched
	if err := m.inside(watching, name, &seen, "watch", "--nodes", strconv.Itoa(s.Nodes), "--image", m.PauseImage); err != nil {
		return fmt.Errorf("%w\n%s", err, m.lastLog(ctx, name))
	}
	s.Timeline = seen.Timeline
	s.Marks = map[string]result.Seconds{
		result.Created: result.Since(create, create.Add(created)),
		result.Started: result.Since(s.Begin, started),
	}
	for name, at := range seen.Marks {
		s.Marks[name] = result.Since(s.Begin, at)
	}
	if m.Settle > 0 {
		// To be measured, the cluster has to be idle for a time. There is nothing else to wait for.
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(m.Settle):
		}
	}
	if err := m.inside(watching, name, &s.Usage, "usage"); err != nil {
		return err
	}
	var details inside.Details
	if err := m.inside(watching, name, &details, "details"); err != nil {
		return err
	}
	s.Units, s.Containers = details.Units, details.Containers
	return nil
}

// Floor measures kubeadm alone in one node's container, and with processes etcd and kube-apiserver
// alone.
func (m *Measurer) Floor(ctx context.Context, kind string, round int, processes bool) (result.Floor, error) {
	step := m.Progress.Step("%s, round %d", kind, round)
	f, err := m.floor(ctx, kind, processes)
	f.Kind, f.Round = kind, round
	if cause := context.Cause(ctx); cause != nil {
		step.Fail("")
		return f, cause
	}
	if err != nil {
		step.Fail("")
		f.Error = err.Error()
		m.Progress.Printf("%s, round %d: %v", kind, round, err)
		return f, nil
	}
	step.Done("%.2f s, node Ready after %.2f s", f.Init, f.Ready)
	return f, nil
}

func (m *Measurer) floor(ctx context.Context, kind string, processes bool) (f result.Floor, err error) {
	name := newName("floor")
	defer func() { err = errors.Join(err, m.remove(ctx, name)) }()
	_, err = m.Docker.Create(ctx,
		"--name", name, "--hostname", "control-plane", "--privileged", "--init=false", "--pids-limit", "1000000", "--cgroupns", "private",
		"--network", "none",
		// There is no cluster for the runner to make a node of.
		"--volume", "/dev/null:/etc/systemd/system/dind-node.service:ro",
		m.NodeImage)
	if err != nil {
		return f, err
	}
	if err := m.copyProgram(ctx, name); err != nil {
		return f, err
	}
	if err := m.Docker.Start(ctx, name); err != nil {
		return f, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, m.Limit, fmt.Errorf("not ready within %v", m.Limit))
	defer cancel()
	args := []string{"floor", "--kind", kind}
	if processes {
		args = append(args, "--processes")
	}
	return f, m.inside(ctx, name, &f, args...)
}

// copyProgram puts this program into a container.
func (m *Measurer) copyProgram(ctx context.Context, name string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return m.Docker.Do(ctx, "copy this program into container "+name, "cp", "--follow-link", self, name+":"+program)
}

// inside runs a verb of this program in a container and decodes what it writes.
func (m *Measurer) inside(ctx context.Context, name string, into any, args ...string) error {
	out, err := m.Docker.Exec(ctx, name, append([]string{program, "inside"}, args...)...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, into); err != nil {
		return fmt.Errorf("boot_benchmark inside %s in container %s: %w: %.200q", args[0], name, err, out)
	}
	return nil
}

// lastLog is the end of what a cluster printed.
func (m *Measurer) lastLog(ctx context.Context, name string) string {
	var out bytes.Buffer
	if err := m.Docker.Logs(ctx, name, false, &out); err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	return strings.Join(lines[max(0, len(lines)-40):], "\n")
}

// remove removes a container even though ctx has ended.
func (m *Measurer) remove(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTime)
	defer cancel()
	return m.Docker.Detached().Remove(ctx, name)
}
