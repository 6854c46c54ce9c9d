package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dind-cluster/dind-cluster/internal/docker"
	"github.com/dind-cluster/dind-cluster/internal/docker/dockertest"
	"github.com/dind-cluster/dind-cluster/internal/kubeconfig"
)

func TestMain(m *testing.M) { dockertest.Main(m) }

const printedKubeconfig = `apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://127.0.0.1:6443"}}]
users: [{name: u, user: {client-key-data: R0hJ}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
`

func versionReply(version, api string) dockertest.Reply {
	return dockertest.Reply{Args: "version", Stdout: fmt.Sprintf(`{"Server":{"Version":%q,"ApiVersion":%q,"Os":"linux","Arch":"amd64"}}`, version, api)}
}

func infoReply(options string) dockertest.Reply {
	return dockertest.Reply{Args: "info", Stdout: fmt.Sprintf(`{"DockerRootDir":"/no/such/folder","SecurityOptions":[%s]}`, options)}
}

var (
	goodVersion = versionReply("28.5.2", "1.51")
	goodInfo    = infoReply(`"name=seccomp,profile=builtin"`)
	nameIsFree  = dockertest.Reply{Args: "container inspect --format {{json .}} box", Exit: 1, Stderr: "Error response from daemon: No such container: box\n"}
	created     = dockertest.Reply{Args: "create", Stdout: "0123\n"}
	started     = dockertest.Reply{Args: "start 0123", Stdout: "0123\n"}
	removed     = dockertest.Reply{Args: "rm --force --volumes 0123", Stdout: "0123\n"}
	// engineIsHere holds unless another reply says otherwise.
	engineIsHere = engineAt("unix:///var/run/docker.sock")

	logs = dockertest.Reply{Args: "logs --follow 0123", Stdout: "[  0.1s] + doing things\n"}
)

func engineAt(address string) dockertest.Reply {
	return dockertest.Reply{Args: "context inspect", Stdout: fmt.Sprintf(`{"docker":{"Host":%q}}`, address)}
}

// state is the reply to a look at the container 0123.
func state(json string, times int) dockertest.Reply {
	return dockertest.Reply{
		Args: "container inspect --format {{json .}} 0123",
		Stdout: `{"Id":"0123","Name":"/box","State":` + json + `,
			"NetworkSettings":{"Ports":{"6443/tcp":[{"HostIp":"127.0.0.1","HostPort":"40001"}]}}}`,
		Times: times,
	}
}

func launcher(t *testing.T, replies ...dockertest.Reply) (*Launcher, *dockertest.Fake, *bytes.Buffer) {
	t.Helper()
	client, fake := dockertest.New(t, append(slices.Clone(replies), engineIsHere)...)
	var log bytes.Buffer
	return &Launcher{Docker: client, Log: &log}, fake, &log
}

func options(t *testing.T) Options {
	return Options{
		Name:       "box",
		Nodes:      3,
		Wait:       time.Minute,
		Kubeconfig: kubeconfig.At(filepath.Join(t.TempDir(), "config")),
	}
}

func TestCreate(t *testing.T) {
	l, fake, log := launcher(t, goodVersion, goodInfo, nameIsFree, created, started,
		state(`{"Status":"running","Running":true,"StartedAt":"2026-01-02T03:04:05Z","Health":{"Status":"starting"}}`, 1),
		state(`{"Status":"running","Running":true,"Health":{"Status":"healthy"}}`, 0),
		dockertest.Reply{Args: "logs --follow 0123", Stdout: "[  0.1s] + doing things\n", Hang: true},
		dockertest.Reply{Args: "events", Until: "logs", Hang: true, Stdout: `{"Type":"container","Action":"exec_start: runner health","Actor":{"ID":"0123"}}
{"Type":"container","Action":"health_status: healthy","Actor":{"ID":"0123"}}
`},
		dockertest.Reply{Args: "exec 0123 kubeconfig", Stdout: printedKubeconfig},
	)
	o := options(t)
	o.Env = []string{"POD_NETWORK=none"}
	o.RunArgs = []string{"--network", "quiet"}
	c, err := l.Create(t.Context(), Present("dind-cluster:v1"), o)
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != "box" || c.ID != "0123" || c.APIPort == 0 {
		t.Errorf("got %+v", c)
	}
	data, err := os.ReadFile(o.Kubeconfig.Path())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"name: dind-cluster-box", "server: https://127.0.0.1:40001", "current-context: dind-cluster-box", "client-key-data: R0hJ"} {
		if !strings.Contains(string(data), want) {
			t.Errorf("kubeconfig does not have %q:\n%s", want, data)
		}
	}
	if info, err := os.Stat(o.Kubeconfig.Path()); err != nil || info.Mode() != 0o600 {
		t.Errorf("kubeconfig: %v, %v, want mode 0600", info.Mode(), err)
	}
	want := fmt.Sprintf("create --pull never --name box --hostname box --label dind-cluster.name=box --privileged --init=false --pids-limit 1000000 --publish 127.0.0.1:%[1]d:6443/tcp --env NODES=3 --env API_PORT=%[1]d --env TIMEOUT=1m0s --env ON_FAILURE=exit --env POD_NETWORK=none --network quiet dind-cluster:v1", c.APIPort)
	if !slices.Contains(fake.Calls(), want) {
		t.Errorf("got calls\n%s\nwant among them\n%s", strings.Join(fake.Calls(), "\n"), want)
	}
	if !fake.Called("events --format {{json .}} --since 2026-01-02T03:04:05Z --filter container=0123") {
		t.Errorf("events were not followed from the start on: %q", fake.Calls())
	}
	if fake.Called("rm") {
		t.Error("removed a good cluster")
	}
	if !strings.Contains(log.String(), "doing things") {
		t.Errorf("the cluster's own progress is not shown: %q", log)
	}
}

func TestCreateBadInput(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	busyPort := busy.Addr().(*net.TCPAddr).Port
	good := []dockertest.Reply{goodVersion, goodInfo, nameIsFree}

	for _, test := range []struct {
		name    string
		change  func(*Options)
		replies []dockertest.Reply
		want    []string
	}{
		{name: "no nodes", change: func(o *Options) { o.Nodes = 0 }, want: []string{"0 nodes", "1 (a single node", "to 100"}},
		{name: "too many nodes", change: func(o *Options) { o.Nodes = 200 }, want: []string{"200 nodes", "to 100"}},
		{name: "bad name", change: func(o *Options) { o.Name = "-x y" }, want: []string{`cluster name "-x y"`, "letters, digits"}},
		{name: "short name", change: func(o *Options) { o.Name = "x" }, want: []string{`"x"`, "2 to 63"}},
		{name: "bad port", change: func(o *Options) { o.APIPort = 65536 }, want: []string{"API port 65536", "1 to 65535"}},
		{name: "no waiting", change: func(o *Options) { o.Wait = 0 }, want: []string{"waiting time 0s"}},
		{name: "bad setting", change: func(o *Options) { o.Env = []string{"X"} }, want: []string{`"X"`, "NAME=VALUE"}},
		{name: "typing error", change: func(o *Options) { o.Env = []string{"NODE=5"} }, want: []string{"NODE is not a setting", "did you mean NODES?"}},
		{name: "no setting", change: func(o *Options) { o.Env = []string{"FEATURE_GATES=A=true"} }, want: []string{"FEATURE_GATES is not a setting", "there are NODES,"}},
		{name: "anything else", change: func(o *Options) { o.Env = []string{"TZ=UTC"} }, want: []string{"TZ is not a setting"}},
		{name: "bad value", change: func(o *Options) { o.Env = []string{"POD_SUBNET=everywhere"} }, want: []string{`POD_SUBNET="everywhere": want an IPv4 subnet`}},
		{name: "overlap", change: func(o *Options) { o.Env = []string{"POD_SUBNET=10.96.0.0/16"} }, want: []string{"SERVICE_SUBNET=10.96.0.0/16 overlap"}},
		{name: "bad proxy", change: func(o *Options) { o.Env = []string{"https_proxy=ftp://x"} }, want: []string{"https_proxy: want a proxy's URL"}},
		{name: "too long a wait", change: func(o *Options) { o.Wait = 48 * time.Hour }, want: []string{"waiting time 48h0m0s", "24h0m0s"}},
		{name: "all at once", change: func(o *Options) { o.Nodes, o.Env = 0, []string{"TIMEOUT=1", "ETCD_SYNC=no", "KUBE_PROXY_MODE=ipvs"} },
			want: []string{"0 nodes", "TIMEOUT: there is an option", `ETCD_SYNC="no"`, `KUBE_PROXY_MODE="ipvs"`}},
		{name: "setting with an option", change: func(o *Options) { o.Env = []string{"NODES=2"} }, want: []string{"NODES", "option"}},
		{
			name:    "no engine",
			replies: []dockertest.Reply{{Args: "version", Exit: 1, Stderr: "Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?"}},
			want:    []string{"cannot reach the Docker engine", "systemctl start docker"},
		}, {
			name:    "old engine",
			replies: []dockertest.Reply{versionReply("20.10.24", "1.41")},
			want:    []string{"too old", "20.10.24", "needs 23 "},
		}, {
			name:    "windows",
			replies: []dockertest.Reply{{Args: "version", Stdout: `{"Server":{"Version":"28","ApiVersion":"1.51","Os":"windows","Arch":"amd64"}}`}},
			want:    []string{"windows containers", "needs Linux"},
		}, {
			name:    "another machine",
			replies: []dockertest.Reply{{Args: "version", Stdout: `{"Server":{"Version":"28","ApiVersion":"1.51","Os":"linux","Arch":"s390x"}}`}},
			want:    []string{"s390x", "this image is for"},
		}, {
			name:    "rootless",
			replies: []dockertest.Reply{goodVersion, infoReply(`"name=seccomp","name=rootless"`)},
			want:    []string{"rootless"},
		}, {
			name: "name taken by a cluster",
			replies: []dockertest.Reply{goodVersion, goodInfo, {Args: "container inspect",
				Stdout: `{"Id":"1","Name":"/box","State":{"Status":"exited"},"Config":{"Image":"x","Labels":{"dind-cluster.name":"box"}}}`}},
			want: []string{`already is a cluster "box" (exited)`, "delete --name box", "--name"},
		}, {
			name: "name taken by a container",
			replies: []dockertest.Reply{goodVersion, goodInfo, {Args: "container inspect",
				Stdout: `{"Id":"1","Name":"/box","State":{"Status":"running"},"Config":{"Image":"postgres:17"}}`}},
			want: []string{`"box" is taken by another container (image postgres:17, running)`, "--name"},
		}, {
			name:    "port taken by a process",
			change:  func(o *Options) { o.APIPort = busyPort },
			replies: append(slices.Clone(good), dockertest.Reply{Args: "ps"}),
			want:    []string{fmt.Sprintf("port %d of 127.0.0.1 is in use:", busyPort), "--api-port"},
		}, {
			name:    "port taken by a container",
			change:  func(o *Options) { o.APIPort = busyPort },
			replies: append(slices.Clone(good), dockertest.Reply{Args: "ps --all", Stdout: `{"ID":"1","Names":"db"}` + "\n"}),
			want:    []string{`in use by container "db"`},
		}, {
			name:    "unwritable kubeconfig",
			change:  func(o *Options) { o.Kubeconfig = kubeconfig.At("/proc/self/config") },
			replies: good,
			want:    []string{"cannot update kubeconfig /proc/self/config"},
		}, {
			name:    "no such image",
			replies: append(slices.Clone(good), dockertest.Reply{Args: "create", Exit: 1, Stderr: "Error response from daemon: No such image: dind-cluster:v1\n"}),
			want:    []string{`no image "dind-cluster:v1"`, "docker images"},
		}, {
			name: "name taken meanwhile",
			replies: []dockertest.Reply{goodVersion, goodInfo,
				{Args: nameIsFree.Args, Exit: 1, Stderr: nameIsFree.Stderr, Times: 1},
				{Args: nameIsFree.Args, Stdout: `{"Id":"1","Name":"/box","State":{"Status":"created"},"Config":{"Labels":{"dind-cluster.name":"box"}}}`},
				{Args: "create", Exit: 1, Stderr: `Error response from daemon: Conflict. The container name "/box" is already in use by container "1". You have to remove`}},
			want: []string{`already is a cluster "box"`},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, fake, _ := launcher(t, test.replies...)
			o := options(t)
			if test.change != nil {
				test.change(&o)
			}
			_, err := l.Create(t.Context(), Present("dind-cluster:v1"), o)
			dockertest.CheckError(t, err, test.want...)
			if test.replies == nil && len(fake.Calls()) > 0 {
				t.Errorf("Docker was asked before the input was checked: %q", fake.Calls())
			}
			if fake.Called("start") || fake.Called("rm") {
				t.Errorf("something was started or removed: %q", fake.Calls())
			}
			if _, err := os.Stat(o.Kubeconfig.Path()); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("kubeconfig: got %v, want none", err)
			}
		})
	}
}

// TestStartFails has what Docker says when it cannot start the container that it has created.
func TestStartFails(t *testing.T) {
	for _, test := range []struct {
		name, stderr string
		port         int
		want         []string
	}{
		{name: "port", port: 1, stderr: "driver failed programming external connectivity on endpoint x: Bind for 127.0.0.1:1 failed: port is already allocated", want: []string{"port 1 of 127.0.0.1 is in use"}},
		{name: "disk", stderr: "mkdir /var/lib/docker/x: no space left on device", want: []string{"disk is full", "docker system df"}},
		{name: "capability", stderr: "OCI runtime create failed: runc create failed: unable to start container process: unable to apply caps: operation not permitted", want: []string{"unable to apply caps", "Docker 23"}},
		{name: "user namespace", stderr: "privileged mode is incompatible with user namespaces", want: []string{"may not run privileged containers"}},
		{name: "policy", stderr: "authorization denied by plugin opa: no privileged containers here", want: []string{"opa", "may not run privileged containers"}},
		{name: "other", stderr: "strange", want: []string{"cannot start container 0123", "strange"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, fake, _ := launcher(t, goodVersion, goodInfo, nameIsFree, created,
				dockertest.Reply{Args: "start", Exit: 1, Stderr: "Error response from daemon: " + test.stderr + "\n"},
				dockertest.Reply{Args: "ps"}, removed)
			o := options(t)
			o.APIPort = test.port
			_, err := l.Create(t.Context(), Present("dind-cluster:v1"), o)
			dockertest.CheckError(t, err, test.want...)
			if !fake.Called(removed.Args) {
				t.Error("the container was not removed")
			}
		})
	}
}

func TestAutomaticPortTriesAgain(t *testing.T) {
	l, fake, _ := launcher(t, goodVersion, goodInfo, nameIsFree, created,
		dockertest.Reply{Args: "start", Exit: 1, Stderr: "port is already allocated", Times: 2},
		started, dockertest.Reply{Args: "ps"}, removed, logs,
		state(`{"Status":"running","Running":true,"Health":{"Status":"healthy"}}`, 0),
		dockertest.Reply{Args: "exec 0123 kubeconfig", Stdout: printedKubeconfig})
	if _, err := l.Create(t.Context(), Present("i"), options(t)); err != nil {
		t.Fatal(err)
	}
	starts := 0
	for _, c := range fake.Calls() {
		if strings.HasPrefix(c, "start ") {
			starts++
		}
	}
	if starts != 3 {
		t.Errorf("%d starts, want 3", starts)
	}
}

func TestClusterFails(t *testing.T) {
	starting := state(`{"Status":"running","Running":true,"Health":{"Status":"starting"}}`, 1)
	died := dockertest.Reply{Args: "events", Stdout: `{"Type":"container","Action":"die","Actor":{"ID":"0123"}}` + "\n", Hang: true}
	for _, test := range []struct {
		name    string
		replies []dockertest.Reply
		want    []string
	}{
		{name: "says why", replies: []dockertest.Reply{starting, died, state(`{"Status":"exited","ExitCode":1}`, 0)}, want: []string{`"box" did not come up (exit status 1)`, "lines above"}},
		{name: "killed", replies: []dockertest.Reply{starting, died, state(`{"Status":"exited","ExitCode":137}`, 0)}, want: []string{"was killed while it was starting (killed)"}},
		{name: "out of memory", replies: []dockertest.Reply{starting, died, state(`{"Status":"exited","ExitCode":137,"OOMKilled":true}`, 0)}, want: []string{"ran out of memory", "--nodes"}},
		{name: "dead at once", replies: []dockertest.Reply{state(`{"Status":"exited","ExitCode":2}`, 0)}, want: []string{"exit status 2"}},
		{name: "restarted", replies: []dockertest.Reply{starting, died, state(`{"Status":"running","Running":true}`, 0)}, want: []string{"was restarted"}},
		{name: "removed", replies: []dockertest.Reply{starting, died, {Args: "container inspect", Exit: 1, Stderr: "No such container: 0123"}}, want: []string{"was removed while"}},
		{name: "no kubeconfig", replies: []dockertest.Reply{state(`{"Status":"running","Running":true,"Health":{"Status":"healthy"}}`, 0),
			{Args: "exec 0123 kubeconfig", Stdout: "oops"}}, want: []string{"cannot use what cluster"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, fake, log := launcher(t, append([]dockertest.Reply{goodVersion, goodInfo, nameIsFree, created, started, logs, removed}, test.replies...)...)
			o := options(t)
			_, err := l.Create(t.Context(), Present("i"), o)
			dockertest.CheckError(t, err, test.want...)
			if !fake.Called(removed.Args) {
				t.Error("the container was not removed")
			}
			if test.name != "no kubeconfig" && !strings.Contains(log.String(), "doing things") {
				t.Errorf("the explanation is not shown: %q", log)
			}
			if _, err := os.Stat(o.Kubeconfig.Path()); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("kubeconfig: got %v, want none", err)
			}
		})
	}
	t.Run("retain", func(t *testing.T) {
		l, fake, _ := launcher(t, goodVersion, goodInfo, nameIsFree, created, started, logs, starting, died, state(`{"Status":"exited","ExitCode":1}`, 0))
		o := options(t)
		o.Retain = true
		_, err := l.Create(t.Context(), Present("i"), o)
		dockertest.CheckError(t, err, "exit status 1", "docker rm -f -v box")
		if fake.Called("rm") {
			t.Error("the container was removed")
		}
		if !slices.ContainsFunc(fake.Calls(), func(c string) bool { return strings.Contains(c, "ON_FAILURE=keep") }) {
			t.Error("the cluster was not told to stay")
		}
	})
}

func TestInterrupted(t *testing.T) {
	l, fake, _ := launcher(t, goodVersion, goodInfo, nameIsFree, created, started, removed,
		state(`{"Status":"running","Running":true,"Health":{"Status":"starting"}}`, 0),
		dockertest.Reply{Args: "logs", Hang: true}, dockertest.Reply{Args: "events", Hang: true})
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		for !fake.Called("events") {
			time.Sleep(time.Millisecond)
		}
		cancel(errors.New("interrupt signal received"))
	}()
	o := options(t)
	_, err := l.Create(ctx, Present("i"), o)
	dockertest.CheckError(t, err, "interrupt signal received")
	if !fake.Called(removed.Args) {
		t.Error("the container was not removed")
	}
}

func TestTimeout(t *testing.T) {
	l, fake, _ := launcher(t, started, removed,
		state(`{"Status":"running","Running":true,"Health":{"Status":"starting"}}`, 0),
		dockertest.Reply{Args: "logs", Hang: true}, dockertest.Reply{Args: "events", Hang: true})
	o := options(t)
	o.Wait = 100*time.Millisecond - explanationTime
	err := l.follow(t.Context(), "0123", &o)
	dockertest.CheckError(t, err, "did not get ready within")
	if !fake.Called("events") {
		t.Error("did not wait")
	}
}

func TestDelete(t *testing.T) {
	ours := dockertest.Reply{Args: "container inspect", Stdout: `{"Id":"0123","Name":"/box","Config":{"Image":"sha256:1","Labels":{"dind-cluster.name":"box"}}}`}
	byHand := dockertest.Reply{Args: "container inspect", Stdout: `{"Id":"0123","Name":"/box","Config":{"Image":"sha256:4711","Labels":{"dind-cluster.role":"cluster"}}}`}
	otherName := dockertest.Reply{Args: "container inspect", Stdout: `{"Id":"b0c0ffee","Name":"/precious","Config":{"Image":"dind-cluster:v1","Labels":{"dind-cluster.role":"cluster"}}}`}
	likeNamed := dockertest.Reply{Args: "container inspect", Stdout: `{"Id":"0123","Name":"/box","Config":{"Image":"reg.example/other/dind-cluster:v1"}}`}
	theirs := dockertest.Reply{Args: "container inspect", Stdout: `{"Id":"0123","Name":"/box","Config":{"Image":"postgres:17"}}`}
	for _, test := range []struct {
		name    string
		inspect dockertest.Reply
		found   bool
		want    []string
	}{
		{name: "ours", inspect: ours, found: true},
		{name: "made with docker run", inspect: byHand, found: true},
		{name: "its ID begins so", inspect: otherName},
		{name: "only its image is called so", inspect: likeNamed, want: []string{`"box"`, "not a dind-cluster"}},
		{name: "none", inspect: nameIsFree},
		{name: "somebody else's", inspect: theirs, want: []string{`"box"`, "postgres:17", "not a dind-cluster"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, fake, _ := launcher(t, test.inspect, removed)
			o := options(t)
			if err := o.Kubeconfig.Add(t.Context(), kubeconfig.Config{Name: ContextName("box"), Server: "https://127.0.0.1:1"}); err != nil {
				t.Fatal(err)
			}
			found, err := l.Delete(t.Context(), "box", o.Kubeconfig)
			dockertest.CheckError(t, err, test.want...)
			if found != test.found || fake.Called("rm") != test.found {
				t.Errorf("found %v, removed %v, want %v", found, fake.Called("rm"), test.found)
			}
			data, err := os.ReadFile(o.Kubeconfig.Path())
			if err != nil {
				t.Fatal(err)
			}
			if has, want := strings.Contains(string(data), "dind-cluster-box"), test.want != nil; has != want {
				t.Errorf("entries in the kubeconfig: %v, want %v:\n%s", has, want, data)
			}
		})
	}
}

// An image that another build has replaced goes with the last cluster that was made of it.
func TestDeleteRemovesNamelessImage(t *testing.T) {
	for _, test := range []struct {
		name, config, names string
		removed             bool
	}{
		{name: "replaced", config: `"Image":"dind-cluster:v1","Labels":{"dind-cluster.name":"box"}`, names: `"RepoTags":[]`, removed: true},
		{name: "has its name", config: `"Image":"dind-cluster:v1","Labels":{"dind-cluster.name":"box"}`, names: `"RepoTags":["dind-cluster:v1"]`},
		{name: "never had one", config: `"Image":"sha256:old","Labels":{"dind-cluster.name":"box"}`, names: `"RepoTags":[]`},
		{name: "not made by us", config: `"Image":"dind-cluster:v1","Labels":{"dind-cluster.role":"cluster"}`, names: `"RepoTags":[]`},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, fake, _ := launcher(t, removed,
				dockertest.Reply{Args: "container inspect", Stdout: `{"Id":"0123","Name":"/box","Image":"sha256:old","Config":{` + test.config + `}}`},
				dockertest.Reply{Args: "image inspect --format {{json .}} sha256:old", Stdout: `{"Id":"sha256:old",` + test.names + `}`},
				dockertest.Reply{Args: "image rm sha256:old"})
			if found, err := l.Delete(t.Context(), "box"); err != nil || !found {
				t.Fatalf("got %v, %v", found, err)
			}
			if got := fake.Called("image rm"); got != test.removed {
				t.Errorf("image removed: %v, want %v", got, test.removed)
			}
		})
	}
}

func TestLoadImages(t *testing.T) {
	box := dockertest.Reply{Args: "container inspect", Stdout: `{"Id":"0123","Name":"/box","State":{"Running":true},"Config":{"Labels":{"dind-cluster.name":"box"}}}`}
	image := dockertest.Reply{Args: "image inspect", Stdout: `{"Id":"sha256:1"}`}
	save := dockertest.Reply{Args: "save a b", Stdout: "archive"}
	load := dockertest.Reply{Args: "exec --interactive 0123 loader load -"}
	for _, test := range []struct {
		name    string
		replies []dockertest.Reply
		want    []string
	}{
		{name: "good", replies: []dockertest.Reply{box, image, save, load}},
		{name: "no such image", replies: []dockertest.Reply{{Args: "image inspect", Exit: 1, Stderr: "Error response from daemon: No such image: a"}}, want: []string{`no image "a"`, "docker pull"}},
		{name: "not running", replies: []dockertest.Reply{{Args: "container inspect", Stdout: `{"Id":"0123","Name":"/box","Config":{"Labels":{"dind-cluster.name":"box"}}}`}, image, {Args: "save", Hang: true}}, want: []string{"not running", "docker start box"}},
		{name: "no cluster", replies: []dockertest.Reply{nameIsFree, image, {Args: "save", Hang: true}}, want: []string{`no cluster "box"`}},
		{name: "save fails", replies: []dockertest.Reply{box, image, {Args: "save", Exit: 1, Stderr: "disk on fire"}, load}, want: []string{"disk on fire"}},
		{name: "load fails", replies: []dockertest.Reply{box, image, save, {Args: "exec", Exit: 1, Stderr: "worker2: archive cut short"}}, want: []string{"worker2: archive cut short"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, _, _ := launcher(t, test.replies...)
			dockertest.CheckError(t, l.LoadImages(t.Context(), "box", "a", "b"), test.want...)
		})
	}
}

func TestList(t *testing.T) {
	l, _, _ := launcher(t, dockertest.Reply{Args: "ps --all --no-trunc --format {{json .}} --filter label=dind-cluster.name",
		Stdout: `{"ID":"2","Names":"b","Status":"Up 5 minutes (healthy)"}` + "\n" + `{"ID":"1","Names":"a","Status":"Exited (0)"}` + "\n"},
		dockertest.Reply{Args: "ps --all --no-trunc --format {{json .}} --filter label=dind-cluster.role=cluster",
			Stdout: `{"ID":"3","Names":"c","Status":"Created"}` + "\n" + `{"ID":"1","Names":"a","Status":"Exited (0)"}` + "\n"})
	list, err := l.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 3 || list[0].Name != "a" || list[1].Status != "Up 5 minutes (healthy)" || list[2].Name != "c" {
		t.Errorf("got %+v", list)
	}
}

func TestFreePort(t *testing.T) {
	seen := map[int]bool{}
	for range 3 {
		port, err := freePort()
		if err != nil {
			t.Fatal(err)
		}
		if port < 1024 || seen[port] {
			t.Errorf("got port %d, after %v", port, seen)
		}
		seen[port] = true
		if err := (&Launcher{}).checkPortFree(t.Context(), port); err != nil {
			t.Error(err)
		}
	}
}

func TestCheckDisk(t *testing.T) {
	info := &docker.Info{DockerRootDir: "/var/lib/docker"}
	with := func(free uint64, err error) func(string, *syscall.Statfs_t) error {
		return func(path string, s *syscall.Statfs_t) error {
			if path != info.DockerRootDir {
				t.Errorf("looked at %s", path)
			}
			s.Bsize, s.Bavail = 4096, free/4096
			return err
		}
	}
	dockertest.CheckError(t, checkDisk(info, 3, with(1<<40, nil)))
	dockertest.CheckError(t, checkDisk(info, 3, with(0, syscall.ENOENT))) // the engine is elsewhere
	dockertest.CheckError(t, checkDisk(info, 3, with(1<<30, nil)), "not enough disk space", "1.1 GB free", "/var/lib/docker", "docker system df")
}

func TestHostAddress(t *testing.T) {
	for b, want := range map[docker.PortBinding]string{
		{HostIP: "127.0.0.1", HostPort: "1"}: "127.0.0.1:1",
		{HostIP: "0.0.0.0", HostPort: "2"}:   "127.0.0.1:2",
		{HostIP: "", HostPort: "3"}:          "127.0.0.1:3",
		{HostIP: "10.1.2.3", HostPort: "4"}:  "10.1.2.3:4",
		{HostIP: "::1", HostPort: "5"}:       "[::1]:5",
	} {
		if got := hostAddress(b); got != want {
			t.Errorf("%+v: got %s, want %s", b, got, want)
		}
	}
}

func TestContextName(t *testing.T) {
	for name, want := range map[string]string{"dind-cluster": "dind-cluster", "a": "dind-cluster-a", "dind-cluster-a": "dind-cluster-dind-cluster-a"} {
		if got := ContextName(name); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}
