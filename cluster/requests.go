package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dind-cluster/dind-cluster/cluster/control"
	"github.com/dind-cluster/dind-cluster/cluster/lock"
	"github.com/dind-cluster/dind-cluster/cluster/node"
	"github.com/dind-cluster/dind-cluster/cluster/paths"
	"github.com/dind-cluster/dind-cluster/cluster/settings"
	"github.com/dind-cluster/dind-cluster/cluster/topology"
	"github.com/dind-cluster/dind-cluster/internal/progress"
)

// Perform carries out a request in the top-level container. What changes nodes is for the runner that
// looks after the cluster: it alone writes the state.
func Perform(ctx context.Context, r control.Request, emit func(control.Event)) error {
	switch r.Verb {
	case control.Status, control.List:
		return printStatus(ctx, r, emit)
	case control.Wait:
		return waitFor(ctx, r, emit)
	}
	err := control.Call(ctx, paths.ControlSocket, r, emit)
	if errors.Is(err, control.ErrNotListening) {
		phase, readErr := os.ReadFile(paths.Phase)
		if readErr != nil {
			phase = []byte("the container is starting")
		}
		return fmt.Errorf("the cluster is not there yet: %s; `wait` ends when it is", strings.TrimSpace(string(phase)))
	}
	return err
}

// turn is a lock that can be waited for with a context. Requests come before what goes on by itself.
type turn struct {
	held chan struct{} // has an element while it is held

	mu        sync.Mutex
	requests  int    // that wait
	interrupt func() // whoever holds it, if that can be interrupted
}

func newTurn() *turn { return &turn{held: make(chan struct{}, 1)} }

// take waits for the turn of a request. It is over when release is called.
func (t *turn) take(ctx context.Context) (release func(), err error) {
	t.mu.Lock()
	t.requests++
	if t.interrupt != nil {
		t.interrupt()
	}
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.requests--
	}()
	select {
	case t.held <- struct{}{}:
		return func() { <-t.held }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// spare calls f when nothing else happens. A request that comes ends its context.
func (t *turn) spare(ctx context.Context, f func(context.Context) bool) bool {
	select {
	case <-ctx.Done():
		return false
	case t.held <- struct{}{}:
	}
	defer func() { <-t.held }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t.mu.Lock()
	busy := t.requests > 0
	t.interrupt = cancel
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.interrupt = nil
	}()
	return !busy && f(ctx)
}

// current returns the topology as it is now, to one who does not have the turn.
func (c *cluster) current() topology.Topology {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.topology
}

// takeRequests carries out requests until ctx ends or stop is called.
func (c *cluster) takeRequests(ctx context.Context) (stop func(), err error) {
	l, err := control.Listen(ctx, paths.ControlSocket)
	if err != nil {
		return nil, err
	}
	go control.Serve(ctx, l, c.handle)
	return func() { l.Close() }, nil
}

// request is a control.Request that is being carried out.
type request struct {
	control.Request
	// log gets what happens, for the caller.
	log *progress.Printer
	// limit is how long it may take.
	limit time.Duration
	// keep makes the turn last until the function that it returns is called.
	keep func() (release func())
}

// eventWriter sends lines of progress as events.
type eventWriter func(control.Event)

func (w eventWriter) Write(p []byte) (int, error) {
	w(control.Event{Log: string(p)})
	return len(p), nil
}

// handle carries out a request when its turn has come.
func (c *cluster) handle(ctx context.Context, r control.Request, emit func(control.Event)) error {
	actions := map[string]func(context.Context, request) error{
		control.Add: c.addNodes, control.Remove: c.removeNodes, control.Scale: c.scale,
		control.Stop: c.stopNodes, control.Start: c.startAgain, control.Restart: c.restart,
		control.Pause: c.pause,
	}
	do, ok := actions[r.Verb]
	if !ok && r.Verb != control.Unpause {
		return control.Usage("there is no verb %q", r.Verb)
	}
	if r.Timeout < 0 {
		return control.Usage("timeout %v: want more than 0", r.Timeout)
	}
	if r.Verb == control.Unpause {
		return c.unpause(ctx)
	}
	what := strings.TrimSpace(r.Verb + " " + strings.Join(r.Nodes, " "))
	log := progress.New(eventWriter(emit))
	waited := time.AfterFunc(time.Second, func() { log.Printf("waiting for what the cluster was asked before") })
	release, err := c.turn.take(ctx)
	waited.Stop()
	if err != nil {
		return err
	}
	kept := false
	defer func() {
		if !kept {
			release()
		}
	}()
	limit := cmp.Or(r.Timeout, time.Duration(c.settings.Start.Timeout))
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it was not done within %v", limit))
	defer cancel()
	if unlock, err := lock.Try(paths.Lock); err != nil {
		return err // a snapshot is being made
	} else {
		defer unlock()
	}
	begin := time.Now()
	err = do(ctx, request{Request: r, log: log, limit: limit, keep: func() func() { kept = true; return release }})
	var wrong *control.Error
	switch {
	case err == nil:
		c.log.Printf("%s: done (%s)", what, progress.Duration(time.Since(begin)))
	case errors.As(err, &wrong) && wrong.Usage:
	default:
		c.log.Printf("%s: %v", what, err)
	}
	return err
}

// hear has f get the reports of a node, until stop is called.
func (c *cluster) hear(name string, f func(node.Report)) (stop func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.listeners == nil {
		c.listeners = map[string]func(node.Report){}
	}
	c.listeners[name] = f
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.listeners, name)
	}
}

// heard passes a report on to the one who listens, if there is one.
func (c *cluster) heard(r node.Report) bool {
	c.mu.Lock()
	f := c.listeners[r.Node]
	c.mu.Unlock()
	if f != nil {
		f(r)
	}
	return f != nil
}

// edit saves a change of the nodes, before anything is done about it.
func (c *cluster) edit(change func(*state)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := *c.state
	change(&next)
	next.Edited = true
	if err := next.save(paths.State); err != nil {
		return err
	}
	*c.state = next
	c.settings.Nodes, c.topology = next.Settings.Nodes, next.Topology
	// For `runner config`.
	return settings.Save(c.settings)
}

// answers returns an error if the API server does not work now.
func (c *cluster) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := c.api.Get(ctx, "/readyz", nil); err != nil {
		return fmt.Errorf("the API server does not answer, so nodes cannot be added or removed now: %w", err)
	}
	return nil
}

// find returns the nodes of the given names.
func (c *cluster) find(names []string) ([]topology.Node, error) {
	if len(names) == 0 {
		return nil, control.Usage("want the names of nodes: there are %s", strings.Join(topology.Names(c.topology.Nodes), ", "))
	}
	var found []topology.Node
	var errs []error
	for i, name := range names {
		n, ok := c.topology.Node(name)
		switch {
		case !ok:
			errs = append(errs, fmt.Errorf("there is no node %q: there are %s", name, strings.Join(topology.Names(c.topology.Nodes), ", ")))
		case slices.Contains(names[:i], name):
			errs = append(errs, fmt.Errorf("node %q is named twice", name))
		default:
			found = append(found, n)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, control.Usage("%v", err)
	}
	return found, nil
}
