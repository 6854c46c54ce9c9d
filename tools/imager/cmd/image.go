package cmd

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/dind-cluster/dind-cluster/image"
)

type imageFlags struct {
	spec, config, manifest, digest string
}

func newImage() *cobra.Command {
	f := &imageFlags{}
	c := &cobra.Command{
		Use:   "image --spec image.json --config config.json --manifest manifest.json --digest digest",
		Short: "Make an image's config and manifest from the metadata of its layers",
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return f.run() },
	}
	c.Flags().StringVar(&f.spec, "spec", "", "what the image is made of (JSON)")
	c.Flags().StringVar(&f.config, "config", "", "output: the config")
	c.Flags().StringVar(&f.manifest, "manifest", "", "output: the manifest")
	c.Flags().StringVar(&f.digest, "digest", "", "output: the manifest's digest")
	for _, required := range []string{"spec", "config", "manifest"} {
		_ = c.MarkFlagRequired(required)
	}
	return c
}

func (f *imageFlags) run() error {
	spec, err := image.ReadSpec(f.spec)
	if err != nil {
		return err
	}
	config, manifest, err := image.Build(spec)
	if err != nil {
		return fmt.Errorf("build image: %w", err)
	}
	if err := writeFile(f.config, config); err != nil {
		return err
	}
	if err := writeFile(f.manifest, manifest); err != nil {
		return err
	}
	return writeFile(f.digest, []byte(image.Hash(manifest).String()+"\n"))
}
