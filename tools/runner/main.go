// Command runner brings a Kubernetes cluster up: `runner cluster` in the top-level container,
// `runner node` in each of its nodes, and `runner entrypoint` as process 1 of both.
package main

import (
	"context"
	"os"

	"github.com/dind-cluster/dind-cluster/internal/cli"
	"github.com/dind-cluster/dind-cluster/tools/runner/cmd"
)

func main() {
	cli.Exit(func(ctx context.Context) int { return cmd.Main(ctx, os.Args) })
}
