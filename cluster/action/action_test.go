package action

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var mu sync.Mutex
		ended := map[string]time.Duration{}
		take := func(d time.Duration) func(context.Context) (string, error) {
			return func(context.Context) (string, error) { time.Sleep(d); return "", nil }
		}
		list := []Action{
			{Name: "network", Run: take(2 * time.Second)},
			{Name: "keys", Run: take(time.Second)},
			{Name: "control plane", Needs: []string{"network", "keys"}, Run: take(3 * time.Second)},
			{Name: "workers", Needs: []string{"network"}, Run: take(time.Second)},
			{Name: "ready", Needs: []string{"control plane", "workers"}, Run: take(0)},
		}
		if err := Run(t.Context(), list, func(ctx context.Context, a Action) error {
			_, err := a.Run(ctx)
			mu.Lock()
			defer mu.Unlock()
			ended[a.Name] = time.Since(start)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]time.Duration{"keys": 1, "network": 2, "workers": 3, "control plane": 5, "ready": 5} {
			if got := ended[name]; got != want*time.Second {
				t.Errorf("%s ended after %v, want %d s", name, got, want)
			}
		}
	})
}

// The first error counts: it ends the actions that run, and those that wait never begin.
func TestFailure(t *testing.T) {
	reason := errors.New("no disk")
	var mu sync.Mutex
	var begun []string
	err := Run(t.Context(), []Action{
		{Name: "waits", Run: func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() }},
		{Name: "fails", Run: func(context.Context) (string, error) { return "", reason }},
		{Name: "never", Needs: []string{"fails"}, Run: func(context.Context) (string, error) { return "", nil }},
	}, func(ctx context.Context, a Action) error {
		mu.Lock()
		begun = append(begun, a.Name)
		mu.Unlock()
		_, err := a.Run(ctx)
		return err
	})
	if !errors.Is(err, reason) || slices.Contains(begun, "never") {
		t.Errorf("got %v after %v", err, begun)
	}
}

// At the deadline, the error says what was being waited for: actions that have not begun do not
// know.
func TestDeadline(t *testing.T) {
	late, missing := errors.New("the time is up"), errors.New("worker2 is still missing")
	for _, test := range []struct {
		name      string
		run, want error
	}{
		{"what ran failed", missing, missing},
		{"what ran ended well all the same", nil, late},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, late)
			defer cancel()
			var begun atomic.Int32
			err := Run(ctx, []Action{
				{Name: "join", Run: func(ctx context.Context) (string, error) {
					<-ctx.Done()
					time.Sleep(10 * time.Millisecond) // as a request takes a while to notice
					return "", test.run
				}},
				{Name: "ready", Needs: []string{"join"}, Run: func(context.Context) (string, error) { return "", nil }},
			}, func(ctx context.Context, a Action) error {
				begun.Add(1)
				_, err := a.Run(ctx)
				return err
			})
			if !errors.Is(err, test.want) || begun.Load() != 1 {
				t.Errorf("%s: got %v, %d begun, want %v", test.name, err, begun.Load(), test.want)
			}
		})
	}
}

func TestBadLists(t *testing.T) {
	for want, list := range map[string][]Action{
		`action "a" needs "b", which does not come before it`: {{Name: "a", Needs: []string{"b"}}, {Name: "b"}},
		`there are two actions "a"`:                           {{Name: "a"}, {Name: "a"}},
	} {
		err := Run(t.Context(), list, func(context.Context, Action) error { t.Error("began"); return nil })
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
