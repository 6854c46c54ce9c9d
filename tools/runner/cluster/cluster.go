// Package cluster brings a whole cluster up in the top-level container, or brings it back after a restart of the
// container.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/dind-cluster/dind-cluster/tools/internal/docker"
	"github.com/dind-cluster/dind-cluster/tools/internal/progress"
	"github.com/dind-cluster/dind-cluster/tools/runner/kubeapi"
	"github.com/dind-cluster/dind-cluster/tools/runner/paths"
	"github.com/dind-cluster/dind-cluster/tools/runner/plan"
	"github.com/dind-cluster/dind-cluster/tools/runner/store"
	"github.com/dind-cluster/dind-cluster/tools/runner/timeline"
)

// action is one step on the way to a cluster. It says in a few words what came out of it.
type action struct {
	name string
	run  func(*cluster, context.Context) (string, error)
}

// create makes a new cluster, resume brings a stopped one back.
var (
	create = []action{
		{"checking the container", (*cluster).preflight},
		{"making keys and tokens", (*cluster).makeSecrets},
		{"making the nodes' network", (*cluster).makeNetwork},
		{"starting the nodes", (*cluster).startNodes},
		{"starting the control plane", (*cluster).waitForControlPlane},
		{"joining the nodes", (*cluster).waitForNodes},
		{"starting the cluster's DNS", (*cluster).waitForDNS},
		{"waiting until everything is ready", (*cluster).waitForReady},
	}
	resume = []action{
		{"checking the nodes' network", (*cluster).makeNetwork},
		{"starting the nodes again", (*cluster).restartNodes},
		{"starting the control plane", (*cluster).waitForControlPlane},
		{"waiting for the nodes", (*cluster).waitForNodes},
		{"starting the cluster's DNS", (*cluster).waitForDNS},
		{"waiting until everything is ready", (*cluster).waitForReady},
	}
)

// cluster is what the actions share.
type cluster struct {
	plan    plan.Cluster
	docker  *docker.Client
	api     *kubeapi.Client
	secrets *secrets
	log     *progress.Printer
	// started is when this start began. What the API server remembers from before does not count.
	started time.Time
	// fail ends the start with a cause, from whatever goroutine learns of it first.
	fail context.CancelCauseFunc
	// failures tells for each node that gave up the log it left.
	failures *failures
	// spans are what the actions and the nodes have done so far.
	spans timeline.Recorder
}

// Run makes the cluster of the plan, or resumes the one that this container already holds. Progress goes to out.
func Run(ctx context.Context, p plan.Cluster, out io.Writer) error {
	client, err := docker.Find()
	if err != nil {
		return err
	}
	actions := create
	saved, err := loadState()
	switch {
	case err == nil:
		actions, p = resume, saved.Plan
	case !errors.Is(err, os.ErrNotExist):
		return err
	}

	limit := p.Timeout
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the cluster did not come up within %v (environment variable TIMEOUT)", limit))
	defer cancel()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)

	begin := containerStart()
	c := &cluster{
		plan:     p,
		docker:   client,
		secrets:  saved.secrets,
		log:      progress.New(out).Since(begin),
		started:  time.Now(),
		fail:     fail,
		failures: &failures{},
	}
	seeded, err := store.Read(paths.Seeded)
	if err != nil {
		return fmt.Errorf("looking for what the entrypoint did with the node image: %w", err)
	}
	c.spans.Add(timeline.Span{Name: "images", Start: seeded.Start, End: seeded.Start.Add(seeded.Took)})
	c.log.Printf("systemd and Docker are up")
	err = c.run(ctx, actions)
	line := timeline.Timeline{Start: begin, End: time.Now(), Ready: err == nil, Resumed: saved.secrets != nil}
	if err := c.spans.Write(paths.Timeline, line); err != nil {
		c.log.Printf("%v", err)
	}
	if err == nil {
		c.log.Printf("the cluster is ready: %d node(s), Kubernetes %s", p.Nodes, c.version(ctx))
		return nil
	}
	writePhase("failed: " + err.Error())
	c.log.Printf("%v", err)
	c.explain(context.WithoutCancel(ctx), out)
	return errors.New("the cluster did not come up")
}

func (c *cluster) run(ctx context.Context, actions []action) error {
	if err := os.Remove(paths.Ready); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	stop, err := c.listen(ctx)
	if err != nil {
		return err
	}
	defer stop()
	for _, a := range actions {
		step := c.log.Step("%s", a.name)
		writePhase(a.name)
		start := time.Now()
		detail, err := a.run(c, ctx)
		c.spans.Add(timeline.Span{Name: a.name, Start: start, End: time.Now(), Failed: err != nil})
		if cause := context.Cause(ctx); cause != nil && err != nil {
			// Why the start was given up tells more than that the action was interrupted, unless it was the deadline:
			// then what the action waited for tells more.
			if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
				err = cause
			}
		}
		if err != nil {
			step.Fail("")
			return fmt.Errorf("%s: %w", a.name, err)
		}
		step.Done("%s", detail)
	}
	if err := c.saveState(); err != nil {
		return err
	}
	writePhase("ready")
	return os.WriteFile(paths.Ready, nil, 0o644)
}

// containerStart is when the entrypoint began, so that the first lines show what it took until Docker answered.
func containerStart() time.Time {
	info, err := os.Stat(paths.Env)
	if err != nil || time.Since(info.ModTime()) > time.Minute {
		return time.Now()
	}
	return info.ModTime()
}

// version asks the API server for its version, for people.
func (c *cluster) version(ctx context.Context) string {
	var v struct {
		GitVersion string `json:"gitVersion"`
	}
	if err := c.api.Get(ctx, "/version", &v); err != nil {
		return "of unknown version"
	}
	return v.GitVersion
}

// writePhase tells `runner health` what is being done.
func writePhase(text string) {
	_ = os.WriteFile(paths.Phase, []byte(text+"\n"), 0o644)
}

// nodeDir holds a node's configuration.
func nodeDir(name string) string { return filepath.Join(paths.State, "nodes", name) }
