package cmd

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/cluster"
	"github.com/dind-cluster/dind-cluster/cluster/console"
	"github.com/dind-cluster/dind-cluster/cluster/failure"
	"github.com/dind-cluster/dind-cluster/cluster/node"
	"github.com/dind-cluster/dind-cluster/cluster/paths"
	"github.com/dind-cluster/dind-cluster/cluster/settings"
	"github.com/spf13/cobra"
)

func newFailed() *cobra.Command {
	return &cobra.Command{
		Use:    "failed",
		Short:  "Says why the container's main unit has failed, and ends the container if it should (started by systemd)",
		Args:   cobra.NoArgs,
		Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			role, err := os.ReadFile(paths.Role)
			if err != nil {
				return err
			}
			f := failure.FromEnv(os.Getenv)
			out := io.MultiWriter(os.Stderr, console.Open())
			if strings.TrimSpace(string(role)) == "node" {
				return nodeFailed(cmd.Context(), f, out)
			}
			return clusterFailed(cmd.Context(), f, out)
		},
	}
}

func clusterFailed(ctx context.Context, f failure.Failure, out io.Writer) error {
	if !f.Explained() {
		if _, err := os.Stat(paths.Ready); err == nil {
			// The cluster works without the runner.
			fmt.Fprintf(out, "%v; the cluster runs on without it\n", f)
			return nil
		}
		cluster.Failed(f.String())
		var since time.Time
		if info, err := os.Stat(paths.Settings); err == nil {
			since = info.ModTime() // the entrypoint's, at this start
		}
		f.Explain(ctx, out, since)
		fmt.Fprintf(out, "the cluster did not come up: %v\n", f)
	}
	// If the settings themselves are wrong, the container ends.
	if p, err := settings.Load(); err == nil && p.Start.OnFailure == v1alpha1.OnFailureKeep {
		return nil
	}
	// With the status 1, which `docker run` and `docker wait` return.
	return exec.CommandContext(ctx, "systemctl", "--no-block", "exit", "1").Run()
}

// nodeFailed reports the failure to the top-level container, which decides what follows.
func nodeFailed(ctx context.Context, f failure.Failure, out io.Writer) error {
	if f.Explained() {
		return nil
	}
	fmt.Fprintf(out, "%v\n", f)
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return node.ReportFailure(ctx, f.String())
}
