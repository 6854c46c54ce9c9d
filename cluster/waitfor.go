package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/cluster/control"
	"github.com/dind-cluster/dind-cluster/cluster/paths"
	"github.com/dind-cluster/dind-cluster/internal/kubeapi"
)

// defaultWait is how long wait waits.
const defaultWait = 5 * time.Minute

// waitFor answers control.Wait.
func waitFor(ctx context.Context, r control.Request, emit func(control.Event)) error {
	var checks []func(context.Context) error
	var errs []error
	for _, what := range r.For {
		check, err := condition(what)
		checks, errs = append(checks, check), append(errs, err)
	}
	if r.Timeout < 0 {
		errs = append(errs, fmt.Errorf("--timeout %v: want more than 0", r.Timeout))
	}
	if len(r.For) == 0 {
		errs = append(errs, errors.New("want something to wait for: --for ready"))
	}
	if err := errors.Join(errs...); err != nil {
		return control.Usage("%v", err)
	}
	limit := cmp.Or(r.Timeout, defaultWait)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	last := make([]error, len(checks))
	for {
		for i, check := range checks {
			try, cancel := context.WithTimeout(ctx, statusTime)
			err := check(try)
			cancel()
			// What was seen last says more than that time is up.
			if err == nil || ctx.Err() == nil || last[i] == nil {
				last[i] = err
			}
		}
		if errors.Join(last...) == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return context.Cause(ctx)
			}
			return fmt.Errorf("not within %v: %w", limit, errors.Join(last...))
		case <-time.After(again):
		}
	}
}

// condition returns the check for something that wait can wait for; it returns what is missing.
func condition(what string) (func(context.Context) error, error) {
	kind, name, _ := strings.Cut(what, "/")
	number, isNumber := strings.CutPrefix(what, "nodes=")
	switch {
	case what == "ready":
		return func(ctx context.Context) error { return Health(ctx, v1alpha1.HealthNodes) }, nil
	case what == "api":
		return func(ctx context.Context) error { return Health(ctx, v1alpha1.HealthAPI) }, nil
	case what == "nodes":
		return func(ctx context.Context) error { return readyNodes(ctx, "", -1) }, nil
	case kind == "node" && name != "":
		return func(ctx context.Context) error { return readyNodes(ctx, name, -1) }, nil
	case isNumber:
		n, err := strconv.Atoi(number)
		if err == nil {
			err = v1alpha1.Between(n, 1, v1alpha1.MaxNodes)
		}
		if err == nil {
			return func(ctx context.Context) error { return readyNodes(ctx, "", n) }, nil
		}
	}
	return nil, fmt.Errorf("--for %q: want ready, api, nodes, nodes=NUMBER or node/NAME", what)
}

// readyNodes returns nil if the node of a name is ready, or all are if there is no name, and there are
// as many as wanted, unless that is -1.
func readyNodes(ctx context.Context, name string, want int) error {
	s, err := loadState(paths.State)
	if err != nil {
		return err
	}
	c := &cluster{state: s, topology: s.Topology}
	if err := c.connect(); err != nil {
		return err
	}
	var list struct{ Items []kubeapi.Node }
	if err := c.api.Get(ctx, "/api/v1/nodes?resourceVersion=0", &list); err != nil {
		return fmt.Errorf("reading the nodes: %w", err)
	}
	found := map[string]kubeapi.Node{}
	for _, n := range list.Items {
		found[n.Metadata.Name] = n
	}
	all := slices.Clone(s.Topology.Nodes)
	if name != "" {
		n, ok := s.Topology.Node(name)
		if !ok {
			return fmt.Errorf("there is no node %q", name)
		}
		all = all[:0]
		all = append(all, n)
	}
	if missing := unreadyNodes(found, all, func(time.Time) bool { return true }); len(missing) > 0 {
		return fmt.Errorf("nodes that are not ready: %s", strings.Join(missing, "; "))
	}
	if want >= 0 && len(all) != want {
		return fmt.Errorf("there are %d nodes, not %d", len(all), want)
	}
	return nil
}
