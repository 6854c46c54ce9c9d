package cluster

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"strings"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/cluster/topology"
)

const (
	networkName = "nodes"
	bridgeName  = "nodes"
)

// makeNetwork makes the network between the nodes, and the top-level container's routes into the
// cluster.
//
// The subnet and all addresses in it are fixed: the network belongs to this container alone, in its
// own network namespace, so nothing has to be allocated. Certificates, static pods and routes stay
// right after a restart.
func (c *cluster) makeNetwork(ctx context.Context) (string, error) {
	networks := c.topology.Networks
	// Docker's cgroup driver is systemd's, which puts containers into this slice.
	if err := openCPUSets("/sys/fs/cgroup/cpuset", "system.slice"); err != nil {
		return "", err
	}
	if err := filterInbound(ctx, networks); err != nil {
		return "", err
	}
	mtu, err := ownMTU()
	if err != nil {
		return "", err
	}
	if err := c.docker.Do(ctx, "make the nodes' network", "network", "create",
		"--driver", "bridge",
		"--subnet", networks.Nodes[0].String(),
		"--gateway", networks.Gateway().String(),
		"--opt", "com.docker.network.bridge.name="+bridgeName,
		"--opt", "com.docker.network.driver.mtu="+strconv.Itoa(mtu),
		networkName); err != nil {
		// After a restart the network exists, as it was made. The first time there is no need to
		// look.
		if _, missing := c.docker.Output(ctx, "look for the nodes' network", "network", "inspect", networkName); missing != nil {
			return "", err
		}
	}
	if err := runBatch(ctx, routes(c.topology)); err != nil {
		return "", err
	}
	return networks.Nodes[0].String(), nil
}

// runBatch runs commands of ip.
func runBatch(ctx context.Context, commands string) error {
	cmd := exec.CommandContext(ctx, "ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(commands)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("adding routes into the cluster: %w: %s", err, out)
	}
	return nil
}

// routes returns the input of `ip -batch` that lets this container reach pods and services: `docker
// exec NAME curl SERVICE-IP` works, and so does e2e.test. The control plane's kube-proxy translates
// services' addresses.
func routes(t topology.Topology) string {
	var out strings.Builder
	out.WriteString(serviceRoutes(t, t.Init()))
	if t.Networks.PodNetwork == v1alpha1.PodNetworkPTP {
		for _, n := range t.Nodes {
			for i, cidr := range n.PodCIDRs {
				fmt.Fprintf(&out, "route replace %s via %s dev %s\n", cidr, n.IPs[i], bridgeName)
			}
		}
	}
	return out.String()
}

// serviceRoutes returns the routes to services through a node.
func serviceRoutes(t topology.Topology, via topology.Node) string {
	var out strings.Builder
	for i, subnet := range t.Networks.Services {
		fmt.Fprintf(&out, "route replace %s via %s dev %s\n", subnet, via.IPs[i], bridgeName)
	}
	return out.String()
}

// ownMTU returns the largest packet that leaves this container whole, so that the cluster's network
// needs no fragmentation even below a tunnel.
func ownMTU() (int, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return 0, fmt.Errorf("reading the container's interfaces: %w", err)
	}
	return smallestMTU(interfaces), nil
}

// smallestMTU returns the least MTU of the interfaces that lead out of this container, and the
// usual one if none does.
func smallestMTU(interfaces []net.Interface) int {
	mtu := 1500
	for _, i := range interfaces {
		if i.Flags&net.FlagLoopback == 0 && i.Flags&net.FlagUp != 0 && i.Name != bridgeName && !strings.HasPrefix(i.Name, "veth") && i.MTU > 0 {
			mtu = min(mtu, i.MTU)
		}
	}
	return mtu
}
