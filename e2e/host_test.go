package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dind-cluster/dind-cluster/cluster/host"
)

// testHost checks what the nodes see of the machine, which is the same one for all of them.
func testHost(ctx context.Context, t *testing.T, b *box) {
	onNode := func(command string) string {
		t.Helper()
		return strings.TrimSpace(b.exec(ctx, t, "docker", "exec", "worker1", "sh", "-c", command))
	}
	for setting, want := range map[string]string{"kernel/panic": "10", "vm/overcommit_memory": "1"} {
		if got := onNode("cat /proc/sys/" + setting); got != want {
			t.Errorf("the kubelet finds %s to be %s, wants %s", setting, got, want)
		}
	}
	// With its own value, so that nothing changes if it can be written.
	if got := onNode(`f=/proc/sys/vm/max_map_count; v=$(cat $f); echo $v 2>/dev/null >$f && echo writable || echo no`); got != "no" {
		t.Errorf("/proc/sys/vm is %s", got)
	}
	// What is of the network namespace kube-proxy has set: upstream's time-out of connections that
	// are closed on one side.
	if got := onNode("cat /proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close_wait"); got != "3600" {
		t.Errorf("connections that are half closed are forgotten after %s s, want 3600", got)
	}
	// As a pod with hostUsers: false gets its own.
	onNode("unshare --user --map-root-user --mount --pid --fork mount -t proc -o nosuid,nodev,noexec proc /mnt")
	onNode("test -b /dev/loop255 && test -c /dev/loop-control")

	// No user asks for more time than this, and a cluster that has it is not unhealthy meanwhile.
	period, err := b.launcher.Docker.Output(ctx, "look at the health check", "container", "inspect", "--format", "{{json .Config.Healthcheck.StartPeriod}}", b.name)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(string(period)); got != fmt.Sprint(int64(24*time.Hour)) {
		t.Errorf("a cluster may take %s ns until it is unhealthy, want 24 h", got)
	}

	ids := map[string]string{}
	for _, n := range strings.Fields(b.kubectl(ctx, t, "get", "nodes", "--output=jsonpath={range .items[*]}{.metadata.name}={.status.nodeInfo.systemUUID}={.status.nodeInfo.machineID}{\"\\n\"}{end}")) {
		name, id, _ := strings.Cut(n, "=")
		if other, taken := ids[id]; taken {
			t.Errorf("%s and %s are the same machine: %s", name, other, id)
		}
		ids[id] = name
	}
}

// testNeighbour checks what another container on the same network reaches, by a route through the
// cluster's: what is published, and nothing else.
func testNeighbour(ctx context.Context, t *testing.T, b *box) {
	info, err := b.launcher.Docker.Inspect(ctx, b.name)
	if err != nil {
		t.Fatal(err)
	}
	gateway := ""
	for _, n := range info.NetworkSettings.Networks {
		gateway = n.IPAddress
	}
	web := b.pods(ctx, t, "--selector=app=web", "--field-selector=status.phase=Running")
	node := b.nodes(ctx, t)[0].ip()
	service := strings.TrimSpace(b.kubectl(ctx, t, "get", "service", "web", "--output=jsonpath={.spec.clusterIP}"))
	address := func(host string, port int) string { return fmt.Sprintf("%s/%d", host, port) }
	open := []string{address(gateway, 6443)}
	closed := []string{
		address(node, 6443), address(node, 10250), address(node, httpNodePort),
		address(web[0].Status.PodIP, httpPort), address(service, servicePort), address("10.250.0.1", 53),
	}
	// From inside all of them are open: otherwise that they are closed would mean nothing.
	reach := func(addresses []string) string {
		var script strings.Builder
		for _, a := range addresses {
			fmt.Fprintf(&script, "if timeout 2 bash -c '</dev/tcp/%[1]s' 2>/dev/null; then echo %[1]s; fi; ", a)
		}
		return script.String()
	}
	if got := strings.Fields(b.exec(ctx, t, "bash", "-c", reach(closed))); !slices.Equal(got, closed) {
		t.Fatalf("from the cluster's own container %q are open, want %q", got, closed)
	}
	route := fmt.Sprintf("for n in 10.250.0.0/24 10.244.0.0/16 10.96.0.0/16; do ip route add $n via %s || exit; done; ", gateway)
	out, err := b.launcher.Docker.Output(ctx, "look from a neighbour", "run", "--rm", "--pull", "never", "--name", b.name+"-neighbour",
		"--cap-add", "NET_ADMIN", "--entrypoint", "bash", info.Config.Image, "-c", route+reach(slices.Concat(open, closed)))
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Fields(string(out)); !slices.Equal(got, open) {
		t.Errorf("a neighbour reaches %q, want %q", got, open)
	}
}

// TestRefused has the containers that would change something for others: they end before they have
// changed anything.
func TestRefused(t *testing.T) {
	ctx, m := newMachine(t)
	ref, err := m.image.Send(ctx)
	if err != nil {
		t.Fatal(err)
	}
	server := m.run + "-server"
	t.Cleanup(func() { m.remove(t, server) })
	// The forwarder listens at an address that need not exist.
	const forwarder = `mkdir -p /run/dind-cluster
printf 'apiVersion: dind-cluster.github.io/v1alpha1\nkind: Cluster\n' > /run/dind-cluster/settings.yaml
exec runner dns`
	if _, err := m.launcher.Docker.Run(ctx, "--pull", "never", "--name", server, "--entrypoint", "sh", ref, "-c", forwarder); err != nil {
		t.Fatal(err)
	}
	before, err := m.counter.Take(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ option, want string }{
		{"--network=host", "shares a network namespace"},
		{"--network=container:" + server, "a program listens at 10.250.0.1:53"},
		{"--uts=host", "shares a UTS namespace"},
		{"--pid=host", "must be process 1"},
		{"--init", "--init=false"},
	} {
		t.Run(test.option, func(t *testing.T) {
			name := m.run + "-refused"
			t.Cleanup(func() { m.remove(t, name) })
			ctx, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			_, err := m.launcher.Docker.Output(ctx, "start it", "run", "--pull", "never", "--name", name, "--privileged", test.option, ref)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error that says %q", err, test.want)
			}
		})
	}
	m.checkLeaks(ctx, t, before, nil)
}

// badDaemon has Docker fail each time it starts.
func badDaemon(t *testing.T, o *host.Request) {
	file := filepath.Join(t.TempDir(), "daemon.json")
	if err := os.WriteFile(file, []byte(`{"no-such-setting": true}`), 0o644); err != nil {
		t.Fatal(err)
	}
	o.RunArgs = []string{"--volume", file + ":/etc/docker/daemon.json:ro"}
}
