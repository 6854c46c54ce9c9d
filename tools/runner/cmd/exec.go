package cmd

import (
	"os"

	"github.com/dind-cluster/dind-cluster/cluster"
	"github.com/dind-cluster/dind-cluster/cluster/control"
	"github.com/dind-cluster/dind-cluster/tools/internal/verbs"
	"github.com/spf13/cobra"
)

func newExec() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "exec NODE -- COMMAND [ARG...]",
		Short:   "Runs a command in a node, and ends with its exit status",
		Example: "  docker exec -it NAME runner exec worker1 -- bash",
		Args: func(_ *cobra.Command, args []string) error {
			if len(verbs.Command(args)) == 0 {
				return control.Usage("want a node and a command: exec NODE -- COMMAND")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return cluster.Exec(cmd.Context(), args[0], verbs.Command(args), os.Stdin, os.Stdout, os.Stderr)
		},
	}
	// What follows the node is the command's.
	cmd.Flags().SetInterspersed(false)
	return cmd
}

func newCopy() *cobra.Command {
	return &cobra.Command{
		Use:     "cp SOURCE DESTINATION",
		Short:   "Copies a file or a directory between this container and a node, or between two nodes",
		Example: "  docker exec NAME runner cp worker1:/var/log/pods /tmp",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return control.Usage("want a source and a destination, one of them NODE:PATH")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return cluster.Copy(cmd.Context(), args[0], args[1]) },
	}
}
