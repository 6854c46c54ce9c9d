package cmd

import (
	"bufio"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/dind-cluster/dind-cluster/image"
)

func newArchive() *cobra.Command {
	f := &openFlags{}
	var output string
	c := &cobra.Command{
		Use:   "archive --image image.files.json [--output image.tar]",
		Short: "Write a file for docker load",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return writeTo(output, c.OutOrStdout(), func(w io.Writer) error { return f.archive(w) })
		},
	}
	f.register(c)
	c.Flags().StringVarP(&output, "output", "o", "-", "output: the archive; - is standard output")
	return c
}

func (f *openFlags) archive(w io.Writer) error {
	files, img, err := f.open()
	if err != nil {
		return err
	}
	if err := image.WriteArchive(w, img, files.Name, 0); err != nil {
		return fmt.Errorf("writing archive of %s: %w", files.Name, err)
	}
	return nil
}

func writeTo(path string, stdout io.Writer, write func(io.Writer) error) error {
	w := stdout
	if path != "-" {
		f, err := os.Create(path)
		if err != nil {
			return fmt.Errorf("writing output: %w", err)
		}
		defer f.Close()
		w = f
	}
	buffered := bufio.NewWriterSize(w, 1<<20)
	if err := write(buffered); err != nil {
		return err
	}
	if err := buffered.Flush(); err != nil {
		return fmt.Errorf("writing output: %w", err)
	}
	if f, ok := w.(*os.File); ok && path != "-" {
		if err := f.Close(); err != nil {
			return fmt.Errorf("writing output: %w", err)
		}
	}
	return nil
}
