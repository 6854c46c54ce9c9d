// Command launcher, which `bazel run //images:dind-cluster` runs, sends the image to the local
// Docker, starts a cluster from it and manages the clusters there are.
package main

import (
	"context"
	"os"

	"github.com/dind-cluster/dind-cluster/internal/cli"
	launcher "github.com/dind-cluster/dind-cluster/tools/launcher/cli"
)

// image is where the image's files are among the runfiles. Bazel sets it when it links.
var image string

func main() {
	cli.Exit(func(ctx context.Context) int {
		return launcher.Main(ctx, image, os.Args[1:], os.Stdout, os.Stderr)
	})
}
