package measure

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/dind-cluster/dind-cluster/internal/docker/dockertest"
	"github.com/dind-cluster/dind-cluster/tools/boot/result"
)

func TestMain(m *testing.M) { dockertest.Main(m) }

const watched = `{"marks":{"ready":"2126-01-02T03:04:05Z"},"timeline":{"start":"2026-01-02T03:04:05Z","end":"2026-01-02T03:04:06Z","ready":true,"spans":[]}}`

func TestStart(t *testing.T) {
	create := dockertest.Reply{Args: "create", Stdout: "0123abc\n"}
	copied, started, removed := dockertest.Reply{Args: "cp"}, dockertest.Reply{Args: "start"}, dockertest.Reply{Args: "rm --force --volumes"}
	for _, test := range []struct {
		name    string
		replies []dockertest.Reply
		want    []string // in the result's error
		ran     bool
	}{{
		name: "good",
		replies: []dockertest.Reply{create, copied, started, removed,
			{Args: "exec", Stdout: watched, Times: 1}, {Args: "exec", Stdout: `[{"node":"worker1","pss":7}]`, Times: 1}, {Args: "exec", Stdout: `{"units":[],"containers":[]}`, Times: 1}},
		ran: true,
	}, {
		name:    "no image",
		replies: []dockertest.Reply{{Args: "create", Exit: 1, Stderr: "No such image: x\n"}, removed},
		want:    []string{"cannot create the container", "No such image: x"},
	}, {
		name: "does not come up",
		replies: []dockertest.Reply{create, copied, started, removed,
			{Args: "exec", Exit: 1, Stderr: "error: the cluster did not come up\n"}, {Args: "logs", Stdout: "node worker1: no\n"}},
		want: []string{"the cluster did not come up", "node worker1: no"},
	}, {
		name:    "answers nonsense",
		replies: []dockertest.Reply{create, copied, started, removed, {Args: "exec", Stdout: "what?"}, {Args: "logs"}},
		want:    []string{"boot_benchmark inside watch", "what?"},
	}, {
		name: "cannot be removed",
		replies: []dockertest.Reply{create, copied, started, {Args: "rm", Exit: 1, Stderr: "device busy\n"},
			{Args: "exec", Stdout: watched, Times: 1}, {Args: "exec", Stdout: "[]", Times: 1}, {Args: "exec", Stdout: "{}"}},
		want: []string{"device busy"},
	}} {
		t.Run(test.name, func(t *testing.T) {
			client, fake := dockertest.New(t, test.replies...)
			m := &Measurer{Docker: client, Image: "x", PauseImage: "pause", Limit: time.Minute, Env: []string{"POD_NETWORK=none"}}
			s, err := m.Start(t.Context(), 3, 2)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range test.want {
				if !strings.Contains(s.Error, want) {
					t.Errorf("no %q in %q", want, s.Error)
				}
			}
			if (s.Error == "") != test.ran || s.Nodes != 3 || s.Round != 2 {
				t.Errorf("got %+v", s)
			}
			if test.ran && (s.Marks[result.Ready] < 1e6 || s.Usage[0].PSS != 7 || s.Marks[result.Created] <= 0) {
				t.Errorf("got %+v", s)
			}
			if !fake.Called("rm --force --volumes boot-benchmark-") {
				t.Errorf("the container stays: %q", fake.Calls())
			}
			if create := fake.Calls()[0]; !strings.Contains(create, "--env NODES=3 --env TIMEOUT=1m0s --env POD_NETWORK=none x") {
				t.Errorf("got %q", create)
			}
		})
	}
}

func TestFloor(t *testing.T) {
	client, fake := dockertest.New(t, dockertest.Reply{Args: "create", Stdout: "0123abc\n"}, dockertest.Reply{Args: "cp"}, dockertest.Reply{Args: "start"},
		dockertest.Reply{Args: "rm"}, dockertest.Reply{Args: "exec", Stdout: `{"init":5,"ready":6}`})
	m := &Measurer{Docker: client, NodeImage: "n", Limit: time.Minute}
	f, err := m.Floor(t.Context(), result.Tuned, 1, true)
	if err != nil || f.Error != "" || f.Init != 5 || f.Ready != 6 || f.Kind != result.Tuned {
		t.Errorf("got %+v, %v", f, err)
	}
	calls := strings.Join(fake.Calls(), "\n")
	for _, want := range []string{"/dev/null:/etc/systemd/system/dind-node.service:ro n", "inside floor --kind " + result.Tuned + " --processes", "rm --force --volumes"} {
		if !strings.Contains(calls, want) {
			t.Errorf("no %q in\n%s", want, calls)
		}
	}
}

// Ctrl-C ends the run, and nothing stays.
func TestInterrupted(t *testing.T) {
	client, fake := dockertest.New(t, dockertest.Reply{Args: "create", Stdout: "0123abc\n"}, dockertest.Reply{Args: "cp"}, dockertest.Reply{Args: "start"},
		dockertest.Reply{Args: "rm"}, dockertest.Reply{Args: "logs"}, dockertest.Reply{Args: "exec", Hang: true})
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("enough")
	go func() {
		for !fake.Called("exec") && t.Context().Err() == nil {
			time.Sleep(5 * time.Millisecond)
		}
		cancel(reason)
	}()
	m := &Measurer{Docker: client, Image: "x", Limit: time.Minute}
	if _, err := m.Start(ctx, 1, 1); !errors.Is(err, reason) {
		t.Errorf("got %v", err)
	}
	if !fake.Called("rm") {
		t.Errorf("the container stays: %q", fake.Calls())
	}
}
