package cluster

import (
	"context"
	"fmt"
	"net/netip"
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
// Addresses of the load balancer are refused if no service has them: they are routed to the loopback
// interface. So is what a node sends back since it has not translated it: a port that the service
// does not have. The answer is that of a port where nothing listens.
//
// The DNS server for the nodes listens at the gateway's address, which the kernel takes from every
// interface.
//
// The inner engine, Docker 26, translates IPv4 addresses alone: what leaves by IPv6 gets this
// container's address here.
func inboundRules(n topology.Networks) string {
	var nowhere, returned strings.Builder
	for _, p := range n.LoadBalancers {
		// With an ICMP message in answer to a packet of its own, TCP would go on trying.
		const reject = "\t\t%[1]s %[2]q %[3]s daddr %[4]s meta l4proto tcp counter reject with tcp reset\n" +
			"\t\t%[1]s %[2]q %[3]s daddr %[4]s counter reject with icmpx port-unreachable\n"
		fmt.Fprintf(&nowhere, reject, "oifname", "lo", protocol(p.Addr()), p)
		fmt.Fprintf(&returned, reject, "iifname", bridgeName, protocol(p.Addr()), p)
	}
	var gateways, out strings.Builder
	for i, gateway := range n.Gateways() {
		if gateway.Is6() {
			fmt.Fprintf(&out, `
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		ip6 saddr %s oifname != %q masquerade
	}`, n.Nodes[i], bridgeName)
		}
		fmt.Fprintf(&gateways, "\n\t\t%s daddr %s iifname != { %q, \"lo\" } counter drop", protocol(gateway), gateway, bridgeName)
	}
	return fmt.Sprintf(`table inet dind-cluster
delete table inet dind-cluster
table inet dind-cluster {
	chain forward {
		type filter hook forward priority filter; policy accept;
%[4]s		oifname != %[1]q accept
%[5]s		iifname %[1]q accept
		ct state established,related accept
		ct status dnat accept
		counter drop
	}
	chain output {
		type filter hook output priority filter; policy accept;
%[4]s	}
	chain input {
		type filter hook input priority filter; policy accept;%[2]s
	}%[3]s
}
`, bridgeName, gateways.String(), out.String(), nowhere.String(), returned.String())
}

// protocol returns nft's word for the IP family of an address.
func protocol(a netip.Addr) string {
	if a.Is6() {
		return "ip6"
	}
	return "ip"
}
