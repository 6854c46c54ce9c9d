package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/dind-cluster/dind-cluster/cluster/host"
	"github.com/dind-cluster/dind-cluster/docs/blocks"
	"github.com/dind-cluster/dind-cluster/image/load"
)

// TestDocs runs the commands that the documents have readers run, in the documents' order, with a
// home of their own. It changes nothing in them but names, which runs on one engine must not share,
// and the host's port.
func TestDocs(t *testing.T) {
	ctx, m := newMachine(t)
	suite, err := load.NewBuilt(m.launcher.Docker, m.launcher.Progress, os.Getenv("DIND_CLUSTER_E2E_IMAGE_FILE"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := suite.Send(ctx); err != nil {
		t.Fatal(err)
	}
	r := newReader(t, m)
	all, err := blocks.Read(checkout)
	if err != nil {
		t.Fatal(err)
	}
	ran := map[string]bool{}
	for _, b := range all {
		if b.Kind != blocks.New && b.Kind != blocks.With || ran[b.Commands()] {
			continue
		}
		ran[b.Commands()] = true
		start := time.Now()
		if !t.Run(b.String(), func(t *testing.T) { r.do(ctx, t, b) }) {
			for name := range r.made {
				m.dump(t, r.container(name))
			}
			return
		}
		t.Logf("%s: %.1f s", b, time.Since(start).Seconds())
	}
	if len(ran) < 10 {
		t.Errorf("the documents have %d blocks to run: the test does not find them any more", len(ran))
	}
}

// checkout is the root of the repository, as the test sees it.
const checkout = ".."

// reader does what the documents say, in a directory that looks like the checkout.
type reader struct {
	*machine
	folder string
	env    []string
	made   map[string]bool // names of clusters, as the documents have them
	port   int
}

// bazel stands for `bazel run`: it starts what Bazel has built, as Bazel would. Clusters without a
// name get this run's.
const bazel = `#!/bin/bash
set -euo pipefail
if [[ "$1 $2" != "run //images:dind-cluster" ]]; then
  echo "this test cannot do: bazel $*" >&2
  exit 2
fi
shift 2
[[ ${1:-} != -- ]] || shift
[[ " $* " == *" --name "* ]] || set -- "$@" --name "$CLUSTER"
BUILD_WORKSPACE_DIRECTORY=$PWD BUILD_WORKING_DIRECTORY=$PWD exec "$LAUNCHER" "$@"
`

func newReader(t *testing.T, m *machine) *reader {
	t.Helper()
	r := &reader{machine: m, folder: t.TempDir(), made: map[string]bool{}}
	write := func(name, text string) {
		path := filepath.Join(r.folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	link := func(target, name string) {
		path := filepath.Join(r.folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		target, err := filepath.Abs(target)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, path); err != nil {
			t.Fatal(err)
		}
	}
	built := func(variable string) string {
		return filepath.Join(os.Getenv("TEST_SRCDIR"), os.Getenv(variable))
	}
	write("scripts/bazel", bazel)
	link(checkout+"/scripts/docker", "scripts/docker")
	link(checkout+"/scripts/docker-engine", "scripts/docker-engine")
	link(built("DIND_CLUSTER_KUBECTL_FILE"), "bin/kubectl")
	config := os.Getenv("DOCKER_CONFIG")
	if config == "" {
		config = filepath.Join(os.Getenv("HOME"), ".docker")
	}
	cache := os.Getenv("XDG_CACHE_HOME") // where a client in the private root is found
	if cache == "" {
		cache = filepath.Join(os.Getenv("HOME"), ".cache")
	}
	for _, e := range os.Environ() {
		if name, _, _ := strings.Cut(e, "="); name != "KUBECONFIG" {
			r.env = append(r.env, e)
		}
	}
	r.env = append(r.env,
		"HOME="+filepath.Join(r.folder, "home"),
		"DOCKER_CONFIG="+config,
		"XDG_CACHE_HOME="+cache,
		"PATH="+strings.Join([]string{
			filepath.Join(r.folder, "bin"), filepath.Dir(m.launcher.Docker.Path), os.Getenv("PATH"),
		}, ":"),
		"CLUSTER="+r.container(host.DefaultName),
		"LAUNCHER="+built("DIND_CLUSTER_LAUNCHER_FILE"))
	write("home/file", "what my-operator:dev consists of\n")
	// What blocks have left. The reaper removes the same, but only where the test is killed.
	t.Cleanup(func() {
		for name := range r.made {
			m.remove(t, r.container(name))
		}
	})
	r.shell(t.Context(), t, "tar -C home -c file | docker import - my-operator:dev")
	t.Cleanup(func() {
		ctx, cancel := cleanup(t)
		defer cancel()
		if err := m.launcher.Docker.Do(ctx, "remove an image", "image", "rm", r.operator()); err != nil {
			t.Error(err)
		}
	})
	return r
}

// container is the name of a cluster's container, by its name in the documents. The reaper removes
// all that begin like this.
func (r *reader) container(name string) string { return r.run + "-" + name }

func (r *reader) operator() string { return r.run + "-operator:dev" }

// do runs a block, once what its mark asks for is there.
func (r *reader) do(ctx context.Context, t *testing.T, b blocks.Block) {
	name := b.Argument
	switch {
	case b.Kind == blocks.New && r.made[name]:
		r.remove(t, r.container(name))
	case b.Kind == blocks.With && name != "docker" && !r.made[name]:
		t.Fatalf("no block of the documents before this one has made the cluster %s and left it", name)
	}
	if b.Kind == blocks.New {
		// The test's, not the block's: the cluster stays for the next block.
		r.made[name] = true
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		r.port = listener.Addr().(*net.TCPAddr).Port
		listener.Close()
	}
	r.shell(ctx, t, b.Text)
	for name := range r.made {
		c, err := r.launcher.Docker.Output(ctx, "look for a cluster",
			"ps", "--all", "--quiet", "--filter", "name=^/?"+r.container(name)+"$")
		if err != nil {
			t.Fatal(err)
		}
		if len(c) == 0 {
			if b.Kind == blocks.New && b.Argument == name && !strings.Contains(b.Text, "rm -f") && !strings.Contains(b.Text, "delete") {
				t.Fatalf("the block has made no container %s: is its name one that this test puts its own in place of?", r.container(name))
			}
			delete(r.made, name)
		} else if err := r.launcher.WaitReady(ctx, r.container(name)); err != nil {
			t.Fatal(err)
		}
	}
}

var (
	ownName     = regexp.MustCompile(`(^|[^\w./-])k8s($|[^\w.-])`)
	placeholder = regexp.MustCompile(`\bNAME\b([^=]|$)`)
	afterExec   = regexp.MustCompile(`\b(exec|logs) ` + host.DefaultName + ` `)
	otherName   = regexp.MustCompile(`--name (second|described)\b`)
	secondEntry = regexp.MustCompile(`--context ` + host.DefaultName + `-second\b`)
	publish     = regexp.MustCompile(`-p 127\.0\.0\.1:6443:6443`)
	follow      = regexp.MustCompile(`(?m)^docker logs -f (\S+).*$`)
)

// own gives the commands this run's names and port. What a reader ends with Ctrl-C ends when the
// cluster is healthy.
func (r *reader) own(text string) string {
	k8s := r.container("k8s")
	text = placeholder.ReplaceAllString(text, k8s+"$1")
	text = ownName.ReplaceAllString(text, "${1}"+k8s+"${2}")
	text = afterExec.ReplaceAllString(text, "$1 "+r.container(host.DefaultName)+" ")
	text = otherName.ReplaceAllString(text, "--name "+r.container("$1"))
	text = secondEntry.ReplaceAllString(text, "--context "+host.ContextName(r.container("second")))
	text = publish.ReplaceAllString(text, fmt.Sprintf("-p 127.0.0.1:%d:6443 --env API_PORT=%d", r.port, r.port))
	text = strings.ReplaceAll(text, "my-operator:dev", r.operator())
	return follow.ReplaceAllString(text, `docker logs -f $1 & follower=$!
until [ "$$(docker inspect -f '{{.State.Health.Status}}' $1)" = healthy ]; do
  [ "$$(docker inspect -f '{{.State.Running}}' $1)" = true ] || exit 1
  sleep 0.1
done
kill $$follower`)
}

// shell runs commands as a reader types them, and fails the test when one of them does.
func (r *reader) shell(ctx context.Context, t *testing.T, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(ctx, r.patience*3*time.Minute, errors.New("three minutes are up"))
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", r.own(text))
	cmd.Dir, cmd.Env, cmd.WaitDelay = r.folder, r.env, 5*time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v %v\n%s\n%s", err, context.Cause(ctx), cmd.Args[4], out)
	}
	t.Logf("%s\n%s", cmd.Args[4], out)
}

// What is put in place of the documents' names leaves all others alone.
func TestDocsNames(t *testing.T) {
	r := &reader{machine: &machine{run: "run"}, port: 40001}
	for text, want := range map[string]string{
		"docker run -p 127.0.0.1:6443:6443 --name k8s dind-cluster:v1": "docker run -p 127.0.0.1:40001:6443 --env API_PORT=40001 --name run-k8s dind-cluster:v1",
		"docker cp k8s:/e2e-results .":                                 "docker cp run-k8s:/e2e-results .",
		"docker exec k8s kubeconfig > k8s.kubeconfig":                  "docker exec run-k8s kubeconfig > k8s.kubeconfig",
		"docker stop k8s && docker start k8s":                          "docker stop run-k8s && docker start run-k8s",
		"crictl pull registry.k8s.io/pause":                            "crictl pull registry.k8s.io/pause",
		"docker exec NAME runner health":                               "docker exec run-k8s runner health",
		"docker run --env NAME=VALUE":                                  "docker run --env NAME=VALUE",
		"scripts/docker exec dind-cluster kubectl get nodes":           "scripts/docker exec run-dind-cluster kubectl get nodes",
		"scripts/bazel run //images:dind-cluster -- --name second":     "scripts/bazel run //images:dind-cluster -- --name run-second",
		"dind-cluster -- --config x.yaml --name described":             "dind-cluster -- --config x.yaml --name run-described",
		"kubectl --context dind-cluster-second get nodes":              "kubectl --context dind-cluster-run-second get nodes",
		"docker save my-operator:dev":                                  "docker save run-operator:dev",
		"state=\"$(docker inspect -f '{{.State}}' k8s)\"":              "state=\"$(docker inspect -f '{{.State}}' run-k8s)\"",
	} {
		if got := r.own(text); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
	got := r.own("docker logs -f k8s    # the progress\nnext")
	for _, want := range []string{
		"docker logs -f run-k8s & follower=$!\n", `"$(docker inspect`, "kill $follower\nnext",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("got %s\nwithout %s", got, want)
		}
	}
}
