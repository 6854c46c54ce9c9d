// Command runner brings a Kubernetes cluster up: `runner cluster` in the top-level container, `runner node` in each
// of its nodes, and `runner entrypoint` as process 1 of both.
package main

import (
	"os"

	"github.com/dind-cluster/dind-cluster/tools/runner/cmd"
)

func main() { os.Exit(cmd.Main(os.Args)) }
