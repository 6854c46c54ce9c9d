// Command build compiles the kernel of Debian's package linux-source as a program: user-mode Linux.
//
// The compiler and whatever else takes part come from locked Debian packages, which are laid out as the root that the
// build runs in.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/dind-cluster/dind-cluster/image/debroot"
	"github.com/dind-cluster/dind-cluster/internal/repeated"
)

func main() {
	debroot.Init()
	var b kernel
	flag.Var((*repeated.Strings)(&b.packages), "deb", "a Debian `package` of the source or the toolchain; repeat")
	flag.Var((*repeated.Strings)(&b.patches), "patch", "a `file` of changes to the source; repeat")
	flag.StringVar(&b.config, "config", "", "`file` with what of the configuration is not the architecture's default")
	flag.StringVar(&b.out, "out", "", "program to write")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := b.build(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "building %s: %v\n", b.out, err)
		os.Exit(1)
	}
}
