// Package action runs the steps that lead to a cluster, each as soon as what it needs is done.
package action

import (
	"context"
	"fmt"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// Action is one step.
type Action struct {
	// Name is what is done, for the progress and for Needs.
	Name string
	// Needs are the names of the actions that must have succeeded before.
	Needs []string
	// Retry reports whether the action only waits for nodes, so that it can begin anew when one of
	// them is lost.
	Retry bool
	// Run does the work. The detail is the result in a few words, for the progress.
	Run func(context.Context) (detail string, err error)
}

// Run calls do with each action as soon as its needs have succeeded, with several at a time where
// they allow it. An action must come after its needs in the list: otherwise Run returns an error
// before any action begins. The first error of do cancels the context of all others and is
// returned. When ctx ends, that is the error of an action that was running, which knows what it
// waited for; Run returns the cause of ctx only if every action that had begun succeeded.
func Run(ctx context.Context, actions []Action, do func(context.Context, Action) error) error {
	done := map[string]chan struct{}{}
	for _, a := range actions {
		for _, need := range a.Needs {
			if done[need] == nil {
				return fmt.Errorf("action %q needs %q, which does not come before it", a.Name, need)
			}
		}
		if done[a.Name] != nil {
			return fmt.Errorf("there are two actions %q", a.Name)
		}
		done[a.Name] = make(chan struct{})
	}
	var left atomic.Bool
	group, each := errgroup.WithContext(ctx)
	for _, a := range actions {
		group.Go(func() error {
			for _, need := range a.Needs {
				select {
				case <-done[need]:
				case <-each.Done():
				}
			}
			if len(a.Needs) > 0 && each.Err() != nil {
				left.Store(true)
				return nil
			}
			if err := do(each, a); err != nil {
				return err
			}
			close(done[a.Name])
			return nil
		})
	}
	if err := group.Wait(); err != nil || !left.Load() {
		return err
	}
	return context.Cause(ctx)
}
