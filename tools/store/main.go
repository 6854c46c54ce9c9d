// Store writes images as containerd's root has them once it has unpacked them: snapshots, content and databases. Whoever starts
// from such a store neither copies nor unpacks a layer.
package main

import (
	"github.com/containerd/log"

	"github.com/dind-cluster/dind-cluster/internal/cli"
	"github.com/dind-cluster/dind-cluster/tools/store/cmd"
)

func main() {
	// containerd's packages warn of what does not matter while nothing runs.
	if err := log.SetLevel("error"); err != nil {
		panic(err)
	}
	cli.Main("store", cmd.New().ExecuteContext)
}
