// Command host starts the tests' own machine: `bazel run //e2e/host`. See docs/test-host.md.
package main

import (
	"context"
	"os"

	"github.com/dind-cluster/dind-cluster/e2e/host/cmd"
	"github.com/dind-cluster/dind-cluster/e2e/host/testhost"
	"github.com/dind-cluster/dind-cluster/internal/cli"
)

// Where the kernel and the root file system are among the runfiles. Bazel sets them when it links.
var kernel, disk string

func main() {
	testhost.Init()
	cli.Exit(func(ctx context.Context) int {
		return cmd.Main(ctx, cmd.Built{Kernel: kernel, Disk: disk}, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	})
}
