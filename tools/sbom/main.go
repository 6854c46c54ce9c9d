// Sbom writes a software bill of materials of a built image, as SPDX.
package main

import (
	"github.com/dind-cluster/dind-cluster/internal/cli"
	"github.com/dind-cluster/dind-cluster/tools/sbom/cmd"
)

func main() { cli.Main("sbom", cmd.New().ExecuteContext) }
