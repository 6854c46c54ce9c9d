package cmd

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/dind-cluster/dind-cluster/image/load"
	"github.com/dind-cluster/dind-cluster/internal/docker"
	"github.com/dind-cluster/dind-cluster/internal/progress"
)

func newLoad() *cobra.Command {
	f := &openFlags{}
	c := &cobra.Command{
		Use:   "load --image image.files.json",
		Short: "Bring an image into the local Docker, sending only the layers it lacks",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			files, img, err := f.open()
			if err != nil {
				return err
			}
			client, err := docker.Find()
			if err != nil {
				return err
			}
			step := progress.New(os.Stderr).Step("Loading %s", files.Name)
			r, err := load.Image(c.Context(), client, img, files.Name)
			if err != nil {
				step.Fail("")
				return err
			}
			step.Done("%d of %d layers sent, %s", r.Sent, r.Layers, progress.Size(r.Bytes))
			return nil
		},
	}
	f.register(c)
	return c
}
