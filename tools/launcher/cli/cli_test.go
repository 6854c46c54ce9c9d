package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dind-cluster/dind-cluster/cluster/host"
	"github.com/dind-cluster/dind-cluster/internal/docker"
	"github.com/dind-cluster/dind-cluster/internal/docker/dockertest"
	"github.com/dind-cluster/dind-cluster/internal/progress"
)

func TestMain(m *testing.M) { dockertest.Main(m) }

func with(client *docker.Client) func(io.Writer) (*host.Launcher, error) {
	return func(log io.Writer) (*host.Launcher, error) {
		return &host.Launcher{Docker: client, Progress: progress.New(log), Log: log}, nil
	}
}

func run(t *testing.T, replies []dockertest.Reply, args ...string) (status int, stdout, stderr string, fake *dockertest.Fake) {
	t.Helper()
	client, fake := dockertest.New(t, replies...)
	var out, errs bytes.Buffer
	a := &app{stdout: &out, stderr: &errs, newLauncher: with(client)}
	status = a.main(t.Context(), args)
	return status, out.String(), errs.String(), fake
}

func TestUsage(t *testing.T) {
	for _, test := range []struct {
		args   string
		status int
		want   string
	}{
		{args: "--help", want: "--nodes"},
		{args: "delete --help", want: "--kubeconfig"},
		{args: "--frobnicate", status: statusUsage, want: "unknown flag: --frobnicate"},
		{args: "--nodes many", status: statusUsage, want: `invalid argument "many" for "--nodes"`},
		{args: "--api-port 0", status: statusUsage, want: "leave it out"},
		{args: "--wait soon", status: statusUsage, want: `"soon" for "--wait"`},
		{args: "dlete", status: statusUsage, want: `"dlete"`},
		{args: "create now", status: statusUsage, want: `unexpected argument "now"`},
		{args: "delete box", status: statusUsage, want: `unexpected argument "box"`},
		{args: "load", status: statusUsage, want: "want images"},
		{args: "load a --archive b", status: statusUsage, want: "want images"},
		{args: "load --archive /no/such/file", status: statusError, want: "/no/such/file"},
		{args: "--image i --nodes 0", status: statusError, want: "0 nodes"},
		{args: "--image i --nodes 200", status: statusError, want: "200 nodes"},
		{args: "", status: statusUsage, want: "--image"},
	} {
		t.Run(test.args, func(t *testing.T) {
			t.Setenv("HOME", t.TempDir())
			status, stdout, stderr, fake := run(t, nil, strings.Fields(test.args)...)
			if status != test.status {
				t.Errorf("status %d, want %d", status, test.status)
			}
			if !strings.Contains(stdout+stderr, test.want) {
				t.Errorf("got %q, want %q in it", stdout+stderr, test.want)
			}
			if status == statusUsage && !strings.Contains(stderr, "--help") {
				t.Errorf("no hint at --help: %q", stderr)
			}
			if calls := fake.Calls(); len(calls) > 0 {
				t.Errorf("docker was called: %q", calls)
			}
		})
	}
}

func TestNoDocker(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	var out, errs bytes.Buffer
	a := &app{stdout: &out, stderr: &errs, newLauncher: func(io.Writer) (*host.Launcher, error) { return nil, docker.ErrNoCommand }}
	if status := a.main(t.Context(), []string{"--image", "i"}); status != statusError || !strings.Contains(errs.String(), "install Docker") {
		t.Errorf("status %d, %q", status, &errs)
	}
}

func TestInterruptedStatus(t *testing.T) {
	client, _ := dockertest.New(t, dockertest.Reply{Args: "ps", Hang: true})
	var out, errs bytes.Buffer
	a := &app{stdout: &out, stderr: &errs, newLauncher: with(client)}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("interrupt signal received"))
	if status := a.main(ctx, []string{"list"}); status != statusInterrupted {
		t.Errorf("status %d, want %d", status, statusInterrupted)
	}
}

func TestDeleteNone(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	t.Setenv("KUBECONFIG", "")
	status, _, stderr, _ := run(t, []dockertest.Reply{{Args: "container inspect", Exit: 1, Stderr: "No such container: dind-cluster"}}, "delete")
	if status != 0 || !strings.Contains(stderr, `There is no cluster "dind-cluster".`) {
		t.Errorf("status %d, %q", status, stderr)
	}
}

func TestList(t *testing.T) {
	status, stdout, _, _ := run(t, []dockertest.Reply{{Args: "ps", Stdout: `{"ID":"1","Names":"a","Status":"Up 1 minute (healthy)","Image":"dind-cluster:v1"}` + "\n"}}, "list")
	if want := "NAME   STATUS                  IMAGE\na      Up 1 minute (healthy)   dind-cluster:v1\n"; status != 0 || stdout != want {
		t.Errorf("status %d, got\n%swant\n%s", status, stdout, want)
	}
}

func TestKubeconfig(t *testing.T) {
	replies := []dockertest.Reply{
		{Args: "container inspect", Stdout: `{"Id":"0123","Name":"/box","State":{"Running":true},"Config":{"Labels":{"dind-cluster.name":"box"}},
			"NetworkSettings":{"Ports":{"6443/tcp":[{"HostIp":"127.0.0.1","HostPort":"40001"}]}}}`},
		{Args: "exec 0123 kubeconfig", Stdout: "clusters: [{name: c, cluster: {server: x}}]\nusers: [{name: u, user: {}}]\n"},
		{Args: "context inspect", Stdout: `{"docker":{"Host":"unix:///var/run/docker.sock"}}`},
	}
	status, stdout, _, _ := run(t, replies, "kubeconfig", "--name", "box")
	if status != 0 || !strings.Contains(stdout, "server: https://127.0.0.1:40001") {
		t.Errorf("status %d, got %q", status, stdout)
	}
	dir := t.TempDir()
	t.Setenv("BUILD_WORKING_DIRECTORY", dir)
	status, stdout, stderr, _ := run(t, replies, "kubeconfig", "--name", "box", "--kubeconfig", "mine")
	if status != 0 || stdout != "" {
		t.Errorf("status %d, got %q, %q", status, stdout, stderr)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "mine")); err != nil || !strings.Contains(string(data), "current-context: dind-cluster-box") {
		t.Errorf("got %q, %v", data, err)
	}
}

func TestNodeLogs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "logs.tar")
	status, _, stderr, _ := run(t, []dockertest.Reply{
		{Args: "container inspect", Stdout: `{"Id":"0123","Name":"/box","State":{"Running":true},"Config":{"Labels":{"dind-cluster.name":"box"}}}`},
		{Args: "exec 0123 runner logs", Stdout: "archive"},
	}, "logs", "--name", "box", "--archive", path)
	if data, err := os.ReadFile(path); status != 0 || err != nil || string(data) != "archive" {
		t.Errorf("status %d, got %q, %v, %q", status, data, err, stderr)
	}
}
