package cmd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/dind-cluster/dind-cluster/cluster"
	"github.com/dind-cluster/dind-cluster/cluster/paths"
	"github.com/dind-cluster/dind-cluster/cluster/snapshot"
	"github.com/dind-cluster/dind-cluster/internal/progress"
	"github.com/spf13/cobra"
)

func newSnapshot() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "snapshot",
		Short: "Makes snapshots of the whole cluster",
		Args:  cobra.NoArgs,
	}
	var image string
	save := &cobra.Command{
		Use:   "save",
		Short: "Writes a snapshot of the whole cluster to standard output",
		Long: `Writes a snapshot of the whole cluster to standard output. It holds the cluster's keys: with umask 077 the file that gets it is
for its owner alone. A new container of the same image that has the file as /etc/dind-cluster/snapshot brings the cluster back.`,
		Example: `  (umask 077; docker exec NAME runner snapshot save > NAME.snapshot)`,
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && args[0] != "-" {
				return fmt.Errorf("%q: a snapshot goes to standard output, as in `docker exec NAME runner snapshot save > NAME.snapshot`", args[0])
			}
			if info, err := os.Stdout.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
				return errors.New("a snapshot is an archive: redirect it, as in `docker exec NAME runner snapshot save > NAME.snapshot` (without -t)")
			}
			self, err := os.Executable()
			if err != nil {
				return err
			}
			return cluster.Save(cmd.Context(), image, []string{self, "snapshot", "hold"}, os.Stdout, progress.New(os.Stderr))
		},
	}
	save.Flags().StringVar(&image, "image", "", "what the container's image is called on the Docker host, for those who look for it later")
	inspect := &cobra.Command{
		Use:     "inspect",
		Short:   "Prints what a snapshot on standard input says of itself, as JSON",
		Example: "  docker exec -i NAME runner snapshot inspect < NAME.snapshot",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			m, err := snapshot.ReadManifest(os.Stdin)
			if err != nil {
				return fmt.Errorf("standard input: %w", err)
			}
			return printManifest(cmd.OutOrStdout(), m)
		},
	}
	hold := &cobra.Command{
		Use:    "hold",
		Short:  "Stops all processes of the nodes until standard input ends (started by save)",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			// Anywhere else it would stop what is nobody's node.
			if role, err := os.ReadFile(paths.Role); err != nil || strings.TrimSpace(string(role)) != "cluster" {
				return errors.New("this is not the top-level container of a cluster")
			}
			return snapshot.Keep(cmd.Context(), os.Stdin, os.Stdout)
		},
	}
	cmd.AddCommand(save, inspect, hold)
	return cmd
}

func printManifest(out io.Writer, m snapshot.Manifest) error {
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(m)
}
