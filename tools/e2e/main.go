// E2e runs Kubernetes' end-to-end specs against a cluster and leaves results that people and
// programs can read.
package main

import (
	"os"

	"github.com/dind-cluster/dind-cluster/tools/e2e/cmd"
)

func main() { os.Exit(cmd.Main(os.Args[1:])) }
