package cmd

import (
	"errors"
	"os"

	"github.com/dind-cluster/dind-cluster/cluster"
	"github.com/spf13/cobra"
)

func newTunnel() *cobra.Command {
	return &cobra.Command{
		Use:    "tunnel",
		Short:  "Opens connections into the cluster for its standard input and output (called by the launcher)",
		Args:   cobra.NoArgs,
		Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cluster.Tunnel(cmd.Context(), stdio{os.Stdin, os.Stdout})
		},
	}
}

// stdio is standard input and output as one stream.
type stdio struct{ in, out *os.File }

func (s stdio) Read(p []byte) (int, error)  { return s.in.Read(p) }
func (s stdio) Write(p []byte) (int, error) { return s.out.Write(p) }
func (s stdio) Close() error                { return errors.Join(s.in.Close(), s.out.Close()) }
