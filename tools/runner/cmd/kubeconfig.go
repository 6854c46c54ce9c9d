package cmd

import (
	"github.com/dind-cluster/dind-cluster/cluster"
	"github.com/dind-cluster/dind-cluster/cluster/settings"
	"github.com/spf13/cobra"
)

func newKubeconfig() *cobra.Command {
	var server, name string
	cmd := &cobra.Command{
		Use:   "kubeconfig",
		Short: "Prints a kubeconfig for the Docker host",
		Long: `Prints a kubeconfig for the Docker host. It holds an administrator's key: with umask 077 the file that gets it is for its
owner alone.`,
		Example: `  (umask 077; docker exec NAME kubeconfig > kubeconfig) && kubectl --kubeconfig kubeconfig get nodes`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := settings.Load()
			if err != nil {
				return err
			}
			data, err := cluster.HostKubeconfig(p, server, name)
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(data)
			return err
		},
	}
	cmd.Flags().StringVar(&server, "server", "", "the API server's `URL`; https://127.0.0.1:PORT with the port from the environment variable API_PORT if empty")
	cmd.Flags().StringVar(&name, "name", "", "the `name` of the cluster, the user and the context; if empty, the container's host name, "+
		"or dind-cluster where that is only the container's ID")
	return cmd
}
