package cluster

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dind-cluster/dind-cluster/tools/internal/docker/dockertest"
	"github.com/dind-cluster/dind-cluster/tools/internal/progress"
	"github.com/dind-cluster/dind-cluster/tools/runner/kubeapi"
	"github.com/dind-cluster/dind-cluster/tools/runner/node"
	"github.com/dind-cluster/dind-cluster/tools/runner/plan"
	"github.com/dind-cluster/dind-cluster/tools/runner/store"
)

func TestMain(m *testing.M) { dockertest.Main(m) }

func TestCheckDisk(t *testing.T) {
	if err := checkDisk(3, 100<<30); err != nil {
		t.Error(err)
	}
	err := checkDisk(3, 1<<30)
	for _, want := range []string{"/var/lib/docker has 1.1 GB free", "3 nodes", "docker system prune"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error that says %q", err, want)
		}
	}
}

func TestCheckSubnets(t *testing.T) {
	for attached, want := range map[string]string{
		"172.17.0.0/16": "",
		"10.250.0.0/16": "NODE_SUBNET 10.250.0.0/24 overlaps the network 10.250.0.0/16",
		"10.244.7.0/24": "POD_SUBNET 10.244.0.0/16",
		"10.0.0.0/8":    "docker run --env NODE_SUBNET=",
	} {
		err := checkSubnets(plan.Default(), []netip.Prefix{netip.MustParsePrefix(attached)})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v, want %q", attached, err, want)
		}
	}
}

func TestRoutes(t *testing.T) {
	p := plan.Default()
	p.Nodes = 2
	want := `route replace 10.96.0.0/16 via 10.250.0.2 dev nodes
route replace 10.244.0.0/24 via 10.250.0.2 dev nodes
route replace 10.244.1.0/24 via 10.250.0.3 dev nodes
`
	if got := routes(p); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	p.PodNetwork = "none"
	if got := routes(p); strings.Count(got, "\n") != 1 {
		t.Errorf("got\n%s\nwant a route to the services only", got)
	}
}

func TestRunArgs(t *testing.T) {
	p := plan.Default()
	for index, want := range []string{
		"--name control-plane --hostname control-plane --label dind-cluster.node=control-plane --label dind-cluster.node.role=control-plane --privileged --cgroupns private --network nodes --ip 10.250.0.2 --restart no --volume /var/lib/dind-cluster/nodes/control-plane:/etc/dind-cluster:ro --volume /run/dind-cluster/nodes:/var/lib/dind-cluster/status --publish 6443:6443",
		"--name worker1 --hostname worker1 --label dind-cluster.node=worker1 --label dind-cluster.node.role=worker --privileged --cgroupns private --network nodes --ip 10.250.0.3 --restart no --volume /var/lib/dind-cluster/nodes/worker1:/etc/dind-cluster:ro --volume /run/dind-cluster/nodes:/var/lib/dind-cluster/status",
	} {
		if got := strings.Join(runArgs(p.Node(index)), " "); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// A node that dies ends the start at once, whatever is being waited for.
func TestNodeDies(t *testing.T) {
	client, _ := dockertest.New(t, dockertest.Reply{
		Args:   "events",
		Stdout: `{"Type":"container","Action":"die","Actor":{"ID":"1","Attributes":{"name":"worker1","exitCode":"137"}}}` + "\n",
		Hang:   true,
	})
	ctx, fail := context.WithCancelCause(t.Context())
	defer fail(nil)
	c := &cluster{docker: client, fail: fail}
	c.watch(ctx)
	select {
	case <-ctx.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("nothing happened")
	}
	if err := context.Cause(ctx); !strings.Contains(err.Error(), "node worker1 stopped while the cluster was starting (exit status 137)") {
		t.Errorf("got %v", err)
	}
}

func TestReports(t *testing.T) {
	ctx, fail := context.WithCancelCause(t.Context())
	defer fail(nil)
	var out strings.Builder
	c := &cluster{fail: fail, log: progress.New(&out), failures: &failures{}}
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() { c.receive(ours); close(done) }()
	send := json.NewEncoder(theirs)
	for _, r := range []node.Report{
		{Node: "worker1", Step: "kubeadm join", Took: 1500 * time.Millisecond},
		{Node: "worker2", Error: "kubeadm join: exit status 1", Log: "the reason\n"},
	} {
		if err := send.Encode(r); err != nil {
			t.Fatal(err)
		}
	}
	_, _ = io.WriteString(theirs, "garbage")
	theirs.Close()
	<-done
	if !strings.Contains(out.String(), "worker1: kubeadm join (1.50 s)") {
		t.Errorf("progress is %q", out.String())
	}
	if err := context.Cause(ctx); err == nil || err.Error() != "node worker2: kubeadm join: exit status 1" {
		t.Errorf("got %v", err)
	}
	if all := c.failures.all(); len(all) != 1 || all[0].Log != "the reason\n" {
		t.Errorf("got %+v", all)
	}
}

func TestReadiness(t *testing.T) {
	started := time.Date(2026, 1, 1, 12, 0, 0, 900, time.UTC)
	for _, test := range []struct {
		name, node, why string
	}{
		{"fresh", `{"status":{"conditions":[{"type":"Ready","status":"True","lastHeartbeatTime":"2026-01-01T12:00:00Z"}]}}`, ""},
		{"before the restart", `{"status":{"conditions":[{"type":"Ready","status":"True","lastHeartbeatTime":"2026-01-01T11:59:59Z"}]}}`, "has not reported yet"},
		{"not ready", `{"status":{"conditions":[{"type":"Ready","status":"False","message":"no CNI"}]}}`, "no CNI"},
		{"new", `{}`, "no status yet"},
	} {
		var n kubeapi.Node
		if err := json.Unmarshal([]byte(test.node), &n); err != nil {
			t.Fatal(err)
		}
		if ok, why := nodeReady(n, started); why != test.why || ok != (why == "") {
			t.Errorf("node %s: got %v, %q", test.name, ok, why)
		}
	}
	for _, test := range []struct {
		name, pod, why string
	}{
		{"fresh", `{"status":{"conditions":[{"type":"Ready","status":"True"}],"containerStatuses":[{"name":"c","state":{"running":{"startedAt":"2026-01-01T12:00:00Z"}}}]}}`, ""},
		{"before the restart", `{"status":{"conditions":[{"type":"Ready","status":"True"}],"containerStatuses":[{"name":"c","state":{"running":{"startedAt":"2026-01-01T11:00:00Z"}}}]}}`, "has not started again"},
		{"no image", `{"status":{"containerStatuses":[{"name":"c","state":{"waiting":{"reason":"ErrImageNeverPull"}}}]}}`, "ErrImageNeverPull"},
		{"ended", `{"status":{"containerStatuses":[{"name":"c","state":{"terminated":{"reason":"Error","exitCode":1}}}]}}`, "container c is not running"},
		{"not scheduled", `{"status":{"conditions":[{"type":"PodScheduled","status":"False"}]}}`, "no status yet"},
	} {
		var p kubeapi.Pod
		if err := json.Unmarshal([]byte(test.pod), &p); err != nil {
			t.Fatal(err)
		}
		if ok, why := podReady(p, started); why != test.why || ok != (why == "") {
			t.Errorf("pod %s: got %v, %q", test.name, ok, why)
		}
	}
}

func TestSecretsAreNew(t *testing.T) {
	a, err := newSecrets(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	b, err := newSecrets(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if a.Token == b.Token || a.CertificateKey == b.CertificateKey || string(a.CA.Key) == string(b.CA.Key) {
		t.Error("two clusters share a secret")
	}
	c := &cluster{plan: plan.Default(), secrets: a}
	if err := c.connect(); err != nil {
		t.Error(err)
	}
}

func TestImageName(t *testing.T) {
	for _, test := range []struct{ index, want, wantErr string }{
		{`{"manifests":[{"annotations":{"io.containerd.image.name":"dind-node:v1","org.opencontainers.image.ref.name":"v1"}}]}`, "dind-node:v1", ""},
		{`{"manifests":[{"annotations":{"org.opencontainers.image.ref.name":"dind-node:v1"}}]}`, "dind-node:v1", ""},
		{`{"manifests":[{}]}`, "", "does not name the image"},
		{`{"manifests":[{},{}]}`, "", "names 2 images"},
		{`{`, "", "reading index.json"},
	} {
		got, err := imageName([]byte(test.index))
		if got != test.want || (err == nil) != (test.wantErr == "") || err != nil && !strings.Contains(err.Error(), test.wantErr) {
			t.Errorf("%s: got %q, %v", test.index, got, err)
		}
	}
}

func TestStoreMounts(t *testing.T) {
	dir := t.TempDir()
	nodeStore, root := filepath.Join(dir, "store"), filepath.Join(dir, "root")
	if got, err := storeMounts(nodeStore, root); got != nil || err != nil {
		t.Errorf("no store: %q, %v", got, err)
	}
	// One snapshot without images, two with; one of them is copied.
	for _, path := range []string{
		nodeStore + "/" + store.Snapshots + "/1/fs/usr/bin",
		nodeStore + "/" + store.Snapshots + "/2/fs/usr/lib/dind-cluster/store/kubernetes",
		nodeStore + "/" + store.Snapshots + "/3/fs/usr/lib/dind-cluster/store/third-party",
		root + "/" + store.Snapshots + "/3/fs/usr/lib/dind-cluster/store/third-party",
	} {
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := storeMounts(nodeStore, root); err == nil || !strings.Contains(err.Error(), "snapshots/2") {
		t.Errorf("a snapshot that was not linked: %v", err)
	}
	for _, id := range []string{"1", "2"} {
		if err := os.Symlink(filepath.Join(nodeStore, store.Snapshots, id), filepath.Join(root, store.Snapshots, id)); err != nil {
			t.Fatal(err)
		}
	}
	got, err := storeMounts(nodeStore, root)
	want := "--volume " + nodeStore + "/" + store.Snapshots + "/2/fs/usr/lib/dind-cluster/store/kubernetes:/usr/lib/dind-cluster/store/kubernetes:ro" +
		" --volume " + root + "/" + store.Snapshots + "/3/fs/usr/lib/dind-cluster/store/third-party:/usr/lib/dind-cluster/store/third-party:ro"
	if err != nil || strings.Join(got, " ") != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}
