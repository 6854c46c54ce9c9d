// Package cmd is the runner's command line: one verb per file.
package cmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dind-cluster/dind-cluster/cluster"
	"github.com/dind-cluster/dind-cluster/cluster/component"
	"github.com/spf13/cobra"
)

// Main runs the command line and returns the exit status.
func Main(ctx context.Context, args []string) int {
	root := &cobra.Command{
		Use:           "runner",
		Short:         "Brings a Kubernetes cluster up inside a container",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(
		newEntrypoint(),
		newConsole(),
		newCluster(),
		newDNS(),
		newBalance(),
		newHealth(),
		newKubeconfig(),
		newConfig(),
		newLogs(),
		newControl(),
		newProbe(),
		newSnapshot(),
		newTunnel(),
		newEtcdctl(),
		newFailed(),
		newVolume(),
		newVersion(),
	)
	root.AddCommand(verbCommands()...)
	verb := args[1:]
	// The image has a link to the runner under the first name, so that `docker exec NAME kubeconfig`
	// works; pods of local-path-provisioner have it under the second.
	if name := filepath.Base(args[0]); name == "kubeconfig" || name == "volume" {
		verb = append([]string{name}, verb...)
	}
	root.SetArgs(verb)
	run := root.ExecuteContext
	if component.Waits(filepath.Base(args[0])) {
		run = func(ctx context.Context) error { return await(ctx, args) }
	}
	if err := run(ctx); err != nil {
		if !errors.As(err, new(*cluster.ExitError)) {
			fmt.Fprintf(os.Stderr, "error: %v\n", err)
		}
		return status(err)
	}
	return 0
}
