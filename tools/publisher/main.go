// Command publisher pushes images that Bazel has built to a registry: `bazel run //images:push`
// runs it.
package main

import (
	"context"
	"os"

	"github.com/dind-cluster/dind-cluster/internal/cli"
	publisher "github.com/dind-cluster/dind-cluster/tools/publisher/cli"
)

func main() {
	cli.Exit(func(ctx context.Context) int { return publisher.Main(ctx, os.Args[1:], os.Stdout, os.Stderr) })
}
