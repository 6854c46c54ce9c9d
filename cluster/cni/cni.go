// Package cni writes the configuration of a node's pod network.
//
// The reference plugins do everything: no daemon, no image, nothing to wait for. The file is there
// before the kubelet starts, so a node turns Ready at once.
package cni

import (
	"encoding/json"
	"fmt"
	"net/netip"
)

// ConfigPath is the file that the runtime finds first. The number leaves room on both sides for a
// user's own network.
const ConfigPath = "/etc/cni/net.d/10-dind-cluster.conflist"

// Dir is where the runtime looks for plugins.
const Dir = "/opt/cni/bin"

// IPv6Plugin is the name of a plugin that is ptp, but for duplicate address detection (RFC 4862, 5.4), and IPv6Script its program.
// ptp waits for that, a second or two for each pod, and a pod's address cannot be another one's. The setting is that of the
// pod's network namespace for interfaces that are yet to come; the plugin bridge does the same for its own one.
const (
	IPv6Plugin = "dind-ptp"
	IPv6Script = `#!/bin/sh
if [ "$CNI_COMMAND" = ADD ]; then
  nsenter --net="$CNI_NETNS" sh -c 'echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad' </dev/null || exit
fi
exec "${0%/*}/ptp"
`
)

// Config returns the configuration for a node whose pods get an address from each of podCIDRs and
// send packets of at most mtu bytes.
//
// The main plugin is ptp, not bridge: with a bridge, the answer of a pod that was reached through a
// service from the same node does not pass the node's IP stack and is not translated, unless the
// host has loaded br_netfilter (https://github.com/kubernetes/kubernetes/issues/21613). With ptp
// every packet is routed, so the host needs no module. The plugin does not masquerade either: its
// rule would hide the pod's address from pods on other nodes.
func Config(podCIDRs []netip.Prefix, mtu int) ([]byte, error) {
	type object map[string]any
	plugin := "ptp"
	var ranges [][]object
	var routes []object
	for _, cidr := range podCIDRs {
		ranges = append(ranges, []object{{"subnet": cidr.String()}})
		everywhere := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if cidr.Addr().Is6() {
			everywhere, plugin = netip.PrefixFrom(netip.IPv6Unspecified(), 0), IPv6Plugin
		}
		routes = append(routes, object{"dst": everywhere.String()})
	}
	out, err := json.MarshalIndent(object{
		"cniVersion": "1.0.0",
		"name":       "dind-cluster",
		"plugins": []object{{
			"type": plugin,
			"mtu":  mtu,
			"ipam": object{
				"type":   "host-local",
				"ranges": ranges,
				"routes": routes,
			},
		}, {
			"type":         "portmap",
			"capabilities": object{"portMappings": true},
		}},
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("writing the pod network's configuration: %w", err)
	}
	return append(out, '\n'), nil
}
