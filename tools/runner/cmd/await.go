package cmd

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"github.com/dind-cluster/dind-cluster/tools/runner/kubeapi"
	"github.com/dind-cluster/dind-cluster/tools/runner/kubeconfig"
	"github.com/spf13/cobra"
)

func newAwait() *cobra.Command {
	c := &cobra.Command{
		Use:    "await KUBECONFIG PROGRAM [ARGUMENT...]",
		Short:  "Waits until the API server is ready, and becomes a program (a container of a static pod)",
		Args:   cobra.MinimumNArgs(2),
		Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			program, err := exec.LookPath(args[1])
			if err != nil {
				return err
			}
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
			// Without a deadline: the kubelet sees that the container has not started, and gives up when it is time.
			if err := api.WaitFor(cmd.Context(), "/readyz"); err != nil {
				return err
			}
			return fmt.Errorf("becoming %s: %w", program, syscall.Exec(program, args[1:], os.Environ()))
		},
	}
	// What follows the program's name is the program's.
	c.Flags().SetInterspersed(false)
	return c
}
