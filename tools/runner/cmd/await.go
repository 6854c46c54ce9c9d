package cmd

import (
	"fmt"
	"os"

	"github.com/dind-cluster/dind-cluster/tools/runner/kubeapi"
	"github.com/dind-cluster/dind-cluster/tools/runner/kubeconfig"
	"github.com/spf13/cobra"
)

func newAwait() *cobra.Command {
	return &cobra.Command{
		Use:    "await KUBECONFIG",
		Short:  "Waits until the API server is ready (an init container of the controller manager)",
		Args:   cobra.ExactArgs(1),
		Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			data, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			config, err := kubeconfig.Parse(data)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			api, err := kubeapi.New(config)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			// Without a deadline: whoever started the pod sees it waiting, and gives up when it is time.
			return api.WaitFor(cmd.Context(), "/readyz")
		},
	}
}
