// Command launcher is what `bazel run //images:dind-cluster` runs: it sends the image to
// the local Docker, starts a cluster from it and looks after the clusters there are.
package main

import (
	"os"

	"github.com/dind-cluster/dind-cluster/tools/launcher/cli"
)

// image is where the image's files are among the runfiles. Bazel sets it when it links.
var image string

func main() {
	os.Exit(cli.Main(image, os.Args[1:], os.Stdout, os.Stderr))
}
