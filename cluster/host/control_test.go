package host

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/dind-cluster/dind-cluster/cluster/control"
	"github.com/dind-cluster/dind-cluster/internal/docker/dockertest"
)

// controlled returns an image whose runner carries out requests.
func controlled(handle control.Handler) dockertest.Image {
	i := image(nil)
	i.Exec = func(in io.Reader, out, _ io.Writer, args ...string) int {
		if strings.Join(args, " ") != "runner control" {
			return 127
		}
		control.Answer(context.Background(), io.NopCloser(in), writeCloser{out}, handle)
		return 0
	}
	return i
}

type writeCloser struct{ io.Writer }

func (writeCloser) Close() error { return nil }

func TestPerform(t *testing.T) {
	l, engine, _ := launcher(t)
	began := make(chan struct{})
	engine.AddImage(controlled(func(ctx context.Context, r control.Request, emit func(control.Event)) error {
		emit(control.Event{Log: r.Verb, Output: strings.Join(r.Nodes, ",")})
		switch r.Verb {
		case control.Remove:
			return control.Usage("the last control plane")
		case control.Stop:
			close(began)
			<-ctx.Done()
			return errors.New("taken back")
		}
		return nil
	}))
	if _, err := l.Docker.Run(t.Context(), "--name", "box", tag); err != nil {
		t.Fatal(err)
	}
	var got control.Event
	keep := func(e control.Event) { got = e }
	if err := l.Perform(t.Context(), "box", control.Request{Verb: control.Add, Nodes: []string{"a1", "b1"}}, keep); err != nil || got.Log != control.Add || got.Output != "a1,b1" {
		t.Errorf("got %+v, %v", got, err)
	}
	var refused *control.Error
	if err := l.Perform(t.Context(), "box", control.Request{Verb: control.Remove}, keep); !errors.As(err, &refused) || !refused.Usage {
		t.Errorf("got %v", err)
	}
	if err := l.Perform(t.Context(), "bax", control.Request{Verb: control.Add}, keep); err == nil || !strings.Contains(err.Error(), `there is no cluster "bax"`) {
		t.Errorf("got %v", err)
	}
	// Ctrl-C takes the request back, and says what came of it.
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-began
		cancel()
	}()
	if err := l.Perform(ctx, "box", control.Request{Verb: control.Stop}, keep); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "taken back") {
		t.Errorf("got %v", err)
	}
}

// What a paused cluster prints is what others print, as far as it goes.
func TestPausedStatus(t *testing.T) {
	var report struct {
		Ready, Paused bool
		Message       string
	}
	if err := json.Unmarshal([]byte(pausedStatus), &report); err != nil || report.Ready || !report.Paused || report.Message == "" {
		t.Errorf("got %+v, %v", report, err)
	}
}

func TestInNode(t *testing.T) {
	for place, want := range map[string]bool{"worker1:/a": true, "/a:b": false, "a": false, "./a:b": false, ":a": false} {
		if node, _ := control.ParsePlace(place); (node != "") != want {
			t.Errorf("%s: got %v", place, !want)
		}
	}
}
