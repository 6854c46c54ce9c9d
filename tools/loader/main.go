// Loader loads container images into the nodes of a dind-cluster.
package main

import (
	"github.com/dind-cluster/dind-cluster/internal/cli"
	"github.com/dind-cluster/dind-cluster/tools/loader/command"
)

func main() { cli.Main("loader", command.Run) }
