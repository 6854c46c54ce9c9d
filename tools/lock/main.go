// Lock writes the locks of the two channels through which everything enters the build: Go modules
// and Debian packages. scripts/lock calls it.
package main

import (
	"context"
	"errors"
	"os"

	"github.com/spf13/cobra"

	"github.com/dind-cluster/dind-cluster/internal/cli"
	"github.com/dind-cluster/dind-cluster/tools/lock/debian"
	"github.com/dind-cluster/dind-cluster/tools/lock/universe"
)

func main() {
	cli.Main("lock", func(ctx context.Context) error {
		c := &cobra.Command{Use: "lock", Short: "Write the locks of the build's inputs", SilenceUsage: true, SilenceErrors: true}
		c.AddCommand(newGo(), newDebian())
		return c.ExecuteContext(ctx)
	})
}

func newGo() *cobra.Command {
	return &cobra.Command{
		Use:   "go DIR [MODULE@VERSION…]",
		Short: "Write DIR/go.mod and DIR/go.sum, with upstream's own versions",
		Args:  cobra.MinimumNArgs(1),
		RunE:  func(c *cobra.Command, args []string) error { return universe.Lock(c.Context(), args[0], args[1:]) },
	}
}

func newDebian() *cobra.Command {
	// Not flags, which all users of the machine can see: the URLs may have passwords.
	o := debian.Options{Main: os.Getenv("DEBIAN_MIRROR"), Security: os.Getenv("DEBIAN_SECURITY_MIRROR"), Log: os.Stderr}
	c := &cobra.Command{
		Use:   "debian --packages NAME.packages --output NAME.lock.json [--suite SUITE]",
		Short: "Write the lock of a list of packages, from DEBIAN_MIRROR and DEBIAN_SECURITY_MIRROR",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if o.Main == "" {
				return errors.New("DEBIAN_MIRROR is not set: scripts/lock debian finds a mirror")
			}
			return debian.Lock(c.Context(), o)
		},
	}
	c.Flags().StringVar(&o.Packages, "packages", "", "the list of wanted packages")
	c.Flags().StringVar(&o.Output, "output", "", "output: the lock")
	c.Flags().StringVar(&o.Suite, "suite", "", "the suite of Debian (default: the present lock's)")
	_ = c.MarkFlagRequired("packages")
	_ = c.MarkFlagRequired("output")
	return c
}
