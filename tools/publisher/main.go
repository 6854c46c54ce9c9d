// Command publisher is what `bazel run //images:push` runs: it pushes images that Bazel has built to a registry.
package main

import (
	"os"

	"github.com/dind-cluster/dind-cluster/tools/publisher/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:], os.Stdout, os.Stderr))
}
