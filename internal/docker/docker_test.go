package docker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dind-cluster/dind-cluster/internal/docker"
	"github.com/dind-cluster/dind-cluster/internal/docker/dockertest"
)

func TestMain(m *testing.M) { dockertest.Main(m) }

// The oldest Docker is the same everywhere.
func TestMinVersion(t *testing.T) {
	for file, want := range map[string]string{
		"docs/quick-start.md":   "Docker " + docker.MinVersion + " or later",
		"scripts/lib/engine.sh": "\nMIN_DOCKER=" + docker.MinVersion + "\n",
	} {
		text, err := os.ReadFile("../../" + file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), want) {
			t.Errorf("%s does not say %q", file, want)
		}
	}
}

func TestVersion(t *testing.T) {
	for _, test := range []struct {
		name    string
		reply   dockertest.Reply
		want    string // the engine's version
		wantErr []string
	}{{
		name:  "answers",
		reply: dockertest.Reply{Stdout: `{"Client":{"Version":"28.5.2"},"Server":{"Version":"28.5.1","ApiVersion":"1.51","Os":"linux","Arch":"amd64"}}` + "\n"},
		want:  "28.5.1",
	}, {
		name: "no engine",
		reply: dockertest.Reply{Stdout: `{"Client":{"Version":"28.5.2"},"Server":null}` + "\n", Exit: 1,
			Stderr: "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?\n"},
		wantErr: []string{"cannot reach the Docker engine", "Is the docker daemon running?", "systemctl start docker"},
	}, {
		name: "not allowed",
		reply: dockertest.Reply{Exit: 1,
			Stderr: "permission denied while trying to connect to the Docker daemon socket\n"},
		wantErr: []string{"permission denied", "docker group"},
	}, {
		name:    "no server",
		reply:   dockertest.Reply{Stdout: `{"Client":{}}`},
		wantErr: []string{"names no server version"},
	}, {
		name:    "not JSON",
		reply:   dockertest.Reply{Stdout: "Docker version 1.5\n"},
		wantErr: []string{"cannot reach the Docker engine", "unexpected answer", "Docker version 1.5"},
	}, {
		name:    "two values",
		reply:   dockertest.Reply{Stdout: "{}{}"},
		wantErr: []string{"more than one JSON value"},
	}} {
		t.Run(test.name, func(t *testing.T) {
			client, _ := dockertest.New(t, test.reply)
			v, err := client.Version(t.Context())
			dockertest.CheckError(t, err, test.wantErr...)
			if err == nil && v.Version != test.want {
				t.Errorf("got version %q, want %q", v.Version, test.want)
			}
		})
	}
}

func TestAPIAtLeast(t *testing.T) {
	for _, test := range []struct {
		have, want string
		ok         bool
		wantErr    string
	}{
		{have: "1.41", want: "1.41", ok: true},
		{have: "1.51", want: "1.41", ok: true},
		{have: "1.9", want: "1.41"},
		{have: "2.0", want: "1.41", ok: true},
		{have: "1", want: "1.41", wantErr: `"1"`},
		{have: "1.x", want: "1.41", wantErr: `"1.x"`},
	} {
		t.Run(test.have, func(t *testing.T) {
			ok, err := (&docker.Version{APIVersion: test.have}).APIAtLeast(test.want)
			dockertest.CheckError(t, err, nonEmpty(test.wantErr)...)
			if ok != test.ok {
				t.Errorf("got %v, want %v", ok, test.ok)
			}
		})
	}
}

func TestNoCommand(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := docker.Find(); !errors.Is(err, docker.ErrNoCommand) {
		t.Errorf("Find: got %v, want ErrNoCommand", err)
	}
	gone := &docker.Client{Path: filepath.Join(t.TempDir(), "docker")}
	if _, err := gone.Version(t.Context()); !errors.Is(err, docker.ErrNoCommand) {
		t.Errorf("Version: got %v, want ErrNoCommand", err)
	}
}

// engine has an image "i:1" whose containers become healthy when they start.
func engine(t *testing.T, replies ...dockertest.Reply) (*docker.Client, *dockertest.Engine) {
	client, e := dockertest.New(t, replies...)
	i := dockertest.Image{Main: func(p *dockertest.Process) docker.State {
		p.Health("healthy")
		<-p.Context.Done()
		return docker.State{ExitCode: 137}
	}}
	i.RepoTags = []string{"i:1"}
	e.AddImage(i)
	return client, e
}

func TestLife(t *testing.T) {
	client, e := engine(t)
	id, err := client.Run(t.Context(), "--name", "box", "--label", "a=b", "--publish", "127.0.0.1:40001:6443/tcp", "i:1")
	if err != nil {
		t.Fatal(err)
	}
	err = client.Events(t.Context(), time.Unix(1, 5), func(e docker.Event) bool {
		status, ok := e.HealthStatus()
		return !ok || status != "healthy"
	}, "container=box")
	dockertest.CheckError(t, err)
	c, err := client.Inspect(t.Context(), "box")
	if err != nil {
		t.Fatal(err)
	}
	if c.ID != id || c.State.HealthStatus() != "healthy" || c.NetworkSettings.Ports["6443/tcp"][0].HostPort != "40001" || c.Config.Labels["a"] != "b" {
		t.Errorf("got %+v", c)
	}
	if _, err := client.Run(t.Context(), "--name", "other", "i:1"); err != nil {
		t.Fatal(err)
	}
	dockertest.CheckError(t, client.Stop(t.Context(), "other", time.Second))
	list, err := client.List(t.Context(), "label=a")
	if err != nil || len(list) != 1 || list[0].Names != "box" {
		t.Errorf("got %+v, %v", list, err)
	}
	if list, err = client.List(t.Context()); err != nil || len(list) != 2 || list[0].State != "exited" {
		t.Errorf("got %+v, %v", list, err)
	}
	// It takes its volumes with it, and is no error the second time.
	for range 2 {
		dockertest.CheckError(t, client.Remove(t.Context(), "box"))
		dockertest.CheckError(t, client.Remove(t.Context(), "other"))
	}
	if left := e.Leftovers(); len(left) > 0 {
		t.Errorf("there is %q", left)
	}
	if _, err := client.Inspect(t.Context(), "box"); !errors.Is(err, docker.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
}

func TestOddInspect(t *testing.T) {
	client, _ := dockertest.New(t, dockertest.Reply{Args: "container inspect", Stdout: "{}"})
	_, err := client.Inspect(t.Context(), "odd")
	dockertest.CheckError(t, err, "names no ID")
}

// A container that does not start is there.
func TestRunFails(t *testing.T) {
	client, e := engine(t)
	if _, err := client.Run(t.Context(), "--publish", "127.0.0.1:40001:1/tcp", "i:1"); err != nil {
		t.Fatal(err)
	}
	id, err := client.Run(t.Context(), "--name", "box", "--publish", "127.0.0.1:40001:1/tcp", "i:1")
	dockertest.CheckError(t, err, "cannot start container", "port is already allocated")
	if c := e.Container("box"); c == nil || c.ID != id || id == "" {
		t.Errorf("got ID %q, there is %+v", id, c)
	}
	// Nothing is pulled.
	_, err = client.Run(t.Context(), "no-such-image")
	dockertest.CheckError(t, err, "cannot create the container", "No such image")
}

func TestRemoveFails(t *testing.T) {
	client, _ := dockertest.New(t, dockertest.Reply{Args: "rm", Exit: 1, Stderr: "Error response from daemon: device busy\n"})
	dockertest.CheckError(t, client.Remove(t.Context(), "stuck"), "cannot remove container stuck", "device busy")
}

func TestRemoveNamelessImage(t *testing.T) {
	client, e := engine(t)
	named, err := client.InspectImage(t.Context(), "i:1")
	if err != nil {
		t.Fatal(err)
	}
	nameless, used := e.AddImage(dockertest.Image{}), e.AddImage(dockertest.Image{})
	if _, err := client.Create(t.Context(), used); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]bool{named.ID: false, nameless: true, used: false, "sha256:gone": false} {
		if removed, err := client.RemoveNamelessImage(t.Context(), id); err != nil || removed != want {
			t.Errorf("%s: got %v, %v, want %v", id, removed, err, want)
		}
	}
	if !e.HasImage(named.ID) || e.HasImage(nameless) || !e.HasImage(used) {
		t.Error("other images than the nameless one went, or it did not")
	}
}

func TestExec(t *testing.T) {
	client, _ := dockertest.New(t,
		dockertest.Reply{Args: "exec box true", Stdout: "yes"},
		dockertest.Reply{Args: "exec --interactive box cat", Exit: 3, Stdout: "half", Stderr: "broken\n"})
	out, err := client.Exec(t.Context(), "box", "true")
	dockertest.CheckError(t, err)
	if string(out) != "yes" {
		t.Errorf("got %q", out)
	}
	var stdout, stderr bytes.Buffer
	err = client.ExecStreams(t.Context(), "box", docker.Streams{In: strings.NewReader("x"), Out: &stdout, Err: &stderr}, "cat")
	dockertest.CheckError(t, err, `cannot run "cat" in container box`, "broken")
	var e *docker.Error
	if !errors.As(err, &e) || e.ExitCode != 3 {
		t.Errorf("got %#v, want exit code 3", err)
	}
	if stdout.String() != "half" || stderr.String() != "broken\n" {
		t.Errorf("got output %q, error %q", &stdout, &stderr)
	}
}

func TestEvents(t *testing.T) {
	stream := `{"Type":"container","Action":"start","Actor":{"ID":"a"}}
{"Type":"container","Action":"health_status: healthy","Actor":{"ID":"a","Attributes":{"name":"x"}}}
`
	t.Run("until cancelled", func(t *testing.T) {
		client, _ := dockertest.New(t, dockertest.Reply{Args: "events", Stdout: stream, Hang: true})
		ctx, cancel := context.WithCancel(t.Context())
		seen := 0
		err := client.Events(ctx, time.Time{}, func(docker.Event) bool {
			if seen++; seen == 2 {
				cancel()
			}
			return true
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled", err)
		}
	})
	t.Run("engine gone", func(t *testing.T) {
		client, _ := dockertest.New(t, dockertest.Reply{Args: "events", Stdout: stream})
		err := client.Events(t.Context(), time.Time{}, func(docker.Event) bool { return true })
		dockertest.CheckError(t, err, "ended its stream of events")
	})
	t.Run("garbage", func(t *testing.T) {
		client, _ := dockertest.New(t, dockertest.Reply{Args: "events", Stdout: "what?\n", Hang: true})
		err := client.Events(t.Context(), time.Time{}, func(docker.Event) bool { return true })
		dockertest.CheckError(t, err, "cannot follow the Docker engine's events", "what?")
	})
}

func TestDeadline(t *testing.T) {
	client, _ := dockertest.New(t, dockertest.Reply{Args: "version", Hang: true})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := client.Version(ctx)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want context.DeadlineExceeded", err)
	}
}

func TestErrorKeepsTheEndOfStderr(t *testing.T) {
	client, _ := dockertest.New(t, dockertest.Reply{Exit: 1, Stderr: strings.Repeat("noise\n", 10_000) + "the reason\n"})
	err := client.Do(t.Context(), "do it", "x")
	dockertest.CheckError(t, err, "cannot do it", "the reason")
	if len(err.Error()) > 20<<10 {
		t.Errorf("error is %d bytes long", len(err.Error()))
	}
}

func TestRootless(t *testing.T) {
	for options, want := range map[string]bool{"name=rootless": true, "name=seccomp,profile=builtin": false} {
		if got := (&docker.Info{SecurityOptions: []string{options}}).Rootless(); got != want {
			t.Errorf("%s: got %v", options, got)
		}
	}
}

func TestRemote(t *testing.T) {
	for host, want := range map[string]string{
		"unix:///var/run/docker.sock": "",
		"npipe:////./pipe/docker":     "",
		"fd://":                       "",
		"":                            "",
		"tcp://:2375":                 "",
		"tcp://127.0.0.1:2375":        "",
		"tcp://[::1]:2376":            "",
		"tcp://0.0.0.0:2375":          "",
		"tcp://localhost:2375":        "",
		"ssh://me@localhost":          "",
		"tcp://192.0.2.1:2376":        "192.0.2.1",
		"tcp://[2001:db8::1]:2376":    "2001:db8::1",
		"ssh://me@192.0.2.1:2222":     "192.0.2.1",
		"ssh://builder.invalid":       "builder.invalid",
	} {
		t.Run(host, func(t *testing.T) {
			client, e := dockertest.New(t)
			e.Host = host
			remote, err := client.Remote(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if remote != nil {
				got = remote.Hostname()
			}
			if got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
	t.Run("this machine's own address", func(t *testing.T) {
		addresses, err := net.InterfaceAddrs()
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range addresses {
			ip := a.(*net.IPNet).IP
			if ip.To4() == nil {
				continue
			}
			client, _ := dockertest.New(t, dockertest.Reply{Stdout: fmt.Sprintf(`{"docker":{"Host":"tcp://%s:2375"}}`, ip)})
			if remote, err := client.Remote(t.Context()); remote != nil || err != nil {
				t.Errorf("%s: got %v, %v", ip, remote, err)
			}
		}
	})
	t.Run("errors", func(t *testing.T) {
		client, _ := dockertest.New(t, dockertest.Reply{Exit: 1, Stderr: "context \"x\": context not found\n"})
		_, err := client.Remote(t.Context())
		dockertest.CheckError(t, err, "cannot look at the Docker context", "context not found")
		client, _ = dockertest.New(t, dockertest.Reply{Stdout: `{"docker":{"Host":"tcp://a b"}}`})
		_, err = client.Remote(t.Context())
		dockertest.CheckError(t, err, "cannot understand the Docker engine's address", "a b")
	})
}

func nonEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// A command that ends does not wait for more input.
func TestStreamEndsBeforeInput(t *testing.T) {
	in, hold := io.Pipe()
	defer hold.Close()
	c := &docker.Client{Path: "true"}
	done := make(chan error, 1)
	go func() { done <- c.Stream(t.Context(), docker.Streams{In: in}, "do nothing") }()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it still waits")
	}
}
