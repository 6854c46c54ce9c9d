// Package cluster brings a whole cluster up in the top-level container, brings it back after a
// restart of the container, and looks after its nodes while it runs.
package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/cluster/action"
	"github.com/dind-cluster/dind-cluster/cluster/paths"
	"github.com/dind-cluster/dind-cluster/cluster/settings"
	"github.com/dind-cluster/dind-cluster/cluster/store"
	"github.com/dind-cluster/dind-cluster/cluster/timeline"
	"github.com/dind-cluster/dind-cluster/cluster/topology"
	"github.com/dind-cluster/dind-cluster/internal/docker"
	"github.com/dind-cluster/dind-cluster/internal/kubeapi"
	"github.com/dind-cluster/dind-cluster/internal/progress"
	"golang.org/x/sys/unix"
)

// cluster has what the actions share.
type cluster struct {
	settings v1alpha1.Cluster
	topology topology.Topology
	docker   *docker.Client
	api      *kubeapi.Client
	log      *progress.Printer
	// started is when the container started, and age returns how long ago that is, by a clock that
	// cannot be set. What the API server remembers from before does not count. The runner may have
	// started later: systemd restarts it when it is killed.
	started time.Time
	age     func() time.Duration
	// resumed reports whether the cluster existed before this start.
	resumed bool
	// whole lasts as long as the start, where an action's own context ends with the action. fail
	// cancels it with a cause, from the first goroutine that learns of one.
	whole context.Context
	fail  context.CancelCauseFunc
	// failures has the last report of each node that gave up, with its log.
	failures *failures
	// once guards what is done when the cluster is ready for the first time in this start.
	once sync.Once
	// spans records what the actions and the nodes have done so far.
	spans timeline.Recorder

	mu    sync.Mutex
	state *state
	// lost has the workers that do not come back in this start, and why. The others do not wait for
	// them.
	lost map[string]error
	// retries has, by the name of an action that waits for workers, the function that starts it
	// over.
	retries map[string]context.CancelCauseFunc
	// running has the names of the actions that have begun and not ended.
	running []string
	// router is the control plane through which this container reaches services.
	router string
	// over reports whether the start has ended, well or badly.
	over bool
	// changes lists what to do about the nodes' containers.
	changes changes
}

// errLost cancels an action that waited for a worker which is lost.
var errLost = errors.New("a node was lost")

// Run makes the cluster that the settings describe, or resumes the one in the volume, and looks
// after it until ctx ends. Progress goes to out. An error means that there is no cluster to look
// after.
func Run(ctx context.Context, s v1alpha1.Cluster, out io.Writer) error {
	client, err := docker.Find()
	if err != nil {
		return err
	}
	begin := containerStart()
	c := &cluster{
		settings: s,
		topology: topology.Resolve(s),
		docker:   client,
		log:      progress.New(out).Since(begin),
		failures: &failures{},
	}
	c.state = &state{Settings: c.settings, Topology: c.topology}
	switch saved, err := loadState(paths.State); {
	case err == nil && saved.created():
		c.resumed, c.state = true, saved
		if err := c.adopt(ctx); err != nil {
			return err
		}
	case err == nil:
		// The start was interrupted: nothing of it is worth keeping.
		c.state.Joined = []string{}
	case !errors.Is(err, os.ErrNotExist):
		return err
	}
	seeded, err := store.Read(paths.Seeded)
	if err != nil {
		return fmt.Errorf("reading what the entrypoint did with the node image: %w", err)
	}
	c.started = seeded.Start
	if c.age, err = containerAge(); err != nil {
		return err
	}
	c.booted(begin, seeded)
	for _, file := range []string{paths.Ready, paths.Incomplete} {
		if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	stop, err := c.listen(ctx)
	if err != nil {
		return err
	}
	defer stop()

	err = c.start(ctx)
	if err == nil {
		err = c.ready(ctx)
	}
	line := timeline.Timeline{Start: begin, End: time.Now(), Ready: err == nil, Resumed: c.resumed}
	if err := c.spans.Write(paths.Timeline, line); err != nil {
		c.log.Printf("%v", err)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		writePhase("failed: " + err.Error())
		c.log.Printf("%v", err)
		c.explain(ctx, out)
		if !c.resumed || errors.Is(err, errNoControlPlane) {
			return errors.New("the cluster did not come up")
		}
		c.log.Printf("the cluster is not ready, but stays: see what is wrong, or start the container again")
	}
	return c.lookAfter(ctx, err == nil)
}

// booted records what happened before this program started.
func (c *cluster) booted(begin time.Time, images store.Result) {
	c.spans.Add(timeline.Span{Name: "systemd and Docker", Start: begin, End: time.Now()})
	c.spans.Add(timeline.Span{Name: "images", Start: images.Start, End: images.Start.Add(images.Took)})
	c.log.Printf("systemd and Docker are up")
}

// adopt takes over the cluster in the volume, with today's values of the settings that may change
// between starts.
func (c *cluster) adopt(ctx context.Context) error {
	asked := c.settings
	c.settings, c.topology = c.state.Settings, c.state.Topology
	s := &c.settings
	s.Name, s.Networking.APIServerPort, s.Start, s.Health = asked.Name, asked.Networking.APIServerPort, asked.Start, asked.Health
	s.Manifests, s.Images = asked.Manifests, asked.Images
	differences, err := settings.Differences(*s, asked)
	if err != nil || len(differences) == 0 {
		return err
	}
	for _, d := range differences {
		c.log.Printf("the cluster in the volume keeps %s", d)
	}
	// Other units read the settings as well.
	if err := settings.Save(*s); err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, "systemctl", "try-restart", "dind-dns.service").CombinedOutput(); err != nil {
		return fmt.Errorf("starting the DNS server again, for the cluster's own addresses: %w: %s", err, out)
	}
	return nil
}

// start brings the cluster up within the user's time limit: it looks at what exists, and does what
// is left.
func (c *cluster) start(ctx context.Context) error {
	limit := time.Duration(c.settings.Start.Timeout)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the cluster did not come up within %v (environment variable TIMEOUT)", limit))
	defer cancel()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	c.mu.Lock()
	c.whole, c.fail = ctx, fail
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.over = true
	}()
	if err := action.Run(ctx, c.look(), c.do); err != nil {
		return err
	}
	if err := action.Run(ctx, c.plan(runtime.NumCPU()), c.do); err != nil {
		return err
	}
	return c.losses()
}

// do runs one action of a start and reports it: to the log, to `runner health` and in the timeline.
func (c *cluster) do(ctx context.Context, a action.Action) error {
	step, begin := c.log.Step("%s", a.Name), time.Now()
	c.phase(a.Name, true)
	detail, err := c.attempt(ctx, a)
	c.phase(a.Name, false)
	c.spans.Add(timeline.Span{Name: a.Name, Start: begin, End: time.Now(), Failed: err != nil})
	if err == nil {
		step.Done("%s", detail)
		return nil
	}
	// The reason for giving the start up says more than that the action was interrupted. At the
	// deadline, though, what the action waited for says more.
	if cause := context.Cause(c.whole); cause != nil && !errors.Is(c.whole.Err(), context.DeadlineExceeded) {
		err = cause
	}
	step.Fail("")
	return fmt.Errorf("%s: %w", a.Name, err)
}

// attempt runs an action. One that waits for workers runs again whenever a worker is lost.
func (c *cluster) attempt(ctx context.Context, a action.Action) (string, error) {
	if !a.Retry {
		return a.Run(ctx)
	}
	for {
		try, retry := context.WithCancelCause(ctx)
		c.mu.Lock()
		if c.retries == nil {
			c.retries = map[string]context.CancelCauseFunc{}
		}
		c.retries[a.Name] = retry
		c.mu.Unlock()
		detail, err := a.Run(try)
		again := err != nil && ctx.Err() == nil && errors.Is(context.Cause(try), errLost)
		c.mu.Lock()
		delete(c.retries, a.Name)
		c.mu.Unlock()
		retry(nil)
		if !again {
			return detail, err
		}
	}
}

// phase updates what `runner health` shows when an action begins or ends.
func (c *cluster) phase(action string, begins bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running = slices.DeleteFunc(c.running, func(name string) bool { return name == action })
	if begins {
		c.running = append(c.running, action)
	}
	if len(c.running) > 0 {
		writePhase(strings.Join(c.running, ", "))
	}
}

// lose handles the failure of a node. Without the control plane no start can succeed, and a new
// cluster must be as the user asked; but an existing one comes back without a worker, too.
func (c *cluster) lose(node string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.over || c.fail == nil:
		c.log.Printf("%v", err)
	case !c.resumed || c.isLast(node):
		c.fail(err)
	case c.lost[node] == nil:
		if c.lost == nil {
			c.lost = map[string]error{}
		}
		c.lost[node] = err
		c.log.Printf("%v", err)
		for _, retry := range c.retries {
			retry(errLost)
		}
	}
}

// isLast reports whether a node is a control plane, and all others are lost.
func (c *cluster) isLast(node string) bool {
	is, others := false, 0
	for _, n := range c.topology.ControlPlanes() {
		if n.Name == node {
			is = true
		} else if c.lost[n.Name] == nil {
			others++
		}
	}
	return is && others == 0
}

// expected returns the nodes that are not lost.
func (c *cluster) expected() []topology.Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(c.topology.Nodes), func(n topology.Node) bool { return c.lost[n.Name] != nil })
}

// losses returns an error with the reasons of all lost workers, or nil.
func (c *cluster) losses() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, n := range c.topology.Nodes {
		if err := c.lost[n.Name]; err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// ready marks the cluster as ready: in its state, for `runner health`, and in the log.
func (c *cluster) ready(ctx context.Context) error {
	if err := c.joined(topology.Names(c.topology.Nodes), nil); err != nil {
		return err
	}
	writePhase("ready")
	if err := os.WriteFile(paths.Ready, nil, 0o644); err != nil {
		return err
	}
	c.log.Printf("the cluster is ready: %d node(s), Kubernetes %s", len(c.topology.Nodes), c.version(ctx))
	c.once.Do(func() { go c.addExtras(ctx) })
	return nil
}

// containerStart returns when the entrypoint began, so that the first lines show how long it took
// until Docker answered.
func containerStart() time.Time {
	info, err := os.Stat(paths.Settings)
	if err != nil || time.Since(info.ModTime()) > time.Minute {
		return time.Now()
	}
	return info.ModTime()
}

// containerAge returns a function for the time since the container's first process started.
func containerAge() (func() time.Duration, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return nil, fmt.Errorf("reading the time since the machine's start: %w", err)
	}
	began := time.Now()
	data, err := os.ReadFile("/proc/1/stat")
	if err != nil {
		return nil, err
	}
	// The 22nd field, counted behind the name, in which there may be anything (proc_pid_stat(5)).
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 20 {
		return nil, fmt.Errorf("reading /proc/1/stat: unexpected text %q", data)
	}
	const perSecond = 100 // of the kernel's USER_HZ
	start, err := strconv.ParseInt(fields[19], 10, 64)
	if err != nil {
		return nil, fmt.Errorf("reading /proc/1/stat: %w", err)
	}
	age := time.Duration(now.Nano()) - time.Duration(start)*(time.Second/perSecond)
	return func() time.Duration { return age + time.Since(began) }, nil
}

// version returns the API server's version, for the log.
func (c *cluster) version(ctx context.Context) string {
	var v struct {
		GitVersion string `json:"gitVersion"`
	}
	if err := c.api.Get(ctx, "/version", &v); err != nil {
		return "of unknown version"
	}
	return v.GitVersion
}

// writePhase sets what `runner health` shows while the cluster is not ready.
func writePhase(text string) {
	_ = os.WriteFile(paths.Phase, []byte(text+"\n"), 0o644)
}

// nodeDir returns the directory with a node's configuration.
func nodeDir(name string) string { return filepath.Join(paths.State, "nodes", name) }
