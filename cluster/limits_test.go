package cluster

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/dind-cluster/dind-cluster/cluster/topology"
)

func TestLimitArgs(t *testing.T) {
	all := []topology.Node{{Slot: 0, CPUs: 2}, {Slot: 1}, {Slot: 2, CPUs: 3, Memory: 1 << 30}, {Slot: 3, CPUs: 1}}
	cpus := []int{0, 2, 3, 5}
	for i, want := range [][]string{
		{"--cpuset-cpus", "0,2"},
		nil,
		{"--cpuset-cpus", "3,5,0", "--memory", "1073741824", "--memory-swap", "1073741824"},
		{"--cpuset-cpus", "2"},
	} {
		if got := limitArgs(all, all[i], cpus); !slices.Equal(got, want) {
			t.Errorf("node %d: got %q, want %q", i, got, want)
		}
	}
	own, err := ownCPUs()
	if err != nil || len(own) != runtime.NumCPU() {
		t.Errorf("got %v, %v, want %d processors", own, err, runtime.NumCPU())
	}
}

func TestOpenCPUSets(t *testing.T) {
	root := t.TempDir()
	if err := openCPUSets(root, "system.slice"); err != nil { // cgroup v2
		t.Error(err)
	}
	for name, text := range map[string]string{"cpuset.cpus": "0-3\n", "cpuset.mems": "0\n"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := openCPUSets(root, "system.slice"); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(filepath.Join(root, "system.slice/cpuset.cpus")); string(got) != "0-3\n" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}
