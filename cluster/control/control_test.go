package control

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// serve starts a server in a directory of the test.
func serve(t *testing.T, handle Handler) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "control") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "own", "s")
	l, err := Listen(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go Serve(t.Context(), l, handle)
	return socket
}

func TestCall(t *testing.T) {
	socket := serve(t, func(_ context.Context, r Request, emit func(Event)) error {
		emit(Event{Log: "adding\n"})
		emit(Event{Output: r.Nodes[0]})
		if r.Verb == Remove {
			return Usage("no node %s", r.Nodes[0])
		}
		return nil
	})
	for path, want := range map[string]os.FileMode{socket: 0o600, filepath.Dir(socket): 0o700} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has the mode %v, %v", path, info.Mode(), err)
		}
	}
	got := ""
	collect := func(e Event) { got += e.Log + e.Output }
	if err := Call(t.Context(), socket, Request{Verb: Add, Nodes: []string{"w"}}, collect); err != nil || got != "adding\nw" {
		t.Errorf("got %q, %v", got, err)
	}
	var e *Error
	if err := Call(t.Context(), socket, Request{Verb: Remove, Nodes: []string{"w"}}, collect); !errors.As(err, &e) || !e.Usage || e.Text != "no node w" {
		t.Errorf("got %v", err)
	}
	if err := Call(t.Context(), socket+"x", Request{}, collect); !errors.Is(err, ErrNotListening) {
		t.Errorf("got %v", err)
	}
}

// A caller that goes away takes its request back.
func TestCallerGoes(t *testing.T) {
	began, ended := make(chan struct{}), make(chan error, 1)
	socket := serve(t, func(ctx context.Context, _ Request, _ func(Event)) error {
		close(began)
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Second):
		}
		ended <- ctx.Err()
		return ctx.Err()
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	called := make(chan error)
	go func() { called <- Call(ctx, socket, Request{Verb: Add}, func(Event) {}) }()
	<-began
	reason := errors.New("Ctrl-C")
	cancel(reason)
	if err := <-called; !errors.Is(err, reason) {
		t.Errorf("got %v", err)
	}
	if err := <-ended; err == nil {
		t.Error("the request went on")
	}
}

// A server that ends in the middle is an error, not a success.
func TestServerGoes(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	w.WriteString(`{"log":"a"}` + "\n" + `{"lo`)
	w.Close()
	if err := Receive(r, func(Event) {}); err == nil {
		t.Error("no error")
	}
}
