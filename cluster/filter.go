package cluster

import (
	"context"
	"fmt"
	"os/exec"
	"strings"

	"github.com/dind-cluster/dind-cluster/cluster/topology"
)

// filterInbound keeps others on the container's own networks from nodes, pods and services, which
// they could reach by a route through this container.
func filterInbound(ctx context.Context, n topology.Networks) error {
	cmd := exec.CommandContext(ctx, "nft", "--file", "-")
	cmd.Stdin = strings.NewReader(inboundRules(n))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("adding the packet filter of the nodes' network: %w: %s", err, out)
	}
	return nil
}

// inboundRules returns the input of nft.
//
// The rules have a table of their own: the inner Docker engine changes its tables at any time, and
// they do not cover the subnets of pods and services. Packets to a node's published port have been
// translated before (ct status dnat), by the engine or by rules that a user has added.
//
// The DNS server for the nodes listens at the gateway's address, which the kernel takes from every
// interface.
//
// The inner engine, Docker 26, translates IPv4 addresses alone: what leaves by IPv6 gets this
// container's address here.
func inboundRules(n topology.Networks) string {
	var gateways, out strings.Builder
	for i, gateway := range n.Gateways() {
		protocol := "ip"
		if gateway.Is6() {
			protocol = "ip6"
			fmt.Fprintf(&out, `
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		ip6 saddr %s oifname != %q masquerade
	}`, n.Nodes[i], bridgeName)
		}
		fmt.Fprintf(&gateways, "\n\t\t%s daddr %s iifname != { %q, \"lo\" } counter drop", protocol, gateway, bridgeName)
	}
	return fmt.Sprintf(`table inet dind-cluster
delete table inet dind-cluster
table inet dind-cluster {
	chain forward {
		type filter hook forward priority filter; policy accept;
		oifname != %[1]q accept
		iifname %[1]q accept
		ct state established,related accept
		ct status dnat accept
		counter drop
	}
	chain input {
		type filter hook input priority filter; policy accept;%[2]s
	}%[3]s
}
`, bridgeName, gateways.String(), out.String())
}
