package e2e

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dind-cluster/dind-cluster/cluster/host"
	"github.com/dind-cluster/dind-cluster/e2e/internal/census"
	"github.com/dind-cluster/dind-cluster/internal/kubeconfig"
)

// machine is the Docker host and what the tests need on it.
type machine struct {
	launcher *host.Launcher
	counter  *census.Counter
	image    host.Image
	// run is part of every name, so that runs do not meet.
	run string
	// patience is how many times longer than elsewhere things may take on this machine.
	patience time.Duration
}

// spareTime is what is left of the test's time for showing logs and removing things.
const spareTime = 60 * time.Second

// newMachine prepares a test on the local Docker. The context ends early enough for
// cleaning up.
func newMachine(t *testing.T) (context.Context, *machine) {
	t.Helper()
	l, err := host.New(&lineWriter{t: t})
	if err != nil {
		t.Fatal(err)
	}
	image, err := imageUnderTest(l)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if deadline, ok := t.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, deadline.Add(-spareTime), errors.New("the test's time is up"))
		t.Cleanup(cancel)
	}
	// The first thing, and apart from clusters' starts: it may have a gigabyte to send.
	ref, err := image.Send(ctx)
	if err != nil {
		t.Fatal(err)
	}
	counter := census.New(l.Docker)
	counter.Image = ref
	m := &machine{
		launcher: l,
		counter:  counter,
		image:    host.Present(ref),
		run:      fmt.Sprintf("e2e-%d-%d", os.Getpid(), time.Now().Unix()%100_000),
		patience: 1,
	}
	// All containers of this run have names that begin so.
	r, err := m.startReaper(ctx, ref, m.run+"-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.release(); err != nil {
			t.Error(err)
		}
	})
	return ctx, m
}

// lineWriter writes to the test's log.
type lineWriter struct {
	t    *testing.T
	mu   sync.Mutex
	line []byte
	all  bytes.Buffer
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all.Write(p)
	w.line = append(w.line, p...)
	for {
		i := bytes.IndexByte(w.line, '\n')
		if i < 0 {
			return len(p), nil
		}
		w.t.Logf("%s", w.line[:i])
		w.line = w.line[i+1:]
	}
}

func (w *lineWriter) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all.String()
}

// box is a cluster under test.
type box struct {
	*machine
	name, id string
	made     *host.Cluster
}

// options are those of a cluster with a name and a kubeconfig of its own.
func (m *machine) options(t *testing.T, suffix string, nodes int) host.Request {
	return host.Request{
		Image:      m.image,
		Name:       m.run + "-" + suffix,
		Nodes:      nodes,
		Wait:       m.patience * 150 * time.Second,
		Kubeconfig: kubeconfig.At(filepath.Join(t.TempDir(), "config")),
		// For the logs' sake; the cleaning up is the test's.
		Retain: true,
	}
}

// create makes a cluster that goes with the test, in whatever way that ends.
func (m *machine) create(ctx context.Context, t *testing.T, o host.Request) *box {
	t.Helper()
	t.Cleanup(func() { m.remove(t, o.Name) })
	return m.createKept(ctx, t, o)
}

// createKept makes a cluster that stays.
func (m *machine) createKept(ctx context.Context, t *testing.T, o host.Request) *box {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			m.dump(t, o.Name)
		}
	})
	start := time.Now()
	made, err := m.launcher.Create(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("cluster %s: docker run to all ready in %.1f s", o.Name, time.Since(start).Seconds())
	return &box{machine: m, name: o.Name, id: made.ID, made: made}
}

// cleanup is a context for cleaning up: the test's own has ended by then.
func cleanup(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(t.Context()), spareTime/2)
}

func (m *machine) remove(t *testing.T, name string) {
	ctx, cancel := cleanup(t)
	defer cancel()
	if err := m.launcher.Docker.Remove(ctx, name); err != nil {
		t.Errorf("a container is left: %v", err)
	}
}

// checkLeaks compares what there was before with what there is, and gives the kernel and
// Docker a moment: some things go only after `docker rm` has ended.
func (m *machine) checkLeaks(ctx context.Context, t *testing.T, before census.Census, belongings census.Belongings) {
	t.Helper()
	var leaks []string
	for deadline := time.Now().Add(m.patience * 10 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		after, err := m.counter.Take(ctx)
		if err != nil {
			t.Fatal(err)
		}
		leaks = census.Leaks(before, after, belongings)
		if len(leaks) == 0 || time.Now().After(deadline) {
			t.Logf("before: %s", before)
			t.Logf("after:  %s", after)
			break
		}
	}
	for _, l := range leaks {
		t.Errorf("left over: %s", l)
	}
}

// dump shows what a person would look at after a failure.
func (m *machine) dump(t *testing.T, name string) {
	ctx, cancel := cleanup(t)
	defer cancel()
	show := func(title string, out []byte, err error) {
		t.Logf("--- %s: %s\n%s", name, title, out)
		if err != nil {
			t.Log(err)
		}
	}
	docker := m.launcher.Docker
	var log bytes.Buffer
	err := docker.Logs(ctx, name, false, &log)
	show("docker logs", log.Bytes(), err)
	inside := func(title string, command ...string) []byte {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		out, err := docker.Exec(ctx, name, command...)
		show(title, out, err)
		return out
	}
	inside("nodes' containers", "docker", "ps", "--all")
	inside("objects", "kubectl", "get", "nodes,pods,services,endpointslices", "--all-namespaces", "--output=wide")
	inside("events", "kubectl", "get", "events", "--all-namespaces", "--sort-by=.lastTimestamp")
	inside("kube-proxy", "kubectl", "logs", "--namespace=kube-system", "--selector=k8s-app=kube-proxy", "--prefix", "--tail=15")
	restarted := `for p in $(kubectl get pods -n kube-system -o jsonpath='{range .items[?(@.status.containerStatuses[0].restartCount>0)]}{.metadata.name} {end}'); do
		echo "$p, before its restart:"; kubectl logs -n kube-system --previous --tail=15 $p; done`
	inside("restarted pods", "sh", "-c", restarted)
	nodes, err := docker.Exec(ctx, name, "docker", "ps", "--format", "{{.Names}}")
	if err != nil {
		t.Logf("no nodes' logs: %v", err)
		return
	}
	for _, node := range strings.Fields(string(nodes)) {
		inside(node, "docker", "exec", node, "journalctl", "--no-pager", "--lines=150", "--output=short-monotonic")
	}
}

// steps returns a function that runs steps of a test which build on each other: the first that
// fails ends the test, with the logs, while there is something to see.
func steps(t *testing.T) func(name string, f func(t *testing.T)) {
	return func(name string, f func(t *testing.T)) {
		if !t.Run(name, f) {
			t.FailNow()
		}
	}
}

// load loads the images of an archive into all nodes: runfile has its name.
func (b *box) load(ctx context.Context, t *testing.T, name string) {
	t.Helper()
	in, err := os.Open(runfile(t, name))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if err := b.launcher.Load(ctx, b.name, in); err != nil {
		t.Fatal(err)
	}
}

// log returns what the cluster has printed.
func (b *box) log(ctx context.Context, t *testing.T) string {
	t.Helper()
	var log strings.Builder
	if err := b.launcher.Docker.Logs(ctx, b.name, false, &log); err != nil {
		t.Fatal(err)
	}
	return log.String()
}

// exec runs a command in the cluster's container.
func (b *box) exec(ctx context.Context, t *testing.T, command ...string) string {
	t.Helper()
	out, err := b.launcher.Docker.Exec(ctx, b.name, command...)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// kubectl runs kubectl as `docker exec NAME kubectl` does.
func (b *box) kubectl(ctx context.Context, t *testing.T, args ...string) string {
	t.Helper()
	command := []string{"kubectl"}
	for _, a := range args {
		if timeout, ok := strings.CutPrefix(a, "--timeout="); ok {
			d, err := time.ParseDuration(timeout)
			if err != nil {
				t.Fatal(err)
			}
			a = fmt.Sprintf("--timeout=%s", b.patience*d)
		}
		command = append(command, a)
	}
	return b.exec(ctx, t, command...)
}

// apply creates the objects of a manifest below testdata.
func (b *box) apply(ctx context.Context, t *testing.T, name string, replace ...string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer(replace...).Replace(string(data))
	if _, err := b.launcher.Docker.ExecInput(ctx, b.name, strings.NewReader(text), "kubectl", "apply", "--filename=-"); err != nil {
		t.Fatal(err)
	}
}

// testImage returns the full name of an image that specs use, by its repository, as the e2e.test in
// the image has it. Of several versions, the newest.
func (b *box) testImage(ctx context.Context, t *testing.T, repository string) string {
	t.Helper()
	list := b.exec(ctx, t, "e2e.test", "--list-images")
	newest := ""
	for ref := range strings.FieldsSeq(list) {
		if strings.HasPrefix(ref, repository+":") && newer(ref, newest) {
			newest = ref
		}
	}
	if newest == "" {
		t.Fatalf("e2e.test --list-images names no %s: %s", repository, list)
	}
	return newest
}

// newer reports whether an image's tag is a later version than another's of the same name: 2.10 is
// later than 2.9.
func newer(ref, than string) bool {
	numbers := regexp.MustCompile(`\d+|\D+`)
	return slices.CompareFunc(numbers.FindAllString(ref, -1), numbers.FindAllString(than, -1), func(a, b string) int {
		x, errX := strconv.Atoi(a)
		y, errY := strconv.Atoi(b)
		if errX != nil || errY != nil {
			return strings.Compare(a, b)
		}
		return cmp.Compare(x, y)
	}) > 0
}

func TestNewer(t *testing.T) {
	for _, tt := range []struct{ ref, than string }{
		{"r/agnhost:2.10", "r/agnhost:2.9"}, {"r/busybox:1.37.0-1", "r/busybox:1.36.1-9"}, {"r/nginx:1.14-4", "r/nginx:1.14-2"},
		{"r/nginx:1.15-1", "r/nginx:1.14-10"}, {"r/etcd:3.7.0-0", "r/etcd:3.7.0"}, {"r/pause:3.9", ""},
	} {
		if !newer(tt.ref, tt.than) || newer(tt.than, tt.ref) || newer(tt.ref, tt.ref) {
			t.Errorf("%s is not newer than %q, or is newer than itself", tt.ref, tt.than)
		}
	}
}

// pod is what the tests look at in a pod.
type pod struct {
	Metadata struct {
		Name, Namespace, UID string
	}
	Spec   struct{ NodeName string }
	Status struct {
		Phase, PodIP, HostIP string
		ContainerStatuses    []struct {
			Ready        bool
			RestartCount int
		}
	}
}

func (b *box) pods(ctx context.Context, t *testing.T, args ...string) []pod {
	t.Helper()
	var list struct{ Items []pod }
	decode(t, b.kubectl(ctx, t, append([]string{"get", "pods", "--output=json"}, args...)...), &list)
	return list.Items
}

type node struct {
	Metadata struct{ Name string }
	Status   struct {
		Addresses  []struct{ Type, Address string }
		Conditions []struct{ Type, Status string }
		NodeInfo   struct{ KubeletVersion, ContainerRuntimeVersion string }
	}
}

func (n node) ready() bool {
	for _, c := range n.Status.Conditions {
		if c.Type == "Ready" {
			return c.Status == "True"
		}
	}
	return false
}

func (n node) ip() string {
	for _, a := range n.Status.Addresses {
		if a.Type == "InternalIP" {
			return a.Address
		}
	}
	return ""
}

func (b *box) nodes(ctx context.Context, t *testing.T) []node {
	t.Helper()
	var list struct{ Items []node }
	decode(t, b.kubectl(ctx, t, "get", "nodes", "--output=json"), &list)
	return list.Items
}

// dial has a web pod send a request to an address, and returns who answered: the name of
// a pod.
func (b *box) dial(ctx context.Context, t *testing.T, from pod, protocol, host string, port int) string {
	t.Helper()
	query := url.Values{"protocol": {protocol}, "host": {host}, "port": {fmt.Sprint(port)}, "request": {"hostname"}, "tries": {"1"}}
	path := fmt.Sprintf("/api/v1/namespaces/default/pods/%s:8080/proxy/dial?%s", from.Metadata.Name, query.Encode())
	var last string
	// Endpoints and forwarding rules reach the nodes a moment after the pods are ready, and
	// there is nothing to wait on.
	for deadline := time.Now().Add(b.patience * 15 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		out, err := b.launcher.Docker.Exec(ctx, b.name, "kubectl", "get", "--raw", path)
		if ctx.Err() != nil {
			t.Fatal(context.Cause(ctx))
		}
		last = fmt.Sprintf("%s %v", out, err)
		var answer struct{ Responses []string }
		if err == nil && json.Unmarshal(out, &answer) == nil && len(answer.Responses) == 1 {
			return answer.Responses[0]
		}
	}
	t.Errorf("%s on %s does not reach %s %s:%d: %s", from.Metadata.Name, from.Spec.NodeName, protocol, host, port, last)
	return ""
}

// hostGet asks the API server from the Docker host, with nothing but the kubeconfig.
func hostGet(ctx context.Context, t *testing.T, file, name, path string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	config, err := kubeconfig.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	if config.Name != name {
		t.Fatalf("%s: got context %q, want %q", file, config.Name, name)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(config.CA)
	pair, err := tls.X509KeyPair(config.Cert, config.Key)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}}}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, config.Server+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s %v: %s", path, resp.Status, err, body)
	}
	return string(body)
}

func decode(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%v in %.300q", err, text)
	}
}

// restart stops and starts the container, and waits until the cluster is ready.
func (b *box) restart(ctx context.Context, t *testing.T) {
	t.Helper()
	if err := b.launcher.Docker.Stop(ctx, b.name, 30*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := b.launcher.Docker.Start(ctx, b.name); err != nil {
		t.Fatal(err)
	}
	if err := b.launcher.WaitReady(ctx, b.name); err != nil {
		t.Fatal(err)
	}
}

// checkMembers checks that just these are members of etcd, all of them healthy within a minute, and
// that each has all pods of a control plane.
func (b *box) checkMembers(ctx context.Context, t *testing.T, want []string) {
	t.Helper()
	deadline := time.Now().Add(b.patience * time.Minute)
	for _, node := range want {
		for {
			// A node that has just started again has no etcd for a moment.
			out, err := b.launcher.Docker.Exec(ctx, b.name, "docker", "exec", node, "sh", "-c",
				"runner etcdctl member list && runner etcdctl endpoint health --cluster")
			list := string(out)
			if err == nil && strings.Count(list, ", started, ") == len(want) {
				for _, n := range want {
					if !strings.Contains(list, ", "+n+", ") {
						t.Errorf("%s is no member:\n%s", n, list)
					}
				}
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("want the members %q, there are\n%s%v", want, list, err)
			}
			time.Sleep(50 * time.Millisecond)
		}
		for _, component := range []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"} {
			b.kubectl(ctx, t, "wait", "--namespace=kube-system", "--for=condition=Ready", "pod/"+component+"-"+node, "--timeout=60s")
		}
	}
}

// controlPlanes are the names of three.
var controlPlanes = []string{"control-plane", "control-plane2", "control-plane3"}

// waitFor repeats f until it returns nil, for half a minute at most.
func (b *box) waitFor(ctx context.Context, t *testing.T, what string, f func() error) {
	t.Helper()
	for deadline := time.Now().Add(b.patience * 30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		err := f()
		if err == nil {
			return
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
	}
}
