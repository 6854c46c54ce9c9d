package cmd

import (
	"github.com/dind-cluster/dind-cluster/cluster/dns"
	"github.com/dind-cluster/dind-cluster/cluster/settings"
	"github.com/dind-cluster/dind-cluster/cluster/topology"
	"github.com/spf13/cobra"
)

func newDNS() *cobra.Command {
	return &cobra.Command{
		Use:   "dns",
		Short: "Answers the nodes' DNS queries (a unit of the top-level container)",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := settings.Load()
			if err != nil {
				return err
			}
			return dns.Serve(cmd.Context(), topology.Resolve(p).Networks.Gateways(), "/etc/resolv.conf")
		},
	}
}
