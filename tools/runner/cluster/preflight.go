package cluster

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/dind-cluster/dind-cluster/tools/internal/progress"
	"github.com/dind-cluster/dind-cluster/tools/runner/plan"
	"golang.org/x/sys/unix"
)

// preflight finds out early what would otherwise fail late and obscurely.
func (c *cluster) preflight(ctx context.Context) (string, error) {
	version, err := c.docker.Version(ctx)
	if err != nil {
		return "", err
	}
	addresses, err := interfaceSubnets()
	if err != nil {
		return "", err
	}
	if err := checkSubnets(c.plan, addresses); err != nil {
		return "", err
	}
	var fs unix.Statfs_t
	if err := unix.Statfs("/var/lib/docker", &fs); err != nil {
		return "", fmt.Errorf("looking at /var/lib/docker: %w", err)
	}
	free := int64(fs.Bavail) * fs.Bsize
	if err := checkDisk(c.plan.Nodes, free); err != nil {
		return "", err
	}
	return fmt.Sprintf("Docker %s, %s of disk free", version.Version, progress.Size(free)), nil
}

func checkDisk(nodes int, free int64) error {
	need := plan.Disk(nodes)
	if free < need {
		return fmt.Errorf("the volume /var/lib/docker has %s free, and a cluster of %d nodes needs %s: make room on the Docker host, for example with `docker system prune`",
			progress.Size(free), nodes, progress.Size(need))
	}
	return nil
}

// interfaceSubnets returns the networks that this container is attached to. Its own network for the nodes, which is
// there if an earlier start was interrupted, does not count.
func interfaceSubnets() ([]netip.Prefix, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("looking at the container's interfaces: %w", err)
	}
	var out []netip.Prefix
	for _, i := range interfaces {
		if i.Name == bridgeName || i.Flags&net.FlagLoopback != 0 {
			continue
		}
		addresses, err := i.Addrs()
		if err != nil {
			return nil, fmt.Errorf("looking at the addresses of %s: %w", i.Name, err)
		}
		for _, a := range addresses {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
				out = append(out, p.Masked())
			}
		}
	}
	return out, nil
}

// checkSubnets wants the cluster's subnets apart from the networks that the container is attached to: their addresses
// would no longer be reachable.
func checkSubnets(p plan.Cluster, attached []netip.Prefix) error {
	for _, a := range attached {
		for _, s := range []struct {
			variable string
			subnet   netip.Prefix
		}{{"NODE_SUBNET", p.NodeSubnet}, {"POD_SUBNET", p.PodSubnet}, {"SERVICE_SUBNET", p.ServiceSubnet}} {
			if s.subnet.Overlaps(a) {
				return fmt.Errorf("%s %s overlaps the network %s that this container is attached to: choose another one with `docker run --env %s=…`", s.variable, s.subnet, a, s.variable)
			}
		}
	}
	return nil
}
