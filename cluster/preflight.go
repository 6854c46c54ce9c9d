package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/cluster/paths"
	"github.com/dind-cluster/dind-cluster/cluster/settings"
	"github.com/dind-cluster/dind-cluster/cluster/topology"
	"github.com/dind-cluster/dind-cluster/internal/progress"
	"golang.org/x/sys/unix"
)

// minMemory is how many bytes the first control plane and the top-level container take at least,
// minMemoryPerControlPlane how many each further one takes, and minMemoryPerWorker each worker,
// without pods of users: docs/performance.md says how to measure them. Of three control planes each
// took 386 to 434 MiB.
const (
	minMemory                = 500 << 20
	minMemoryPerControlPlane = 380 << 20
	minMemoryPerWorker       = 80 << 20
)

// preflight finds early what would otherwise fail late and obscurely.
func (c *cluster) preflight(ctx context.Context) (string, error) {
	version, err := c.docker.Version(ctx)
	if err != nil {
		return "", err
	}
	addresses, err := interfaceSubnets()
	if err != nil {
		return "", err
	}
	if err := checkSubnets(c.settings.Networking, addresses); err != nil {
		return "", err
	}
	if err := errors.Join(checkMounts(c.topology.Nodes), checkKernel(ctx, c.topology, "/proc")); err != nil {
		return "", err
	}
	if err := checkEmulation(ctx, c.settings.Kubernetes.EmulatedVersion); err != nil {
		return "", err
	}
	cpus, err := ownCPUs()
	if err != nil {
		return "", err
	}
	if err := c.settings.CheckMachine(len(cpus)); err != nil {
		return "", err
	}
	if err := checkEmulation(ctx, c.settings.Kubernetes.EmulatedVersion); err != nil {
		return "", err
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(paths.DockerRoot, &fs); err != nil {
		return "", fmt.Errorf("reading the free space of %s: %w", paths.DockerRoot, err)
	}
	free := int64(fs.Bavail) * fs.Bsize
	if err := checkDisk(len(c.topology.Nodes), free); err != nil {
		return "", err
	}
	if err := checkInodes(len(c.topology.Nodes), fs.Files, fs.Ffree); err != nil {
		return "", err
	}
	memory, err := availableMemory("/")
	if err != nil {
		return "", err
	}
	if err := checkMemory(len(c.topology.Nodes), len(c.topology.ControlPlanes()), memory); err != nil {
		return "", err
	}
	return fmt.Sprintf("Docker %s, %s of disk and %s of memory free", version.Version, progress.Size(free), progress.Size(memory)), nil
}

// checkMounts looks for what nodes are to mount: Docker would make a directory of whatever is missing.
func checkMounts(all []topology.Node) error {
	var errs []error
	for _, n := range all {
		for _, m := range n.Mounts {
			if _, err := os.Stat(m.Source); err != nil {
				host := strings.TrimPrefix(m.Source, paths.Host)
				errs = append(errs, fmt.Errorf("node %s wants %s of the Docker host, which this container does not have: start it with `docker run --volume %s:%s`", n.Name, host, host, m.Source))
			}
		}
	}
	return errors.Join(errs...)
}

func checkMemory(nodes, controlPlanes int, available int64) error {
	need := int64(minMemory + (controlPlanes-1)*minMemoryPerControlPlane + (nodes-controlPlanes)*minMemoryPerWorker)
	if available < need {
		return fmt.Errorf("the Docker host has %s of memory free for this container, and a cluster of %d nodes needs %s before anything runs in it: ask for fewer with `--env NODES=…`, or give Docker's machine or the container more",
			progress.Size(available), nodes, progress.Size(need))
	}
	return nil
}

// availableMemory returns how many bytes the container can still get: what the machine can give,
// swap included, but no more than its own limit leaves.
func availableMemory(root string) (int64, error) {
	path := filepath.Join(root, "proc/meminfo")
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	var available int64
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) == 3 && (fields[0] == "MemAvailable:" || fields[0] == "SwapFree:") {
			kib, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil {
				return 0, fmt.Errorf("reading %s: %w", path, err)
			}
			available += kib << 10
		}
	}
	for _, version := range []struct{ limit, usage string }{
		{"sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory.current"},
		{"sys/fs/cgroup/memory/memory.limit_in_bytes", "sys/fs/cgroup/memory/memory.usage_in_bytes"},
	} {
		limit, err := readNumber(filepath.Join(root, version.limit))
		if err != nil {
			continue // no such controller, or "max"
		}
		usage, err := readNumber(filepath.Join(root, version.usage))
		if err != nil {
			return 0, err
		}
		available = min(available, limit-usage)
	}
	return available, nil
}

func readNumber(path string) (int64, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("reading %s: %w", path, err)
	}
	return n, nil
}

func checkDisk(nodes int, free int64) error {
	need := settings.Disk(nodes)
	if free < need {
		return fmt.Errorf("the volume /var/lib/docker has %s free, and a cluster of %d nodes needs %s: make room on the Docker host, for example with `docker system prune`",
			progress.Size(free), nodes, progress.Size(need))
	}
	return nil
}

// How many files a cluster makes: 9,200 were those of three nodes in the middle of a conformance
// run.
const (
	minInodes        = 1000
	minInodesPerNode = 3000
)

// checkInodes takes the numbers of statfs(2): all inodes of the file system, 0 if it has no fixed
// number of them, and the free ones.
func checkInodes(nodes int, all, free uint64) error {
	need := uint64(minInodes + nodes*minInodesPerNode)
	if all > 0 && free < need {
		return fmt.Errorf("the volume /var/lib/docker can take %d more files (inodes), and a cluster of %d nodes needs %d: make room on the Docker host, for example with `docker system prune`",
			free, nodes, need)
	}
	return nil
}

// interfaceSubnets returns the networks that this container is attached to. Its own network for the
// nodes, which is there if an earlier start was interrupted, does not count.
func interfaceSubnets() ([]netip.Prefix, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("reading the container's interfaces: %w", err)
	}
	var out []netip.Prefix
	for _, i := range interfaces {
		if i.Name == bridgeName || i.Flags&net.FlagLoopback != 0 {
			continue
		}
		addresses, err := i.Addrs()
		if err != nil {
			return nil, fmt.Errorf("reading the addresses of %s: %w", i.Name, err)
		}
		for _, a := range addresses {
			if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLinkLocalUnicast() {
				out = append(out, p.Masked())
			}
		}
	}
	return out, nil
}

// checkSubnets refuses subnets that overlap a network that the container is attached to: its
// addresses would no longer be reachable.
func checkSubnets(n v1alpha1.Networking, attached []netip.Prefix) error {
	for _, a := range attached {
		for _, s := range n.Subnets() {
			if s.Prefix.Overlaps(a) {
				return fmt.Errorf("%s %s overlaps the network %s that this container is attached to: choose another subnet with `docker run --env %s=…`", s.Variable, s.Prefix, a, s.Variable)
			}
		}
	}
	return nil
}
