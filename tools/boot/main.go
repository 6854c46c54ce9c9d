// Command boot measures how long clusters take to get ready: `bazel run //e2e:boot_benchmark`.
package main

import (
	"context"
	"os"

	"github.com/dind-cluster/dind-cluster/internal/cli"
	"github.com/dind-cluster/dind-cluster/tools/boot/cmd"
)

// Where the images' files are among the runfiles, and the name of an image that is in every node.
// Bazel sets them when it links.
var image, nodeImage, pauseImage string

func main() {
	built := cmd.Built{Image: image, NodeImage: nodeImage, PauseImage: pauseImage}
	cli.Exit(func(ctx context.Context) int { return cmd.Main(ctx, built, os.Args[1:], os.Stdout, os.Stderr) })
}
