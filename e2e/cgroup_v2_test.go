package e2e

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/dind-cluster/dind-cluster/e2e/host/testhost"
)

// Where Bazel has put the test host's kernel and root file system, below $TEST_SRCDIR.
const hostKernelFile, hostRootFile = "DIND_CLUSTER_HOST_KERNEL_FILE", "DIND_CLUSTER_HOST_ROOT_FILE"

// TestMain has the tests run in the test host, whose cgroups are of version 2.
func TestMain(m *testing.M) {
	testhost.Init()
	if os.Getenv(hostKernelFile) == "" {
		os.Exit(m.Run())
	}
	code, err := runInTestHost()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// runInTestHost runs this program with the same arguments in the test host.
func runInTestHost() (int, error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	dir, err := os.Getwd()
	if err != nil {
		return 0, err
	}
	runfiles := os.Getenv("TEST_SRCDIR")
	shares, err := targets(runfiles)
	if err != nil {
		return 0, err
	}
	o := testhost.Options{
		Linux:   filepath.Join(runfiles, os.Getenv(hostKernelFile)),
		Root:    filepath.Join(runfiles, os.Getenv(hostRootFile)),
		Memory:  8 << 30,
		Disk:    40 << 30,
		CPUs:    2,
		Shares:  shares,
		Command: append([]string{self}, os.Args[1:]...),
		Dir:     dir,
		Stdout:  os.Stdout,
		Stderr:  os.Stderr,
	}
	for _, name := range []string{"DIND_CLUSTER_IMAGE_FILE", "DIND_CLUSTER_AGNHOST_FILE", "TEST_SRCDIR", "TEST_WORKSPACE", "TEST_UNDECLARED_OUTPUTS_DIR"} {
		if value := os.Getenv(name); value != "" {
			o.Env = append(o.Env, name+"="+value)
		}
	}
	if outputs := os.Getenv("TEST_UNDECLARED_OUTPUTS_DIR"); outputs != "" {
		o.Shares = append(o.Shares, outputs+":rw")
	}
	for _, file := range []*string{&o.Linux, &o.Root} {
		if *file, err = filepath.EvalSymlinks(*file); err != nil {
			return 0, err
		}
	}
	return testhost.Run(ctx, o)
}

// targets are directories with all that the links below a directory lead to, and with the directory
// itself. They are as few as can be and hide nothing of the test host's own, as /var or /var/lib
// would.
func targets(dir string) ([]string, error) {
	const depth = 3
	found := map[string]bool{}
	add := func(path string) {
		parts := strings.SplitN(filepath.Dir(path), "/", depth+2)
		found[strings.Join(parts[:min(len(parts), depth+1)], "/")] = true
	}
	add(filepath.Join(dir, "any"))
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&fs.ModeSymlink == 0 {
			return err
		}
		target, err := filepath.EvalSymlinks(path)
		if err != nil {
			return err
		}
		add(target)
		return nil
	})
	return slices.Sorted(maps.Keys(found)), err
}

// TestCgroupV2 follows a cluster from its start to its removal on a host with cgroups of version 2.
// It judges what happens, not how long it takes: the test host's processors are slow.
func TestCgroupV2(t *testing.T) {
	const root = "/sys/fs/cgroup"
	host, err := os.ReadFile(root + "/cgroup.controllers")
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("this machine has no cgroups of version 2")
	} else if err != nil {
		t.Fatal(err)
	}
	step := steps(t)
	step("kernel", func(t *testing.T) { testKernel(t.Context(), t) })
	ctx, m := newMachine(t)
	before, err := m.counter.Take(ctx)
	if err != nil {
		t.Fatal(err)
	}
	m.patience = 10
	o := m.options(t, "v2", 3)
	b := m.create(ctx, t, o)

	step("nodes", func(t *testing.T) { testNodes(ctx, t, b, o) })
	step("controllers", func(t *testing.T) { testControllers(ctx, t, b, strings.Fields(string(host))) })
	step("image", func(t *testing.T) { b.load(ctx, t, "AGNHOST") })
	step("limits", func(t *testing.T) { testLimits(ctx, t, b) })
	step("user namespace", func(t *testing.T) { testUserNamespace(ctx, t, b) })
	step("node down", func(t *testing.T) { testNodeDown(ctx, t, b) })
	step("network", func(t *testing.T) { testWeb(ctx, t, b) })
	step("host", func(t *testing.T) { testHost(ctx, t, b) })
	step("specs", func(t *testing.T) { testHostSpecs(ctx, t, b) })
	step("restart", func(t *testing.T) { testRestart(ctx, t, b, o) })
	step("removal", func(t *testing.T) {
		belongings, err := m.counter.Of(ctx, b.id)
		if err != nil {
			t.Fatal(err)
		}
		if found, err := m.launcher.Delete(ctx, b.name, o.Kubeconfig); err != nil || !found {
			t.Fatalf("delete: found %v, %v", found, err)
		}
		m.checkLeaks(ctx, t, before, belongings)
	})
}

// testControllers checks that each node has all controllers that the host has.
func testControllers(ctx context.Context, t *testing.T, b *box, host []string) {
	for _, c := range []string{"cpu", "cpuset", "io", "memory", "misc", "pids"} {
		if !slices.Contains(host, c) {
			t.Errorf("the host lacks the controller %s: it has %q", c, host)
		}
	}
	// What systemd limits a container to by itself, Docker leaves so for --pids-limit -1.
	tasks, err := os.ReadFile("/sys/fs/cgroup/system.slice/docker-" + b.id + ".scope/pids.max")
	if got := strings.TrimSpace(string(tasks)); err != nil || got != "1000000" {
		t.Errorf("the cluster may have %q tasks, want 1000000: %v", got, err)
	}
	for _, n := range b.nodes(ctx, t) {
		if got := strings.TrimSpace(b.exec(ctx, t, "docker", "exec", n.Metadata.Name, "cat", "/sys/fs/cgroup/pids.max")); got != "max" {
			t.Errorf("node %s may have %s tasks of the cluster's, want all", n.Metadata.Name, got)
		}
		for _, file := range []string{"cgroup.controllers", "cgroup.subtree_control", "kubepods.slice/cgroup.controllers"} {
			got := strings.Fields(b.exec(ctx, t, "docker", "exec", n.Metadata.Name, "cat", "/sys/fs/cgroup/"+file))
			for _, c := range host {
				// systemd hands on what its units may have limits of, the kubelet what it knows.
				if !slices.Contains(got, c) && !(c == "misc" && file != "cgroup.controllers") {
					t.Errorf("node %s lacks the controller %s in %s: it has %q", n.Metadata.Name, c, file, got)
				}
			}
		}
	}
}

// testLimits checks that a pod and its containers have their limits, each in a cgroup of its own
// below the cluster's, and that a container which takes more memory than it may ends alone.
func testLimits(ctx context.Context, t *testing.T, b *box) {
	b.apply(ctx, t, "limits.yaml", "AGNHOST", b.testImage(ctx, t, "registry.k8s.io/e2e-test-images/agnhost"))
	b.kubectl(ctx, t, "wait", "--for=condition=Ready", "pod/limits", "--timeout=60s")
	uid := strings.ReplaceAll(b.kubectl(ctx, t, "get", "pod/limits", "--output=jsonpath={.metadata.uid}"), "-", "_")
	others := b.pods(ctx, t, "--all-namespaces", "--field-selector=metadata.name!=limits")

	// As the host has them: below the cluster's, and in it below a node's.
	const root = "/sys/fs/cgroup"
	var found []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if strings.HasSuffix(path, "/kubepods.slice/kubepods-pod"+uid+".slice") {
			found = append(found, path)
		}
		return nil // Some go meanwhile.
	})
	if err != nil || len(found) != 1 || !strings.HasPrefix(found[0], root+"/system.slice/docker-"+b.id+".scope/") {
		t.Fatalf("the pod's cgroups are %q, want one in the cluster's, %s (%v)", found, b.id, err)
	}
	t.Log(found[0])
	check := func(path, file, want string) {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(path, file))
		if got := strings.TrimSpace(string(data)); err != nil || got != want {
			t.Errorf("%s of %s is %q, want %q (%v)", file, path, got, want, err)
		}
	}
	check(found[0], "memory.max", fmt.Sprint(80<<20))
	check(found[0], "cpu.max", "75000 100000")
	for name, want := range map[string][2]string{"greedy": {fmt.Sprint(48 << 20), "50000 100000"}, "modest": {fmt.Sprint(32 << 20), "25000 100000"}} {
		id := b.kubectl(ctx, t, "get", "pod/limits", `--output=jsonpath={.status.containerStatuses[?(@.name=="`+name+`")].containerID}`)
		path := filepath.Join(found[0], "cri-containerd-"+strings.TrimPrefix(id, "containerd://")+".scope")
		check(path, "memory.max", want[0])
		check(path, "cpu.max", want[1])
		check(path, "pids.max", "max")
		if data, err := os.ReadFile(filepath.Join(path, "pids.current")); err != nil || strings.TrimSpace(string(data)) == "0" {
			t.Errorf("the processes of %s are not in %s: %q, %v", name, path, data, err)
		}
	}

	b.kubectl(ctx, t, "exec", "limits", "--container=greedy", "--", "touch", "/tmp/go")
	const status = `{.status.containerStatuses[?(@.name=="greedy")].lastState.terminated.reason}`
	b.kubectl(ctx, t, "wait", "--for=jsonpath="+status+"=OOMKilled", "pod/limits", "--timeout=60s")
	if got := b.kubectl(ctx, t, "get", "pod/limits", `--output=jsonpath={.status.containerStatuses[?(@.name=="modest")].restartCount}`); got != "0" {
		t.Errorf("the container beside the one that took too much has started again %s times", got)
	}
	checkUntouched(t, others, b.pods(ctx, t, "--all-namespaces"))
	b.kubectl(ctx, t, "delete", "pod/limits", "--wait=false")
}

// testHostSpecs runs those of the slice's specs that have to do with nodes and networks.
func testHostSpecs(ctx context.Context, t *testing.T, b *box) {
	// One at a time: eight processes of e2e.test take this machine's processors away from the API server
	// for longer than its liveness probe waits.
	want, args := []string{}, []string{"--parallel=1"}
	for _, s := range slice {
		if strings.HasPrefix(s, "[sig-node]") || strings.HasPrefix(s, "[sig-network]") {
			want, args = append(want, s), append(args, "--spec="+s)
		}
	}
	directory := outputs(t)
	if err := b.runSuite(ctx, t, directory, args...); err != nil {
		t.Error(err)
	}
	checkSpecs(t, directory, want)
}
