// Store writes images as containerd's root has them once it has unpacked them: snapshots, content and databases. Whoever starts
// from such a store neither copies nor unpacks a layer.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/containerd/log"

	"github.com/dind-cluster/dind-cluster/tools/store/cmd"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// containerd's packages warn of what does not matter while nothing runs.
	if err := log.SetLevel("error"); err != nil {
		panic(err)
	}
	if err := cmd.New().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "store:", err)
		os.Exit(1)
	}
}
