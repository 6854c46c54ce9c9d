// Store writes images as they are in containerd's root directory once it has unpacked them:
// snapshots, content and databases. A containerd that starts with such a store neither copies nor
// unpacks a layer.
package main

import (
	"github.com/containerd/log"

	"github.com/dind-cluster/dind-cluster/internal/cli"
	"github.com/dind-cluster/dind-cluster/tools/store/cmd"
)

func main() {
	// The warnings of containerd's packages do not matter here, where no containerd runs.
	if err := log.SetLevel("error"); err != nil {
		panic(err)
	}
	cli.Main("store", cmd.New().ExecuteContext)
}
