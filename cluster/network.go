package cluster

import (
	"context"
	"fmt"
	"net"
	"os"
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
	mtu, err := c.mtu()
	if err != nil {
		return "", err
	}
	if err := c.docker.Do(ctx, "make the nodes' network", append(networkArgs(networks, mtu), networkName)...); err != nil {
		// After a restart the network exists, as it was made. The first time there is no need to
		// look.
		if _, missing := c.docker.Output(ctx, "look for the nodes' network", "network", "inspect", networkName); missing != nil {
			return "", err
		}
	}
	if networks.IPv6() {
		// The bridge's address is there as soon as the first node is: nobody else can have it, so
		// there is no need of duplicate address detection (RFC 4862, 5.4).
		for name, value := range map[string]string{bridgeName + "/accept_dad": "0", "all/forwarding": "1"} {
			if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+name, []byte(value), 0); err != nil {
				return "", fmt.Errorf("setting up IPv6: %w", err)
			}
		}
	}
	if err := runBatch(ctx, routes(c.topology)); err != nil {
		return "", err
	}
	if err := forwardPorts(ctx, c.topology); err != nil {
		return "", err
	}
	return v1alpha1.Subnets(networks.Nodes).String(), nil
}

// networkArgs returns the arguments of docker that make the nodes' network, but for its name.
func networkArgs(n topology.Networks, mtu int) []string {
	args := []string{"network", "create", "--driver", "bridge"}
	for i, subnet := range n.Nodes {
		args = append(args, "--subnet", subnet.String(), "--gateway", n.Gateways()[i].String())
	}
	if n.IPv6() {
		args = append(args, "--ipv6")
	}
	if n.Outside.IsValid() {
		// Docker's networks always have IPv4 addresses.
		args = append(args, "--subnet", n.Outside.String())
	}
	return append(args, "--opt", "com.docker.network.bridge.name="+bridgeName, "--opt", "com.docker.network.driver.mtu="+strconv.Itoa(mtu))
}

// forwardPorts starts a unit for each port of a node that the inner Docker engine cannot publish:
// it would lead to the node's IPv4 address, where an IPv6 cluster has neither services nor pods.
func forwardPorts(ctx context.Context, t topology.Topology) error {
	for _, n := range t.Nodes {
		for _, p := range n.Ports {
			if n.Publishes(p) {
				continue
			}
			unit := fmt.Sprintf("dind-port-%d-%s.service", p.Host, p.Protocol)
			out, err := exec.CommandContext(ctx, "systemd-run", append([]string{"--unit", unit, "--property", "Restart=always", "--property", "RestartSec=100ms"}, socat(n, p)...)...).CombinedOutput()
			// It may run already, if this program was killed and is back.
			if err != nil && exec.CommandContext(ctx, "systemctl", "is-active", "--quiet", unit).Run() != nil {
				return fmt.Errorf("forwarding port %d to node %s: %w: %s", p.Host, n.Name, err, out)
			}
		}
	}
	return nil
}

// socat returns the command that forwards a port, of all addresses of either IP family, to a
// node. A UDP client that has been silent for a minute is forgotten.
func socat(n topology.Node, p topology.Port) []string {
	protocol := strings.ToUpper(p.Protocol) + "6"
	command := []string{"socat"}
	if p.Protocol == "udp" {
		command = append(command, "-T", "60")
	}
	return append(command, fmt.Sprintf("%s-LISTEN:%d,ipv6only=0,reuseaddr,fork", protocol, p.Host),
		protocol+":"+net.JoinHostPort(n.IPs[0].String(), strconv.Itoa(p.Node)))
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
	out.WriteString(podRoutes(t.Networks, t.Nodes))
	return out.String()
}

// podRoutes returns the routes to the pods of nodes.
func podRoutes(networks topology.Networks, nodes []topology.Node) string {
	var out strings.Builder
	if networks.PodNetwork == v1alpha1.PodNetworkPTP {
		for _, n := range nodes {
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

// mtu returns the largest packet of the nodes' network in bytes.
func (c *cluster) mtu() (int, error) {
	if mtu := c.topology.Networks.MTU; mtu != 0 {
		return mtu, nil
	}
	return ownMTU()
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
