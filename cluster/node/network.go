package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/cluster/cni"
	"github.com/dind-cluster/dind-cluster/cluster/paths"
	"github.com/dind-cluster/dind-cluster/cluster/topology"
	"golang.org/x/sys/unix"
)

// setUpNetwork makes the node a router for pods. Only the CNI configuration outlives the
// container's network namespace, so this runs at every start.
func (n *node) setUpNetwork(ctx context.Context) error {
	// Pods resolve names through the top-level container. The node's own resolv.conf names Docker's
	// resolver at 127.0.0.11, which for a pod is the pod itself: CoreDNS would forward queries to
	// itself for ever (https://coredns.io/plugins/loop).
	networks := n.config.Topology.Networks
	if err := os.WriteFile(paths.ResolvConf, resolvConf(networks), 0o644); err != nil {
		return err
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/tcp_migrate_req", []byte("1"), 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err // Linux 5.14 and later have it: see queue
	}
	for name, value := range kernelSettings(networks.IPv6()) {
		if err := os.WriteFile(filepath.Join("/proc/sys", name), []byte(value), 0); err != nil {
			return fmt.Errorf("setting %s: %w", name, err)
		}
	}
	for family, program := range []string{"iptables-restore", "ip6tables-restore"} {
		input := rules(n.config, family == 1)
		if input == nil {
			continue
		}
		if err := n.run(ctx, bytes.NewReader(input), program, "--wait", "--noflush"); err != nil {
			return fmt.Errorf("adding packet filter rules: %w", err)
		}
	}
	if networks.PodNetwork != v1alpha1.PodNetworkPTP {
		return mountBPF("/sys/fs/bpf")
	}
	if err := n.run(ctx, bytes.NewReader(routes(n.config)), "ip", "-batch", "-"); err != nil {
		return fmt.Errorf("adding routes to the other nodes' pods: %w", err)
	}
	config, err := cni.Config(n.config.Node.PodCIDRs, n.config.MTU)
	if err != nil {
		return err
	}
	if networks.IPv6() {
		if err := os.WriteFile(filepath.Join(cni.Dir, cni.IPv6Plugin), []byte(cni.IPv6Script), 0o755); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Dir(cni.ConfigPath), 0o755); err != nil {
		return err
	}
	return os.WriteFile(cni.ConfigPath, config, 0o644)
}

// resolvConf returns the file that pods' resolv.conf is made from.
func resolvConf(n topology.Networks) []byte {
	text := "nameserver " + n.Gateway().String() + "\n"
	if len(n.Search) > 0 {
		text += "search " + strings.Join(n.Search, " ") + "\n"
	}
	return []byte(text)
}

// kernelSettings returns what a router for pods sets below /proc/sys, all in its own network
// namespace.
func kernelSettings(ipv6 bool) map[string]string {
	all := map[string]string{
		"net/ipv4/ip_forward": "1",
		// Answers may come back through another interface than the request, so no reverse path
		// filter.
		"net/ipv4/conf/all/rp_filter":     "0",
		"net/ipv4/conf/default/rp_filter": "0",
	}
	if ipv6 {
		// Docker turns it off for whatever is not in one of its IPv6 networks, the loopback
		// interface among them; and kube-proxy goes by the setting for all.
		all["net/ipv6/conf/all/disable_ipv6"] = "0"
		all["net/ipv6/conf/default/disable_ipv6"] = "0"
		all["net/ipv6/conf/all/forwarding"] = "1"
		// Nobody else can have the address of a pod's gateway: without duplicate address
		// detection (RFC 4862, 5.4), which takes a second or two, it is there at once.
		all["net/ipv6/conf/default/accept_dad"] = "0"
	}
	return all
}

// mountBPF mounts the file system for what eBPF programs share, where systemd mounts it on machines
// that are no containers, and pod networks look for it. A kernel without it is none for such a pod
// network.
func mountBPF(path string) error {
	err := unix.Mount("bpf", path, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_RELATIME, "mode=700")
	if err != nil && !errors.Is(err, unix.ENODEV) && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("mounting the BPF file system on %s: %w", path, err)
	}
	return nil
}

// routes returns the input of `ip -batch` that routes the pods of every other node through that
// node.
//
// It has a route for every slot: addresses follow from slots, so this node needs no change when
// another node is added.
func routes(c Config) []byte {
	var out bytes.Buffer
	for slot := range v1alpha1.MaxNodes {
		if slot == c.Node.Slot {
			continue
		}
		ips, podCIDRs := c.Topology.Networks.Slot(slot)
		for i := range podCIDRs {
			fmt.Fprintf(&out, "route replace %s via %s\n", podCIDRs[i], ips[i])
		}
	}
	return out.Bytes()
}

// rules returns the input of iptables-restore, or of ip6tables-restore, with the node's own rules;
// nil if the cluster does not have this IP family.
//
// The service "kubernetes" leads to the API server from the beginning. Otherwise CoreDNS, which
// starts at the same time as kube-proxy, would fail at first and retry only after seconds.
// kube-proxy's own rules go in front of this one.
//
// Any other service's address that kube-proxy has not translated is refused. Otherwise, while
// kube-proxy starts, the packets would leave the node, and the client would wait half a minute for
// an answer. So is a port that a service with an address of the load balancer does not have: the
// packet would go to and fro. Without kube-proxy the user's pod network translates them where it
// likes, perhaps behind these chains; only what has come in from another machine would go back there
// for ever.
//
// Pods get the node's address towards everything but pods.
func rules(c Config, ipv6 bool) []byte {
	networks := c.Topology.Networks
	family := slices.IndexFunc(networks.Nodes, func(p netip.Prefix) bool { return p.Addr().Is6() == ipv6 })
	if family < 0 {
		return nil
	}
	var out bytes.Buffer
	out.WriteString("*filter\n")
	chains := []string{"FORWARD", "OUTPUT"}
	if c.Topology.ProxyMode == v1alpha1.KubeProxyNone {
		chains = []string{"FORWARD -i eth0"}
	}
	for _, p := range slices.Concat(networks.Services, networks.LoadBalancers) {
		if p.Addr().Is6() != ipv6 {
			continue
		}
		for _, chain := range chains {
			fmt.Fprintf(&out, `-A %[1]s -d %[2]s -p tcp -j REJECT --reject-with tcp-reset
-A %[1]s -d %[2]s -j REJECT
`, chain, p)
		}
	}
	out.WriteString("COMMIT\n*nat\n")
	if family == 0 { // the service has one address, of the primary family
		fmt.Fprintf(&out, `-A PREROUTING -d %[1]s -p tcp --dport 443 -j DNAT --to-destination %[2]s
-A OUTPUT -d %[1]s -p tcp --dport 443 -j DNAT --to-destination %[2]s
`, networks.KubernetesService(), c.Topology.Endpoint)
	}
	if networks.PodNetwork == v1alpha1.PodNetworkPTP {
		fmt.Fprintf(&out, "-A POSTROUTING -s %[1]s ! -d %[1]s -j MASQUERADE\n", networks.Pods[family])
	}
	out.WriteString("COMMIT\n")
	return out.Bytes()
}
