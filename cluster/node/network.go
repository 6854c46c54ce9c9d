package node

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/cluster/cni"
	"github.com/dind-cluster/dind-cluster/cluster/paths"
)

// setUpNetwork makes the node a router for pods. Only the CNI configuration outlives the
// container's network namespace, so this runs at every start.
func (n *node) setUpNetwork(ctx context.Context) error {
	// Pods resolve names through the top-level container. The node's own resolv.conf names Docker's
	// resolver at 127.0.0.11, which for a pod is the pod itself: CoreDNS would forward queries to
	// itself for ever (https://coredns.io/plugins/loop).
	if err := os.WriteFile(paths.ResolvConf, []byte("nameserver "+n.config.Topology.Networks.Gateway().String()+"\n"), 0o644); err != nil {
		return err
	}
	for name, value := range map[string]string{
		"net/ipv4/ip_forward": "1",
		// Answers may come back through another interface than the request, so no reverse path
		// filter.
		"net/ipv4/conf/all/rp_filter":     "0",
		"net/ipv4/conf/default/rp_filter": "0",
	} {
		if err := os.WriteFile(filepath.Join("/proc/sys", name), []byte(value), 0); err != nil {
			return fmt.Errorf("setting %s: %w", name, err)
		}
	}
	if err := n.run(ctx, bytes.NewReader(rules(n.config)), "iptables-restore", "--wait", "--noflush"); err != nil {
		return fmt.Errorf("adding packet filter rules: %w", err)
	}
	if n.config.Topology.Networks.PodNetwork != v1alpha1.PodNetworkPTP {
		return nil
	}
	if err := n.run(ctx, bytes.NewReader(routes(n.config)), "ip", "-batch", "-"); err != nil {
		return fmt.Errorf("adding routes to the other nodes' pods: %w", err)
	}
	config, err := cni.Config(n.config.Node.PodCIDRs, n.config.MTU)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(cni.ConfigPath), 0o755); err != nil {
		return err
	}
	return os.WriteFile(cni.ConfigPath, config, 0o644)
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

// rules returns the input of iptables-restore with the node's own rules.
//
// The service "kubernetes" leads to the API server from the beginning. Otherwise CoreDNS, which
// starts at the same time as kube-proxy, would fail at first and retry only after seconds.
// kube-proxy's own rules go in front of this one.
//
// Any other service's address that kube-proxy has not translated is refused. Otherwise, while
// kube-proxy starts, the packets would leave the node, and the client would wait half a minute for
// an answer. So is a port that a service with an address of the load balancer does not have: the
// packet would go to and fro.
//
// Pods get the node's address towards everything but pods.
func rules(c Config) []byte {
	var out bytes.Buffer
	networks := c.Topology.Networks
	out.WriteString("*filter\n")
	for _, p := range append(networks.Services[:1:1], networks.LoadBalancers...) {
		if p.Addr().Is4() {
			fmt.Fprintf(&out, `-A FORWARD -d %[1]s -p tcp -j REJECT --reject-with tcp-reset
-A FORWARD -d %[1]s -j REJECT
-A OUTPUT -d %[1]s -p tcp -j REJECT --reject-with tcp-reset
-A OUTPUT -d %[1]s -j REJECT
`, p)
		}
	}
	out.WriteString("COMMIT\n")
	fmt.Fprintf(&out, `*nat
-A PREROUTING -d %[1]s -p tcp --dport 443 -j DNAT --to-destination %[2]s
-A OUTPUT -d %[1]s -p tcp --dport 443 -j DNAT --to-destination %[2]s
`, networks.KubernetesService(), c.Topology.Endpoint)
	if networks.PodNetwork == v1alpha1.PodNetworkPTP {
		fmt.Fprintf(&out, "-A POSTROUTING -s %[1]s ! -d %[1]s -j MASQUERADE\n", networks.Pods[0])
	}
	out.WriteString("COMMIT\n")
	return out.Bytes()
}
