package inside

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/cluster/kubeadm"
	"github.com/dind-cluster/dind-cluster/cluster/topology"
	"sigs.k8s.io/yaml"
)

func TestField(t *testing.T) {
	text := []byte("rchar: 1\nwrite_bytes: 4096\ncancelled_write_bytes: 12\nPss:   77 kB\nodd\n")
	for name, want := range map[string]int64{"write_bytes:": 4096, "cancelled_write_bytes:": 12, "Pss:": 77, "none:": 0, "odd": 0} {
		if got := field(text, name); got != want {
			t.Errorf("%s: got %d, want %d", name, got, want)
		}
	}
}

func TestCPUTime(t *testing.T) {
	for stat, want := range map[string]float64{
		"1 (a) b (c) S 0 1 1 0 -1 4194560 1 2 3 4 100 50 7 3 20 0 1 0 5": 1.6,
		"1 (x) S 0": 0,
		"":          0,
	} {
		if got := cpuTime([]byte(stat)); float64(got) != want {
			t.Errorf("%q: got %v, want %v", stat, got, want)
		}
	}
}

func TestWorkingSet(t *testing.T) {
	const id = "0123abc"
	write := func(path, text string) {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		cgroup string
		files  map[string]string
	}{
		"v2": {
			"0::/system.slice/docker-0123abc.scope/init.scope\n",
			map[string]string{"system.slice/docker-0123abc.scope/memory.current": "100\n", "system.slice/docker-0123abc.scope/memory.stat": "anon 1\ninactive_file 30\n"},
		},
		"v1": {
			"9:name=systemd:/docker/0123abc/init.scope\n4:memory:/docker/0123abc\n",
			map[string]string{"memory/docker/0123abc/memory.usage_in_bytes": "100\n", "memory/docker/0123abc/memory.stat": "inactive_file 3\ntotal_inactive_file 30\n"},
		},
		"v1, seen from a cgroup namespace": {
			"4:memory:/docker/fff/system.slice/docker-0123abc.scope/init.scope\n",
			map[string]string{"memory/system.slice/docker-0123abc.scope/memory.usage_in_bytes": "100\n", "memory/system.slice/docker-0123abc.scope/memory.stat": "total_inactive_file 30\n"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for path, text := range test.files {
				write(filepath.Join(root, path), text)
			}
			file := filepath.Join(root, "cgroup")
			write(file, test.cgroup)
			if got, err := workingSet(root, file, id); err != nil || got != 70 {
				t.Errorf("got %d, %v", got, err)
			}
			if _, err := workingSet(root, file, "other"); err == nil || !strings.Contains(err.Error(), "no memory cgroup") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestRootUpper(t *testing.T) {
	for line, want := range map[string]string{
		"1 2 0:3 / / rw,relatime shared:1 - overlay overlay rw,lowerdir=/l,upperdir=/var/lib/docker/overlay2/x/diff,workdir=/w": "/var/lib/docker/overlay2/x/diff",
		"1 2 0:3 / / rw - overlay overlay rw,lowerdir=/l,workdir=/w,upperdir=/u":                                                "/u",
		"1 2 0:3 / /mnt rw - overlay overlay rw,upperdir=/u":                                                                    "",
		"1 2 8:1 / / rw - ext4 /dev/sda1 rw":                                                                                    "",
		"":                                                                                                                      "",
	} {
		got, ok := rootUpper(line)
		if ok != (want != "") || ok && got != want {
			t.Errorf("%q: got %q, %v", line, got, ok)
		}
	}
}

func TestDiskUse(t *testing.T) {
	dir := t.TempDir()
	data := make([]byte, 64<<10)
	for i := range data {
		data[i] = byte(i)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), data, 0o644); err != nil {
		t.Fatal(err)
	}
	before, err := diskUse(dir)
	if err != nil || before < 64<<10 || before > 80<<10 {
		t.Errorf("got %d, %v", before, err)
	}
	if err := os.Link(filepath.Join(dir, "file"), filepath.Join(dir, "same")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/usr", filepath.Join(dir, "elsewhere")); err != nil {
		t.Fatal(err)
	}
	if after, err := diskUse(dir); err != nil || after > before+4096 {
		t.Errorf("a hard link and a symbolic one take %d bytes, %v", after-before, err)
	}
	if _, err := diskUse(filepath.Join(dir, "none")); err == nil {
		t.Error("no error for a directory that is not there")
	}
}

func TestUnitSpans(t *testing.T) {
	text := `Id=containerd.service
InactiveExitTimestampMonotonic=1000000
ActiveEnterTimestampMonotonic=1250000

Id=docker.service
InactiveExitTimestampMonotonic=0
ActiveEnterTimestampMonotonic=0

Id=kubelet.service
InactiveExitTimestampMonotonic=3000000
ActiveEnterTimestampMonotonic=3000000
`
	spans := unitSpans("worker1", "", text, "InactiveExitTimestampMonotonic", "ActiveEnterTimestampMonotonic", time.Hour)
	if len(spans) != 2 || spans[0].Name != "containerd" || spans[0].Lane != "worker1" || spans[0].End.Sub(spans[0].Start) != 250*time.Millisecond ||
		!spans[0].Start.Equal(time.Unix(3601, 0)) || spans[1].Name != "kubelet" {
		t.Errorf("got %+v", spans)
	}
}

const inspected = `{"status":{"metadata":{"name":"etcd"},"createdAt":"2026-01-02T03:04:05.1Z","startedAt":"2026-01-02T03:04:05.2Z"}}`

func TestContainerSpans(t *testing.T) {
	const created = `{"status":{"metadata":{"name":"x"},"createdAt":"2026-01-02T03:04:05Z","startedAt":"1970-01-01T00:00:00Z"}}`
	for _, text := range []string{inspected, "[" + inspected + "]", "[" + created + "," + inspected + "]\n"} {
		spans, err := containerSpans("n", []byte(text))
		if err != nil || len(spans) != 1 || spans[0].Name != "etcd" || spans[0].End.Sub(spans[0].Start) != 100*time.Millisecond {
			t.Errorf("%s: got %+v, %v", text, spans, err)
		}
	}
	if _, err := containerSpans("n", []byte("crictl: no such")); err == nil {
		t.Error("no error for what is not JSON")
	}
}

func FuzzContainerSpans(f *testing.F) {
	f.Add([]byte(inspected))
	f.Fuzz(func(t *testing.T, data []byte) {
		spans, err := containerSpans("n", data)
		for _, s := range spans {
			if err != nil || s.End.Before(s.Start) || s.Name == "" {
				t.Errorf("%+v %v", s, err)
			}
		}
	})
}

// The floor with kubeadm's own settings must not have ours, and neither may leave out the add-ons.
func TestFloorConfig(t *testing.T) {
	p := v1alpha1.Default()
	p.Nodes = v1alpha1.Workers(0)
	config, err := kubeadm.Init(kubeadm.Input{Topology: topology.Resolve(p), Node: topology.Resolve(p).Init(), Timeout: time.Duration(p.Start.Timeout), KubernetesVersion: "v1.99.0", CgroupV1: true, PatchesDir: "/patches"})
	if err != nil {
		t.Fatal(err)
	}
	for _, plain := range []bool{true, false} {
		out, err := floorConfig(config, plain)
		if err != nil {
			t.Fatal(err)
		}
		text := string(out)
		for _, ours := range []string{"leader-elect", "kube-api-qps", "ECDSA", "patches", "minSyncPeriod", "tls-cert-file"} {
			if strings.Contains(text, ours) == plain {
				t.Errorf("plain %v: %q in it: %v", plain, ours, !plain)
			}
		}
		for _, always := range []string{"failCgroupV1: false", "maxPerCore: 0", "advertiseAddress: 10.250.0.2", "podSubnet"} {
			if !strings.Contains(text, always) {
				t.Errorf("plain %v: no %q", plain, always)
			}
		}
		var first struct{ SkipPhases []string }
		if err := yaml.Unmarshal([]byte(strings.Split(text, "---\n")[0]), &first); err != nil || len(first.SkipPhases) != 1 || first.SkipPhases[0] != "preflight" {
			t.Errorf("plain %v: skips %v, %v", plain, first.SkipPhases, err)
		}
	}
}

func TestRetry(t *testing.T) {
	over, busy := errors.New("over"), errors.New("busy")
	n := 0
	if err := retry(t.Context(), "trying", func() error {
		if n++; n < 3 {
			return busy
		}
		return nil
	}); err != nil || n != 3 {
		t.Errorf("got %v after %d attempts", err, n)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	n = 0
	err := retry(ctx, "trying", func() error {
		if n++; n == 2 {
			cancel(over)
			return ctx.Err()
		}
		return busy
	})
	if !errors.Is(err, over) || !errors.Is(err, busy) || n != 2 || err.Error() != "trying: over: busy" {
		t.Errorf("got %v after %d attempts", err, n)
	}
}

func TestWaitForFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(5*time.Millisecond, func() { os.WriteFile(path, []byte("there"), 0o644) })
	if data, err := waitForFile(t.Context(), path); err != nil || string(data) != "there" {
		t.Errorf("got %q, %v", data, err)
	}
}

func TestFindProcess(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	pid, args, err := findProcess(filepath.Base(os.Args[0]))
	if err != nil || pid == 0 || len(args) == 0 || filepath.Base(args[0]) != filepath.Base(self) {
		t.Errorf("got %d, %q, %v", pid, args, err)
	}
	if _, _, err := findProcess("no-such-program"); err == nil {
		t.Error("found what is not there")
	}
}
