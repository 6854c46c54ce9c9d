// Loader loads container images into the nodes of a dind-cluster.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"github.com/dind-cluster/dind-cluster/tools/loader/command"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	if err := command.New().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "loader:", command.Message(err))
		os.Exit(1)
	}
}
