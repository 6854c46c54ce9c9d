// Imager turns Debian packages and files into layers, and layers into images.
package main

import (
	"context"
	"os"

	"github.com/dind-cluster/dind-cluster/internal/cli"
	"github.com/dind-cluster/dind-cluster/tools/imager/cmd"
)

func main() {
	cli.Main("imager", func(ctx context.Context) error { return cmd.Main(ctx, os.Args[1:]) })
}
