package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dind-cluster/dind-cluster/internal/docker"
	"github.com/dind-cluster/dind-cluster/internal/docker/dockertest"
	"github.com/dind-cluster/dind-cluster/internal/kubeconfig"
)

func TestMain(m *testing.M) { dockertest.Main(m) }

const (
	tag = "dind-cluster:v1"

	printedKubeconfig = `apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://127.0.0.1:6443"}}]
users: [{name: u, user: {client-key-data: R0hJ}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
`
)

// image returns an image whose containers come up, unless main has other plans.
func image(main func(*dockertest.Process) docker.State) dockertest.Image {
	if main == nil {
		main = comeUp
	}
	i := dockertest.Image{Main: main, Exec: func(in io.Reader, out, errs io.Writer, args ...string) int {
		switch strings.Join(args, " ") {
		case "kubeconfig":
			io.WriteString(out, printedKubeconfig)
		case "loader load -":
			data, _ := io.ReadAll(in)
			fmt.Fprintf(out, "loaded %q", data)
		default:
			return 127
		}
		return 0
	}}
	i.RepoTags = []string{tag}
	i.Config.Labels = map[string]string{roleLabel: clusterRole}
	return i
}

func comeUp(p *dockertest.Process) docker.State {
	p.Log("[  0.1s] + doing things")
	p.Health("healthy")
	return untilStopped(p)
}

func untilStopped(p *dockertest.Process) docker.State {
	<-p.Context.Done()
	return docker.State{ExitCode: 137}
}

// waitForEvents waits until a start has had its look at the container and listens to the engine.
func waitForEvents(p *dockertest.Process, e *dockertest.Engine) {
	for !e.Called("events") && p.Context.Err() == nil {
		time.Sleep(time.Millisecond)
	}
}

func launcher(t *testing.T, replies ...dockertest.Reply) (*Launcher, *dockertest.Engine, *bytes.Buffer) {
	t.Helper()
	client, engine := dockertest.New(t, replies...)
	var log bytes.Buffer
	return &Launcher{Docker: client, Log: &log}, engine, &log
}

func request(t *testing.T) Request {
	return Request{
		Image:      Present(tag),
		Name:       "box",
		Nodes:      3,
		Wait:       time.Minute,
		Kubeconfig: kubeconfig.At(filepath.Join(t.TempDir(), "config")),
	}
}

// nothingLeft checks that a cluster that did not come up left no trace, but for containers of these
// names.
func nothingLeft(t *testing.T, e *dockertest.Engine, r Request, containers ...string) {
	t.Helper()
	if left := e.Leftovers(); !slices.Equal(left, containers) {
		t.Errorf("there is %q, want %q", left, containers)
	}
	if _, err := os.Stat(r.Kubeconfig.Path()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("kubeconfig: got %v, want none", err)
	}
}

// run has a container that something else made.
func run(t *testing.T, l *Launcher, args ...string) {
	t.Helper()
	if _, err := l.Docker.Run(t.Context(), args...); err != nil {
		t.Fatal(err)
	}
}

// once closes a channel when something is written.
type once struct {
	sync.Once
	c chan struct{}
}

func (o *once) Write(p []byte) (int, error) {
	o.Do(func() { close(o.c) })
	return len(p), nil
}

func TestCreate(t *testing.T) {
	l, engine, log := launcher(t)
	// The cluster gets ready some time after its first line.
	shown := make(chan struct{})
	l.Log = io.MultiWriter(log, &once{c: shown})
	engine.AddImage(image(func(p *dockertest.Process) docker.State {
		p.Log("[  0.1s] + doing things")
		select {
		case <-shown:
		case <-p.Context.Done():
		}
		p.Health("healthy")
		return untilStopped(p)
	}))
	r := request(t)
	r.Env = []string{"POD_NETWORK=none"}
	r.RunArgs = []string{"--network", "quiet"}
	c, err := l.Create(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	got := engine.Container("box")
	if got == nil || c.Name != "box" || c.ID != got.ID || c.APIPort == 0 {
		t.Fatalf("got %+v, made %+v", c, got)
	}
	port := strconv.Itoa(c.APIPort)
	data, err := os.ReadFile(r.Kubeconfig.Path())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"name: dind-cluster-box", "server: https://127.0.0.1:" + port, "current-context: dind-cluster-box", "client-key-data: R0hJ"} {
		if !strings.Contains(string(data), want) {
			t.Errorf("kubeconfig does not have %q:\n%s", want, data)
		}
	}
	if info, err := os.Stat(r.Kubeconfig.Path()); err != nil || info.Mode() != 0o600 {
		t.Errorf("kubeconfig: %v, %v, want mode 0600", info.Mode(), err)
	}
	if got.State.HealthStatus() != "healthy" || got.Config.Labels[label] != "box" || got.Config.Image != tag {
		t.Errorf("got %+v", got.Container)
	}
	for _, want := range []string{"NODES=3", "API_PORT=" + port, "TIMEOUT=1m0s", "POD_NETWORK=none"} {
		if !slices.Contains(got.Config.Env, want) {
			t.Errorf("environment %q is without %s", got.Config.Env, want)
		}
	}
	for flag, want := range map[string]string{"hostname": "box", "privileged": "", "init": "false", "pids-limit": "1000000", "pull": "never", "network": "quiet", "publish": "127.0.0.1:" + port + ":6443/tcp"} {
		if got := got.Flags[flag]; !slices.Equal(got, []string{want}) {
			t.Errorf("--%s is %q, want %q", flag, got, want)
		}
	}
	if !strings.Contains(log.String(), "doing things") {
		t.Errorf("the cluster's own progress is not shown: %q", log)
	}
}

// An engine that maps users runs the container without a mapping.
func TestCreateUserNamespaces(t *testing.T) {
	l, engine, _ := launcher(t)
	engine.AddImage(image(nil))
	engine.Info.SecurityOptions = append(engine.Info.SecurityOptions, "name=userns")
	if _, err := l.Create(t.Context(), request(t)); err != nil {
		t.Fatal(err)
	}
	if got := engine.Container("box").Flags["userns"]; !slices.Equal(got, []string{"host"}) {
		t.Errorf("--userns is %q", got)
	}
}

// No port is published with the network none, and there is nothing to write into a kubeconfig.
func TestCreateWithoutNetwork(t *testing.T) {
	l, engine, _ := launcher(t)
	engine.AddImage(image(nil))
	r := request(t)
	r.RunArgs = []string{"--network", "none"}
	c, err := l.Create(t.Context(), r)
	if err != nil || c.Kubeconfig != nil {
		t.Errorf("got %+v, %v", c, err)
	}
	nothingLeft(t, engine, r, "/box")
}

func TestCreateBadInput(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	busyPort := busy.Addr().(*net.TCPAddr).Port
	fails := func(args, stderr string) []dockertest.Reply {
		return []dockertest.Reply{{Args: args, Exit: 1, Stderr: stderr}}
	}

	for _, test := range []struct {
		name   string
		change func(*Request)
		want   []string
	}{
		{name: "no nodes", change: func(r *Request) { r.Nodes = 0 }, want: []string{"0 nodes", "1 (a single node", "to 100"}},
		{name: "too many nodes", change: func(r *Request) { r.Nodes = 200 }, want: []string{"200 nodes", "to 100"}},
		{name: "bad name", change: func(r *Request) { r.Name = "-x y" }, want: []string{`cluster name "-x y"`, "letters, digits"}},
		{name: "short name", change: func(r *Request) { r.Name = "x" }, want: []string{`"x"`, "2 to 63"}},
		{name: "bad port", change: func(r *Request) { r.APIPort = 65536 }, want: []string{"API port 65536", "1 to 65535"}},
		{name: "no waiting", change: func(r *Request) { r.Wait = 0 }, want: []string{"waiting time 0s"}},
		{name: "bad setting", change: func(r *Request) { r.Env = []string{"X"} }, want: []string{`"X"`, "NAME=VALUE"}},
		{name: "typing error", change: func(r *Request) { r.Env = []string{"NODE=5"} }, want: []string{"NODE is not a setting", "did you mean NODES?"}},
		{name: "no setting", change: func(r *Request) { r.Env = []string{"FEATURE_GATES=A=true"} }, want: []string{"FEATURE_GATES is not a setting", "there are NODES,"}},
		{name: "anything else", change: func(r *Request) { r.Env = []string{"TZ=UTC"} }, want: []string{"TZ is not a setting"}},
		{name: "bad value", change: func(r *Request) { r.Env = []string{"POD_SUBNET=everywhere"} }, want: []string{`POD_SUBNET="everywhere": want an IPv4 subnet`}},
		{name: "overlap", change: func(r *Request) { r.Env = []string{"POD_SUBNET=10.96.0.0/16"} }, want: []string{"networking.serviceSubnet: 10.96.0.0/16 overlaps"}},
		{name: "bad proxy", change: func(r *Request) { r.Env = []string{"https_proxy=ftp://x"} }, want: []string{"https_proxy: want a proxy's URL"}},
		{name: "too long a wait", change: func(r *Request) { r.Wait = 48 * time.Hour }, want: []string{"waiting time 48h0m0s", "24h0m0s"}},
		{name: "all at once", change: func(r *Request) { r.Nodes, r.Env = 0, []string{"TIMEOUT=1", "ETCD_SYNC=no", "KUBE_PROXY_MODE=ipvs"} },
			want: []string{"0 nodes", "TIMEOUT: there is an option", `ETCD_SYNC="no"`, `KUBE_PROXY_MODE="ipvs"`}},
		{name: "setting with an option", change: func(r *Request) { r.Env = []string{"NODES=2"} }, want: []string{"NODES", "option"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := &Launcher{Docker: &docker.Client{Path: "/no/such/docker"}} // the input is checked first
			r := request(t)
			test.change(&r)
			_, err := l.Create(t.Context(), r)
			dockertest.CheckError(t, err, test.want...)
			if _, err := os.Stat(r.Kubeconfig.Path()); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("kubeconfig: got %v, want none", err)
			}
		})
	}

	for _, test := range []struct {
		name    string
		change  func(*Request)
		replies []dockertest.Reply
		there   func(*testing.T, *Launcher, *dockertest.Engine)
		stays   []string
		want    []string
	}{
		{
			name:    "no engine",
			replies: fails("version", "Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?"),
			want:    []string{"cannot reach the Docker engine", "systemctl start docker"},
		}, {
			name: "old engine",
			there: func(_ *testing.T, _ *Launcher, e *dockertest.Engine) {
				e.Version.Version, e.Version.APIVersion = "20.10.24", "1.41"
			},
			want: []string{"too old", "20.10.24", "needs 23 "},
		}, {
			name:  "windows",
			there: func(_ *testing.T, _ *Launcher, e *dockertest.Engine) { e.Version.Os = "windows" },
			want:  []string{"windows containers", "needs Linux"},
		}, {
			name:  "another machine",
			there: func(_ *testing.T, _ *Launcher, e *dockertest.Engine) { e.Version.Arch = "s390x" },
			want:  []string{"s390x", "this image is for"},
		}, {
			name: "rootless",
			there: func(_ *testing.T, _ *Launcher, e *dockertest.Engine) {
				e.Info.SecurityOptions = []string{"name=rootless"}
			},
			want: []string{"rootless"},
		}, {
			name:    "context that is gone",
			replies: fails("context inspect", `context "x": context not found`),
			want:    []string{`context "x": context not found`},
		}, {
			name:  "name taken by a cluster",
			there: func(t *testing.T, l *Launcher, _ *dockertest.Engine) { run(t, l, "--name", "box", tag) },
			stays: []string{"/box"},
			want:  []string{`already is a cluster "box" (running)`, "delete --name box", "--name"},
		}, {
			name: "name taken by a container",
			there: func(t *testing.T, l *Launcher, e *dockertest.Engine) {
				e.AddImage(dockertest.Image{Image: docker.Image{RepoTags: []string{"postgres:17"}}})
				run(t, l, "--name", "box", "postgres:17")
			},
			stays: []string{"/box"},
			want:  []string{`"box" is taken by another container (image postgres:17, running)`, "--name"},
		}, {
			name:   "port taken by a process",
			change: func(r *Request) { r.APIPort = busyPort },
			want:   []string{fmt.Sprintf("port %d of 127.0.0.1 is in use:", busyPort), "--api-port"},
		}, {
			name:   "port taken by a container",
			change: func(r *Request) { r.APIPort = busyPort },
			there: func(t *testing.T, l *Launcher, _ *dockertest.Engine) {
				run(t, l, "--name", "db", "--publish", fmt.Sprintf("127.0.0.1:%d:5432/tcp", busyPort), tag)
			},
			stays: []string{"/db"},
			want:  []string{`in use by container "db"`},
		}, {
			name:   "unwritable kubeconfig",
			change: func(r *Request) { r.Kubeconfig = kubeconfig.At("/proc/self/config") },
			want:   []string{"cannot update kubeconfig /proc/self/config"},
		}, {
			name:   "no such image",
			change: func(r *Request) { r.Image = Present("dind-cluster:v2") },
			want:   []string{`no image "dind-cluster:v2"`, "docker images"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, engine, _ := launcher(t, test.replies...)
			engine.AddImage(image(nil))
			if test.there != nil {
				test.there(t, l, engine)
			}
			r := request(t)
			if test.change != nil {
				test.change(&r)
			}
			_, err := l.Create(t.Context(), r)
			dockertest.CheckError(t, err, test.want...)
			nothingLeft(t, engine, r, test.stays...)
		})
	}
}

// late is an image that is sent while something else happens.
type late func()

func (f late) Send(context.Context) (string, error) { f(); return tag, nil }

func TestNameTakenMeanwhile(t *testing.T) {
	l, engine, _ := launcher(t)
	engine.AddImage(image(nil))
	r := request(t)
	r.Image = late(func() { run(t, l, "--name", "box", tag) })
	_, err := l.Create(t.Context(), r)
	dockertest.CheckError(t, err, `already is a cluster "box"`)
	nothingLeft(t, engine, r, "/box")
}

const configHead = "apiVersion: dind-cluster.github.io/v1alpha1\nkind: Cluster\n"

// configured returns a request for what a file says.
func configured(t *testing.T, text string) Request {
	r := request(t)
	r.Nodes, r.Wait = 0, 0
	r.Config = &ConfigFile{Name: "x.yaml", Data: []byte(configHead + text)}
	return r
}

// The container has the file before it starts, and what its nodes need of the Docker host.
func TestConfig(t *testing.T) {
	l, engine, _ := launcher(t)
	var file dockertest.File
	engine.AddImage(image(func(p *dockertest.Process) docker.State {
		file = engine.Container("box").Files["/etc/dind-cluster/config.yaml"]
		return comeUp(p)
	}))
	data, other, manifests := t.TempDir(), t.TempDir(), t.TempDir()
	archive := filepath.Join(other, "images.tar")
	if err := os.WriteFile(archive, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	r := configured(t, fmt.Sprintf(`
nodes:
- role: control-plane
  extraPortMappings: [{containerPort: 80, hostPort: 20080}, {containerPort: 80, hostPort: 20080, protocol: UDP, listenAddress: "::1"}]
  extraMounts: [{hostPath: %[1]s, containerPath: /data, readOnly: true}]
- role: worker
  count: 2
  extraMounts: [{hostPath: %[1]s, containerPath: /data, propagation: HostToContainer}, {hostPath: %[2]s, containerPath: /x, readOnly: true}]
- role: worker
  count: 0
  extraMounts: [{hostPath: /no/such/directory, containerPath: /y}]
  extraPortMappings: [{containerPort: 80, hostPort: 20081}]
manifests: [{hostPath: %[3]s}, {content: "{apiVersion: v1, kind: Namespace, metadata: {name: a}}"}]
images: ["%[4]s"]
`, data, other, manifests, archive))
	r.Env = []string{"OPEN=no"}
	if _, err := l.Create(t.Context(), r); err == nil {
		t.Error("want an error for what is no setting")
	}
	r.Env = nil
	c, err := l.Create(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(file.Data, r.Config.Data) || file.Mode != 0o600 {
		t.Errorf("the container has %q, mode %v", file.Data, file.Mode)
	}
	if c.Nodes != 3 {
		t.Errorf("%d nodes, want 3", c.Nodes)
	}
	flags := engine.Container("box").Flags
	port := strconv.Itoa(c.APIPort)
	for flag, want := range map[string][]string{
		"env":     {"API_PORT=" + port},
		"publish": {"127.0.0.1:" + port + ":6443/tcp", "127.0.0.1:20080:20080/tcp", "[::1]:20080:20080/udp"},
		// One path of the Docker host that several nodes have is mounted once.
		"volume": {data + ":/host" + data + ":rslave", other + ":/host" + other + ":ro", manifests + ":/host" + manifests + ":ro", archive + ":/host" + archive + ":ro"},
	} {
		if !slices.Equal(flags[flag], want) {
			t.Errorf("--%s: got %q, want %q", flag, flags[flag], want)
		}
	}
}

// Options and settings have the last word.
func TestConfigAndOptions(t *testing.T) {
	l, engine, _ := launcher(t)
	engine.AddImage(image(nil))
	r := configured(t, "name: other\nstart: {timeout: 90s}\nnetworking: {apiServerPort: 6444, podNetwork: none}\n")
	r.Nodes, r.Wait, r.APIPort, r.Retain = 2, time.Minute, 26443, true
	r.Env = []string{"POD_NETWORK=ptp"}
	p, err := l.plan(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if p.name != "box" || p.nodes != 2 || p.wait != time.Minute || p.port != 26443 || !p.retain {
		t.Errorf("got %+v", p)
	}
	r.Nodes, r.Wait, r.APIPort, r.Retain, r.Env = 0, 0, 0, false, nil
	if p, err = l.plan(t.Context(), r); err != nil || p.nodes != 3 || p.wait != 90*time.Second || p.port != 6444 || p.retain {
		t.Errorf("got %+v, %v", p, err)
	}
}

// What cannot be is said before anything is sent.
func TestConfigRefused(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	taken := listener.Addr().(*net.TCPAddr).Port
	for _, test := range []struct {
		name, text string
		port       int
		want       []string
	}{
		{"mistakes", "nodes: [{role: control-plane, extraMounts: [{hostPath: a, containerPath: /run}]}]\nhealth: good", 0,
			[]string{`x.yaml: line 3: nodes[0].extraMounts[0].hostPath: "a": want an absolute path`, "x.yaml: line 3: nodes[0].extraMounts[0].containerPath", "x.yaml: line 4: health"}},
		{"missing directory", "nodes: [{role: control-plane, extraMounts: [{hostPath: /no/such/directory, containerPath: /a}]}]", 0, []string{"nodes[0].extraMounts[0].hostPath: ", "/no/such/directory"}},
		{"missing files", "manifests: [{hostPath: /no/manifests}]\nimages: [/no/image.tar]", 0,
			[]string{"manifests[0].hostPath: reading manifests: lstat /no/manifests: no such file", "images[0]: stat /no/image.tar: no such file"}},
		{"missing image", "images: [app:1, app:2]", 0, []string{`the local Docker has no image "app:1"`, `the local Docker has no image "app:2"`}},
		{"port of the API server", "nodes: [{role: control-plane, extraPortMappings: [{containerPort: 80, hostPort: 26443}]}]", 26443, []string{"hostPort: 26443/TCP is that of networking.apiServerPort"}},
		{"port in use", fmt.Sprintf("nodes: [{role: control-plane, extraPortMappings: [{containerPort: 80, hostPort: %d}]}]", taken), 0,
			[]string{fmt.Sprintf("port 127.0.0.1:%d/TCP is in use: choose another hostPort", taken)}},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, engine, _ := launcher(t)
			engine.AddImage(image(nil))
			r := configured(t, test.text)
			r.APIPort = test.port
			_, err := l.Create(t.Context(), r)
			dockertest.CheckError(t, err, test.want...)
			nothingLeft(t, engine, r)
		})
	}
}

// A port of a node that something else took meanwhile is not the API server's.
func TestNodePortTaken(t *testing.T) {
	for _, stderr := range []string{
		"driver failed programming external connectivity on endpoint x: Bind for 127.0.0.1:20080 failed: port is already allocated",
		"failed to set up container networking: failed to bind host port for 127.0.0.1:20080:172.17.0.2:20080/tcp: address already in use",
		"error starting userland proxy: listen tcp4 127.0.0.1:20080: bind: address already in use",
	} {
		l, engine, _ := launcher(t, dockertest.Reply{Args: "start", Exit: 1, Stderr: stderr})
		engine.AddImage(image(nil))
		r := configured(t, "nodes: [{role: control-plane, extraPortMappings: [{containerPort: 80, hostPort: 20080}]}]")
		_, err := l.Create(t.Context(), r)
		dockertest.CheckError(t, err, "port 127.0.0.1:20080/TCP is in use", "choose another hostPort")
		nothingLeft(t, engine, r)
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
		{name: "other", stderr: "strange", want: []string{"cannot start container", "strange"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, engine, _ := launcher(t, dockertest.Reply{Args: "start", Exit: 1, Stderr: "Error response from daemon: " + test.stderr + "\n"})
			engine.AddImage(image(nil))
			r := request(t)
			r.APIPort = test.port
			r.Retain = true // there is nothing to look at
			_, err := l.Create(t.Context(), r)
			dockertest.CheckError(t, err, test.want...)
			nothingLeft(t, engine, r)
		})
	}
}

func TestAutomaticPortTriesAgain(t *testing.T) {
	taken := dockertest.Reply{Args: "start", Exit: 1, Stderr: "port is already allocated", Times: 4}
	l, engine, _ := launcher(t, taken)
	engine.AddImage(image(nil))
	c, err := l.Create(t.Context(), request(t))
	if err != nil {
		t.Fatal(err)
	}
	if left := engine.Leftovers(); !slices.Equal(left, []string{"/box"}) || engine.Container("box").ID != c.ID {
		t.Errorf("there is %q, want the last container, %s", left, c.ID)
	}

	taken.Times = 5
	l, engine, _ = launcher(t, taken)
	engine.AddImage(image(nil))
	r := request(t)
	_, err = l.Create(t.Context(), r)
	dockertest.CheckError(t, err, "of 127.0.0.1 is in use")
	nothingLeft(t, engine, r)
}

func TestClusterFails(t *testing.T) {
	// dies ends some time after the start.
	dies := func(s docker.State) func(*dockertest.Process) docker.State {
		return func(p *dockertest.Process) docker.State {
			p.Log("[  0.1s] ! doing things")
			p.Health("unhealthy")
			return s
		}
	}
	for _, test := range []struct {
		name string
		main func(*dockertest.Process) docker.State
		want []string
	}{
		{name: "says why", main: dies(docker.State{ExitCode: 1}), want: []string{`"box" did not come up (exit status 1)`, "lines above", "--retain"}},
		{name: "killed", main: dies(docker.State{ExitCode: 137}), want: []string{"was killed while it was starting (killed)"}},
		{name: "out of memory", main: dies(docker.State{ExitCode: 137, OOMKilled: true}), want: []string{"ran out of memory", "--nodes"}},
		{name: "not even begun", main: dies(docker.State{Error: "exec format error"}), want: []string{"did not start: exec format error"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, engine, log := launcher(t)
			engine.AddImage(image(test.main))
			r := request(t)
			_, err := l.Create(t.Context(), r)
			dockertest.CheckError(t, err, test.want...)
			nothingLeft(t, engine, r)
			if !strings.Contains(log.String(), "doing things") {
				t.Errorf("the explanation is not shown: %q", log)
			}
		})
	}
	t.Run("restarted", func(t *testing.T) {
		l, engine, _ := launcher(t)
		engine.AddImage(image(func(p *dockertest.Process) docker.State {
			waitForEvents(p, engine)
			return docker.State{Running: true}
		}))
		r := request(t)
		_, err := l.Create(t.Context(), r)
		dockertest.CheckError(t, err, "was restarted")
		nothingLeft(t, engine, r)
	})
	t.Run("removed", func(t *testing.T) {
		l, engine, _ := launcher(t)
		gone := make(chan error, 1)
		engine.AddImage(image(func(p *dockertest.Process) docker.State {
			waitForEvents(p, engine)
			go func() { gone <- l.Docker.Remove(t.Context(), "box") }()
			return untilStopped(p)
		}))
		r := request(t)
		_, err := l.Create(t.Context(), r)
		// It is dead for a moment before it is removed.
		if err == nil || !strings.Contains(err.Error(), "was removed while") && !strings.Contains(err.Error(), "was killed while") {
			t.Errorf("got %v", err)
		}
		if err := <-gone; err != nil {
			t.Error(err)
		}
		nothingLeft(t, engine, r)
	})
	t.Run("no kubeconfig", func(t *testing.T) {
		l, engine, _ := launcher(t, dockertest.Reply{Args: "exec", Stdout: "oops"})
		engine.AddImage(image(nil))
		r := request(t)
		_, err := l.Create(t.Context(), r)
		dockertest.CheckError(t, err, "cannot use what cluster", "reading the kubeconfig")
		nothingLeft(t, engine, r)
	})
	t.Run("retain", func(t *testing.T) {
		l, engine, _ := launcher(t)
		engine.AddImage(image(dies(docker.State{ExitCode: 1})))
		r := request(t)
		r.Retain = true
		_, err := l.Create(t.Context(), r)
		dockertest.CheckError(t, err, "exit status 1", "docker rm -f -v box")
		nothingLeft(t, engine, r, "/box")
		if !slices.Contains(engine.Container("box").Config.Env, "ON_FAILURE=keep") {
			t.Error("the cluster was not told to stay")
		}
	})
}

func TestInterrupted(t *testing.T) {
	l, engine, _ := launcher(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	engine.AddImage(image(func(p *dockertest.Process) docker.State {
		cancel(errors.New("interrupt signal received"))
		return untilStopped(p)
	}))
	r := request(t)
	_, err := l.Create(ctx, r)
	dockertest.CheckError(t, err, "interrupt signal received")
	nothingLeft(t, engine, r)
}

func TestTimeout(t *testing.T) {
	l, engine, _ := launcher(t)
	engine.AddImage(image(untilStopped))
	run(t, l, "--name", "box", tag)
	err := l.waitForStart(t.Context(), createPlan{name: "box", wait: 100*time.Millisecond - explanationTime}, container{id: engine.Container("box").ID})
	dockertest.CheckError(t, err, "did not get ready within")
}

// After `docker start`, too, the cluster comes up.
func TestWaitReady(t *testing.T) {
	l, engine, _ := launcher(t)
	engine.AddImage(image(nil))
	run(t, l, "--name", "box", tag)
	dockertest.CheckError(t, l.WaitReady(t.Context(), "box"))
	if err := l.Docker.Stop(t.Context(), "box", time.Second); err != nil {
		t.Fatal(err)
	}
	dockertest.CheckError(t, l.WaitReady(t.Context(), "box"), "was killed while")
	if err := l.Docker.Start(t.Context(), "box"); err != nil {
		t.Fatal(err)
	}
	dockertest.CheckError(t, l.WaitReady(t.Context(), "box"))
}

func TestDelete(t *testing.T) {
	for _, test := range []struct {
		name  string
		there []string // arguments of `docker create`
		as    string
		found bool
		want  []string
	}{
		{name: "ours", there: []string{"--name", "box", "--label", "dind-cluster.name=box", "other:1"}, found: true},
		{name: "made with docker run", there: []string{"--name", "box", tag}, found: true},
		{name: "its ID begins so", there: []string{"--name", "precious", tag}, as: "c0de"},
		{name: "none"},
		{name: "another's", there: []string{"--name", "box", "reg.example/other/dind-cluster:v1"}, want: []string{`"box"`, "reg.example/other/dind-cluster:v1", "not a dind-cluster"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, engine, _ := launcher(t)
			engine.AddImage(image(nil))
			engine.AddImage(dockertest.Image{Image: docker.Image{RepoTags: []string{"other:1", "reg.example/other/dind-cluster:v1"}}})
			if test.there != nil {
				run(t, l, test.there...)
			}
			name := "box"
			if test.as != "" {
				name = test.as
			}
			file := request(t).Kubeconfig
			if err := file.Add(t.Context(), kubeconfig.Config{Name: ContextName(name), Server: "https://127.0.0.1:1"}); err != nil {
				t.Fatal(err)
			}
			found, err := l.Delete(t.Context(), name, file)
			dockertest.CheckError(t, err, test.want...)
			if left := engine.Leftovers(); found != test.found || (len(left) > 0) != (test.there != nil && !test.found) {
				t.Errorf("found %v, want %v; there is %q", found, test.found, left)
			}
			data, err := os.ReadFile(file.Path())
			if err != nil {
				t.Fatal(err)
			}
			if has, want := strings.Contains(string(data), ContextName(name)), test.want != nil; has != want {
				t.Errorf("entries in the kubeconfig: %v, want %v:\n%s", has, want, data)
			}
		})
	}
}

// An image that another build has replaced goes with the last cluster that was made of it.
func TestDeleteRemovesNamelessImage(t *testing.T) {
	for _, test := range []struct {
		name     string
		create   bool // by Create, not by `docker run`
		byID     bool
		replaced bool
		removed  bool
	}{
		{name: "replaced", create: true, replaced: true, removed: true},
		{name: "has its name", create: true},
		{name: "never had one", create: true, byID: true, replaced: true},
		{name: "made with docker run", replaced: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, engine, _ := launcher(t)
			id := engine.AddImage(image(nil))
			r := request(t)
			if test.byID {
				r.Image = Present(id)
			}
			if !test.create {
				run(t, l, "--name", "box", tag)
			} else if _, err := l.Create(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			if test.replaced {
				engine.Untag(tag)
			}
			if found, err := l.Delete(t.Context(), "box"); err != nil || !found {
				t.Fatalf("got %v, %v", found, err)
			}
			if got := !engine.HasImage(id); got != test.removed {
				t.Errorf("image removed: %v, want %v", got, test.removed)
			}
		})
	}
}

func TestLoadImages(t *testing.T) {
	for _, test := range []struct {
		name    string
		stopped bool
		replies []dockertest.Reply
		cluster string
		images  []string
		want    []string
	}{
		{name: "good"},
		{name: "no such image", images: []string{"c"}, want: []string{`no image "c"`, "docker pull"}},
		{name: "not running", stopped: true, want: []string{"not running", "docker start box"}},
		{name: "no cluster", cluster: "second", want: []string{`no cluster "second"`}},
		{name: "save fails", replies: []dockertest.Reply{{Args: "save", Exit: 1, Stderr: "disk on fire"}}, want: []string{"disk on fire"}},
		{name: "load fails", replies: []dockertest.Reply{{Args: "exec", Exit: 1, Stderr: "worker2: archive cut short"}}, want: []string{"worker2: archive cut short"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, engine, log := launcher(t, test.replies...)
			engine.AddImage(image(nil))
			engine.AddImage(dockertest.Image{Image: docker.Image{RepoTags: []string{"a", "b"}}})
			run(t, l, "--name", "box", tag)
			if test.stopped {
				if err := l.Docker.Stop(t.Context(), "box", time.Second); err != nil {
					t.Fatal(err)
				}
			}
			name, images := "box", []string{"a", "b"}
			if test.cluster != "" {
				name = test.cluster
			}
			if test.images != nil {
				images = test.images
			}
			dockertest.CheckError(t, l.LoadImages(t.Context(), name, images...), test.want...)
			if loaded := log.String() == `loaded "image a\nimage b\n"`; loaded != (test.want == nil) {
				t.Errorf("got %q", log)
			}
		})
	}
}

func TestList(t *testing.T) {
	l, engine, _ := launcher(t)
	engine.AddImage(image(nil))
	engine.AddImage(dockertest.Image{Image: docker.Image{RepoTags: []string{"other:1"}}})
	run(t, l, "--name", "bb", tag)
	run(t, l, "--name", "aa", "--label", "dind-cluster.name=aa", tag)
	run(t, l, "--name", "cc", "--label", "dind-cluster.name=cc", "other:1")
	run(t, l, "--name", "another", "other:1")
	if err := l.Docker.Stop(t.Context(), "cc", time.Second); err != nil {
		t.Fatal(err)
	}
	if err := l.WaitReady(t.Context(), "bb"); err != nil {
		t.Fatal(err)
	}
	list, err := l.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 3 || list[0].Name != "aa" || list[1].Name != "bb" || list[1].Status != "running (healthy)" || list[1].Image != tag || list[2].State != "exited" {
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
