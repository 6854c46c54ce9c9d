package e2e

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/dind-cluster/dind-cluster/cluster/host"
	"github.com/dind-cluster/dind-cluster/internal/kubeconfig"
)

// TestBadInput has what the launcher's unit tests cannot show: what a real Docker says
// and does, and that nothing is left of a cluster that does not come up.
func TestBadInput(t *testing.T) {
	outer, m := newMachine(t)
	ctx := outer
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	ref, _ := m.image.Send(ctx)
	// A container of ours, of an image whose name says nothing, and one that is not, whatever its
	// image is called.
	ours, theirs, foreign := m.run+"-ours", m.run+"-theirs", m.run+"-image"
	for _, do := range []struct{ do, undo []string }{
		{do: []string{"tag", ref, foreign}, undo: []string{"rmi", foreign}},
		{do: []string{"create", "--name", ours, foreign}, undo: []string{"rm", "--volumes", ours}},
		{do: []string{"create", "--name", theirs, "--label", "dind-cluster.role=", ref}, undo: []string{"rm", "--volumes", theirs}},
	} {
		if err := m.launcher.Docker.Do(ctx, "prepare", do.do...); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			ctx, cancel := cleanup(t)
			defer cancel()
			if err := m.launcher.Docker.Do(ctx, "clean up", do.undo...); err != nil {
				t.Error(err)
			}
		})
	}

	for _, test := range []struct {
		name   string
		change func(*host.Request)
		want   []string // in the error
		log    string   // what the cluster printed has this
	}{
		{name: "no nodes", change: func(o *host.Request) { o.Nodes = 0 }, want: []string{"0 nodes"}},
		{name: "too many nodes", change: func(o *host.Request) { o.Nodes = 200 }, want: []string{"200 nodes"}},
		{name: "name taken by a cluster", change: func(o *host.Request) { o.Name = ours }, want: []string{"already is a cluster", ours, "created", "--name"}},
		{name: "name taken by a container", change: func(o *host.Request) { o.Name = theirs }, want: []string{"taken by another container", ref}},
		{name: "port taken", change: func(o *host.Request) { o.APIPort = busy.Addr().(*net.TCPAddr).Port }, want: []string{"is in use", "--api-port"}},
		{name: "unwritable kubeconfig", change: func(o *host.Request) { o.Kubeconfig = kubeconfig.At("/proc/self/config") }, want: []string{"cannot update kubeconfig /proc/self/config"}},
		{name: "no such image", change: func(o *host.Request) { o.Image = host.Present("dind-cluster:no-such-tag") }, want: []string{`no image "dind-cluster:no-such-tag"`}},
		{name: "bad setting", change: func(o *host.Request) { o.Env = []string{"POD_SUBNET=everywhere"} }, want: []string{`POD_SUBNET="everywhere": want an IPv4 subnet`}},
		{name: "typing error", change: func(o *host.Request) { o.Env = []string{"NODE=5"} }, want: []string{
			"environment variable NODE is not a setting of the cluster: did you mean NODES?",
		}},
		// What the launcher does not see, the cluster refuses.
		{name: "bad setting by docker run", change: func(o *host.Request) { o.RunArgs = []string{"--env", "FEATURE_GATES=A=true"} },
			want: []string{endedBefore}, log: "environment variable FEATURE_GATES is not a setting of the cluster: there are NODES, "},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := m.options(t, "bad", 3)
			o.Retain = false
			test.change(&o)
			log := &lineWriter{t: t}
			l := *m.launcher
			l.Log = log
			_, err := l.Create(ctx, o)
			if err == nil {
				m.remove(t, o.Name)
				t.Fatal("no error")
			}
			t.Log(err)
			checkText(t, "the error", err.Error(), test.want...)
			checkText(t, "the cluster's log", log.String(), test.log)
			if _, err := os.Stat(o.Kubeconfig.Path()); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("a kubeconfig is there: %v", err)
			}
		})
	}

	// From here on something happens while a cluster starts.
	for _, test := range []struct {
		name   string
		change func(*testing.T, *host.Request)
		do     func(ctx context.Context, t *testing.T, name string, interrupt func())
		want   string   // in the error
		log    []string // in what the cluster printed
	}{{
		name: "interrupted",
		do: func(ctx context.Context, t *testing.T, name string, interrupt func()) {
			m.waitExec(ctx, t, name, "docker", "container", "inspect", "control-plane")
			interrupt()
		},
		want: "Ctrl-C",
	}, {
		name: "container killed",
		do: func(ctx context.Context, t *testing.T, name string, _ func()) {
			m.waitExec(ctx, t, name, "true")
			if err := m.launcher.Docker.Do(ctx, "kill the cluster", "kill", name); err != nil {
				t.Error(err)
			}
		},
		want: "was killed while it was starting (killed)",
	}, {
		name: "node killed",
		do: func(ctx context.Context, t *testing.T, name string, _ func()) {
			m.waitExec(ctx, t, name, "docker", "kill", "worker1")
		},
		want: endedBefore,
		log:  []string{"worker1"},
	}, {
		name: "node's runner killed",
		do: func(ctx context.Context, t *testing.T, name string, _ func()) {
			m.waitExec(ctx, t, name, "docker", "exec", "control-plane", "pkill", "-KILL", "-x", "-f", "/usr/bin/runner node")
		},
		want: endedBefore,
		log:  []string{"node control-plane: dind-node.service was killed (SIGKILL)"},
	}, {
		name:   "engine does not start",
		change: badDaemon,
		do:     func(context.Context, *testing.T, string, func()) {},
		want:   endedBefore,
		log:    []string{"===== docker.service", "no-such-setting"},
	}} {
		t.Run(test.name, func(t *testing.T) {
			before, err := m.counter.Take(ctx)
			if err != nil {
				t.Fatal(err)
			}
			o := m.options(t, "bad", 2)
			o.Retain = false
			if test.change != nil {
				test.change(t, &o)
			}
			t.Cleanup(func() { m.remove(t, o.Name) })
			ctx, interrupt := context.WithCancelCause(outer)
			defer interrupt(nil)
			done := make(chan struct{})
			go func() {
				defer close(done)
				test.do(ctx, t, o.Name, func() { interrupt(errors.New("Ctrl-C")) })
			}()
			log := &lineWriter{t: t}
			l := *m.launcher
			l.Log = log
			start := time.Now()
			_, err = l.Create(ctx, o)
			interrupt(nil)
			<-done
			if err == nil {
				t.Fatal("no error")
			}
			t.Logf("after %.1f s: %v", time.Since(start).Seconds(), err)
			checkText(t, "the error", err.Error(), test.want)
			checkText(t, "the cluster's log", log.String(), test.log...)
			if _, err := os.Stat(o.Kubeconfig.Path()); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("a kubeconfig is there: %v", err)
			}
			m.checkLeaks(outer, t, before, nil)
		})
	}
}

// endedBefore is what the launcher says of a container that has ended by itself with the cluster's
// own error.
const endedBefore = "did not come up (exit status 1); the lines above say why"

func checkText(t *testing.T, what, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("%s does not say %q: %s", what, w, text)
		}
	}
}

// waitExec runs a command in a container that is just starting until it succeeds.
func (m *machine) waitExec(ctx context.Context, t *testing.T, name string, command ...string) {
	for {
		// A command that comes while systemd is taking over may get no answer at all.
		try, cancel := context.WithTimeout(ctx, 3*time.Second)
		_, err := m.launcher.Docker.Exec(try, name, command...)
		cancel()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Errorf("too late for %q: %v", command, err)
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
}
