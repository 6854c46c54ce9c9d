package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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

// image has what the tests ask of a cluster.
func image() dockertest.Image {
	i := dockertest.Image{Exec: func(_ io.Reader, out, _ io.Writer, args ...string) int {
		switch args[0] {
		case "kubeconfig":
			io.WriteString(out, "clusters: [{name: c, cluster: {server: x}}]\nusers: [{name: u, user: {}}]\n")
		case "runner":
			io.WriteString(out, "archive of "+args[1])
		}
		return 0
	}}
	i.RepoTags = []string{"dind-cluster:v1"}
	i.Config.Labels = map[string]string{"dind-cluster.role": "cluster"}
	return i
}

// run runs the command line where there is a cluster "box".
func run(t *testing.T, args ...string) (status int, stdout, stderr string, engine *dockertest.Engine) {
	t.Helper()
	client, engine := dockertest.New(t)
	engine.AddImage(image())
	if _, err := client.Run(t.Context(), "--name", "box", "--publish", "127.0.0.1:40001:6443/tcp", "dind-cluster:v1"); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	a := &app{stdout: &out, stderr: &errs, newLauncher: with(client)}
	status = a.main(t.Context(), args)
	return status, out.String(), errs.String(), engine
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
		{args: "snapshot", status: statusUsage, want: "want save, restore or inspect"},
		{args: "snapshot keep", status: statusUsage, want: `unexpected argument "keep"`},
		{args: "snapshot save", status: statusUsage, want: "want a file, or an image"},
		{args: "snapshot save a b", status: statusUsage, want: "want a file, or an image"},
		{args: "snapshot save a --image b", status: statusUsage, want: "want a file, or an image"},
		{args: "snapshot restore", status: statusUsage, want: "want a file, or an image with a snapshot in it"},
		{args: "snapshot restore a --wait 0s", status: statusUsage, want: "--wait 0: leave it out"},
		{args: "snapshot restore /no/such/file --image i", status: statusError, want: "open /no/such/file"},
		{args: "snapshot inspect", status: statusUsage, want: "want one file"},
		{args: "snapshot inspect /dev/null", status: statusUsage, want: "it is empty"},
		{args: "load --archive /no/such/file", status: statusError, want: "/no/such/file"},
		{args: "--image i --nodes 0", status: statusError, want: "0 nodes"},
		{args: "--image i --nodes 200", status: statusError, want: "200 nodes"},
		{args: "--config=", status: statusUsage, want: "--config: want a file"},
		{args: "--image i --config x.yaml --nodes 0", status: statusUsage, want: "--nodes 0: leave it out"},
		{args: "--image i --config x.yaml --wait 0s", status: statusUsage, want: "--wait 0: leave it out"},
		{args: "--image i --config /no/such/file", status: statusError, want: "reading the configuration: open /no/such/file"},
		{args: "", status: statusUsage, want: "--image"},
	} {
		t.Run(test.args, func(t *testing.T) {
			t.Setenv("HOME", t.TempDir())
			status, stdout, stderr, engine := run(t, strings.Fields(test.args)...)
			if status != test.status {
				t.Errorf("status %d, want %d", status, test.status)
			}
			if !strings.Contains(stdout+stderr, test.want) {
				t.Errorf("got %q, want %q in it", stdout+stderr, test.want)
			}
			if status == statusUsage && !strings.Contains(stderr, "--help") {
				t.Errorf("no hint at --help: %q", stderr)
			}
			if calls := engine.Calls(); len(calls) > 2 {
				t.Errorf("docker was called: %q", calls[2:])
			}
		})
	}
}

// A file of kind with a path that starts in the user's directory, and another image.
func TestKindFile(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	t.Setenv("BUILD_WORKING_DIRECTORY", dir)
	const config = "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnodes:\n" +
		"- image: kindest/node:v1.30.0\n  extraMounts: [{hostPath: ./, containerPath: /src}]\n"
	if err := os.WriteFile(filepath.Join(dir, "kind.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, stderr, engine := run(t, "--name", "kinds", "--image", "dind-cluster:v1", "--config", "kind.yaml", "--wait", "1s")
	if want := "warning: kind.yaml: line 4: nodes[0].image: kindest/node:v1.30.0 is left away"; !strings.Contains(stderr, want) {
		t.Errorf("got %q, want %q", stderr, want)
	}
	if calls, want := fmt.Sprint(engine.Calls()), "--volume "+dir+":/host"+dir; !strings.Contains(calls, want) {
		t.Errorf("docker was called: %s, want %s; %s", calls, want, stderr)
	}
}

// A file with mistakes is a mistake in the command line.
func TestBadConfig(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	file := filepath.Join(t.TempDir(), "x.yaml")
	if err := os.WriteFile(file, []byte("apiVersion: dind-cluster.github.io/v1alpha1\nkind: Cluster\nnmae: x\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	status, _, stderr, engine := run(t, "--image", "i", "--config", file)
	if want := file + ": line 3: nmae: no such field: did you mean name?"; status != statusUsage || !strings.Contains(stderr, want) {
		t.Errorf("status %d, %q", status, stderr)
	}
	if calls := engine.Calls(); len(calls) > 2 {
		t.Errorf("docker was called: %q", calls[2:])
	}
}

// The file's name is the cluster's, unless there is another one on the command line.
func TestConfigName(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.yaml")
	if err := os.WriteFile(file, []byte("apiVersion: dind-cluster.github.io/v1alpha1\nkind: Cluster\nname: described\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ want, args string }{{"described", ""}, {"other", "--name other"}} {
		t.Setenv("HOME", t.TempDir())
		t.Setenv("KUBECONFIG", "")
		client, engine := dockertest.New(t)
		i := image()
		i.Main = func(p *dockertest.Process) docker.State {
			p.Health("healthy")
			<-p.Context.Done()
			return docker.State{}
		}
		engine.AddImage(i)
		var out, errs bytes.Buffer
		a := &app{stdout: &out, stderr: &errs, newLauncher: with(client)}
		status := a.main(t.Context(), append([]string{"--image", "dind-cluster:v1", "--config", file}, strings.Fields(test.args)...))
		if engine.Container(test.want) == nil {
			t.Errorf("%s: status %d, %q, there is %q", test.args, status, &errs, engine.Leftovers())
		}
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
	client, _ := dockertest.New(t)
	var out, errs bytes.Buffer
	a := &app{stdout: &out, stderr: &errs, newLauncher: with(client)}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("interrupt signal received"))
	if status := a.main(ctx, []string{"list"}); status != statusInterrupted {
		t.Errorf("status %d, want %d", status, statusInterrupted)
	}
}

func TestDelete(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	t.Setenv("KUBECONFIG", "")
	for name, want := range map[string]string{"box": "", "dind-cluster": `There is no cluster "dind-cluster".` + "\n"} {
		status, _, stderr, engine := run(t, "delete", "--name", name)
		if status != 0 || want != "" && stderr != want || (engine.Container("box") == nil) != (name == "box") {
			t.Errorf("%s: status %d, %q, there is %q", name, status, stderr, engine.Leftovers())
		}
	}
}

func TestList(t *testing.T) {
	status, stdout, _, _ := run(t, "list")
	if want := "NAME   STATUS               IMAGE\nbox    running (starting)   dind-cluster:v1\n"; status != 0 || stdout != want {
		t.Errorf("status %d, got\n%swant\n%s", status, stdout, want)
	}
}

func TestKubeconfig(t *testing.T) {
	status, stdout, _, _ := run(t, "kubeconfig", "--name", "box")
	if status != 0 || !strings.Contains(stdout, "server: https://127.0.0.1:40001") {
		t.Errorf("status %d, got %q", status, stdout)
	}
	dir := t.TempDir()
	t.Setenv("BUILD_WORKING_DIRECTORY", dir)
	status, stdout, stderr, _ := run(t, "kubeconfig", "--name", "box", "--kubeconfig", "mine")
	if status != 0 || stdout != "" {
		t.Errorf("status %d, got %q, %q", status, stdout, stderr)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "mine")); err != nil || !strings.Contains(string(data), "current-context: dind-cluster-box") {
		t.Errorf("got %q, %v", data, err)
	}
}

func TestNodeLogs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "logs.tar")
	status, _, stderr, _ := run(t, "logs", "--name", "box", "--archive", path)
	if data, err := os.ReadFile(path); status != 0 || err != nil || string(data) != "archive of logs" {
		t.Errorf("status %d, got %q, %v, %q", status, data, err, stderr)
	}
}
