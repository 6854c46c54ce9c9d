package entrypoint

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/dind-cluster/dind-cluster/cluster/node"
	"golang.org/x/sys/unix"
)

// showLimits has a node see its own limits where it would see what the machine has. The kubelet takes a node's capacity from these
// files (https://github.com/google/cadvisor/blob/master/lib/machine/info.go), and with it what its pods can have together.
// A pod has a /proc and a /sys of its own.
func showLimits(nodeConfig, proc, sys, run string) error {
	config, err := node.ReadConfig(nodeConfig)
	if err != nil {
		return nil // the node's runner says what is wrong
	}
	if config.Node.CPUs > 0 {
		// The engine has chosen them.
		var set unix.CPUSet
		if err := unix.SchedGetaffinity(0, &set); err != nil {
			return fmt.Errorf("reading the node's processors: %w", err)
		}
		if err := replaceFile(filepath.Join(sys, "devices/system/cpu/online"), filepath.Join(run, "cpus"), cpuList(&set)); err != nil {
			return err
		}
	}
	if config.Node.Memory == 0 {
		return nil
	}
	path := filepath.Join(proc, "meminfo")
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	text, err := limitMeminfo(string(data), config.Node.Memory)
	if err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	return replaceFile(path, filepath.Join(run, "meminfo"), strings.TrimSuffix(text, "\n"))
}

// cpuList writes the numbers of a set as the kernel does, but without ranges.
func cpuList(set *unix.CPUSet) string {
	var list []string
	for i := 0; len(list) < set.Count(); i++ {
		if set.IsSet(i) {
			list = append(list, strconv.Itoa(i))
		}
	}
	return strings.Join(list, ",")
}

// limitMeminfo returns /proc/meminfo (proc_meminfo(5)) of a machine with no more than so many bytes of memory, and without swap.
func limitMeminfo(text string, limit int64) (string, error) {
	var out strings.Builder
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) == 3 && fields[2] == "kB" && !strings.HasPrefix(line, "Vmalloc") {
			n, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil {
				return "", fmt.Errorf("unexpected line %q", line)
			}
			n = min(n, limit>>10)
			if strings.HasPrefix(line, "Swap") {
				n = 0
			}
			line = fmt.Sprintf("%-15s %8d kB\n", fields[0], n)
		}
		out.WriteString(line)
	}
	return out.String(), nil
}
