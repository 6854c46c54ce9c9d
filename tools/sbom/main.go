// Sbom writes what a built image is made of, as SPDX.
package main

import (
	"github.com/dind-cluster/dind-cluster/internal/cli"
	"github.com/dind-cluster/dind-cluster/tools/sbom/cmd"
)

func main() { cli.Main("sbom", cmd.New().ExecuteContext) }
