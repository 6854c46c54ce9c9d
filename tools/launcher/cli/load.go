package cli

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/spf13/cobra"
)

type loadFlags struct {
	archive string
}

func (a *app) load() *cobra.Command {
	var flags loadFlags
	cmd := &cobra.Command{
		Use:   "load [IMAGE...]",
		Short: "Copy images of the local Docker, or an archive of images, to all nodes",
		RunE:  func(c *cobra.Command, images []string) error { return a.runLoad(c.Context(), flags, images) },
	}
	cmd.Flags().StringVar(&flags.archive, "archive", "", "archive of images, as docker save writes it or an OCI layout as tar; - is standard input")
	return cmd
}

func (a *app) runLoad(ctx context.Context, flags loadFlags, images []string) error {
	if (flags.archive == "") == (len(images) == 0) {
		return usageError{errors.New("want images of the local Docker, or an archive with --archive")}
	}
	l, err := a.newLauncher(a.stderr)
	if err != nil {
		return err
	}
	if flags.archive == "" {
		return l.LoadImages(ctx, a.name, images...)
	}
	var in io.Reader = os.Stdin
	if flags.archive != "-" {
		file, err := os.Open(userPath(flags.archive))
		if err != nil {
			return err
		}
		defer file.Close()
		in = file
	}
	return l.Load(ctx, a.name, in)
}
