package cmd

import (
	"github.com/spf13/cobra"

	"github.com/dind-cluster/dind-cluster/image"
)

func newLayout() *cobra.Command {
	f := &openFlags{}
	var output string
	c := &cobra.Command{
		Use:   "layout --image image.files.json --output directory",
		Short: "Write an OCI layout",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			files, img, err := f.open()
			if err != nil {
				return err
			}
			return image.WriteLayout(output, img, files.Name)
		},
	}
	f.register(c)
	c.Flags().StringVarP(&output, "output", "o", "", "output: the layout's directory")
	_ = c.MarkFlagRequired("output")
	return c
}
