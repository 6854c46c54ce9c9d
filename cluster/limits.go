package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/dind-cluster/dind-cluster/cluster/topology"
	"golang.org/x/sys/unix"
)

// ownCPUs returns the numbers of the processors that this container may use.
func ownCPUs() ([]int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("reading which processors there are: %w", err)
	}
	var cpus []int
	for i := 0; len(cpus) < set.Count(); i++ {
		if set.IsSet(i) {
			cpus = append(cpus, i)
		}
	}
	return cpus, nil
}

// openCPUSets keeps one node's processors from becoming those of all, with cgroup v1: the container runtime gives a cgroup that lies
// between, and has none yet, those of the first container in it.
func openCPUSets(root, slice string) error {
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		all, err := os.ReadFile(filepath.Join(root, name))
		if errors.Is(err, fs.ErrNotExist) {
			return nil // cgroup v2, where none means all
		}
		if err == nil {
			err = os.MkdirAll(filepath.Join(root, slice), 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(root, slice, name), all, 0o644)
		}
		if err != nil {
			return fmt.Errorf("giving nodes processors: %w", err)
		}
	}
	return nil
}

// limitArgs returns the options of `docker run` that limit a node.
//
// A node has certain processors rather than a share of all (--cpus): everything in it sees as many as it can use, and with cgroup
// v1 a pod may have a higher limit than its node, which the kernel refuses below a share (__cfs_schedulable in
// https://github.com/torvalds/linux/blob/v6.12/kernel/sched/core.c).
func limitArgs(all []topology.Node, n topology.Node, cpus []int) []string {
	var args []string
	if n.CPUs > 0 {
		first := 0
		for _, o := range all {
			if o.Slot < n.Slot {
				first += o.CPUs
			}
		}
		var own []string
		for i := range min(n.CPUs, len(cpus)) {
			own = append(own, strconv.Itoa(cpus[(first+i)%len(cpus)]))
		}
		args = append(args, "--cpuset-cpus", strings.Join(own, ","))
	}
	if n.Memory > 0 {
		bytes := strconv.FormatInt(n.Memory, 10)
		args = append(args, "--memory", bytes, "--memory-swap", bytes)
	}
	return args
}
