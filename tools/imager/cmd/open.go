package cmd

import (
	"errors"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/dind-cluster/dind-cluster/image"
)

// openFlags name an image of the build.
type openFlags struct {
	files, root, name string
}

func (f *openFlags) register(c *cobra.Command) {
	c.Flags().StringVar(&f.files, "image", "", "the description of the image's files (JSON)")
	c.Flags().StringVar(&f.root, "root", "", "the directory that the paths in it are relative to (default: the current one)")
	c.Flags().StringVar(&f.name, "name", "", "the image's name with its tag (default: the description's)")
	_ = c.MarkFlagRequired("image")
}

func (f *openFlags) open() (*image.Files, v1.Image, error) {
	files, err := image.ReadFiles(f.files, f.root)
	if err != nil {
		return nil, nil, err
	}
	if f.name != "" {
		files.Name = f.name
	}
	if files.Name == "" {
		return nil, nil, errors.New("the image has no name: give one with --name")
	}
	img, err := image.Open(files)
	if err != nil {
		return nil, nil, err
	}
	return files, img, nil
}
