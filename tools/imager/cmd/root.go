// Package cmd has the verbs of imager, one file each.
package cmd

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

// New makes the command.
func New() *cobra.Command {
	c := &cobra.Command{
		Use:           "imager",
		Short:         "Builds container images from Debian packages and files, without a daemon and without root",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	c.AddCommand(newLayer())
	return c
}

// writeFile writes a small output.
func writeFile(path string, content []byte) error {
	if path == "" {
		return nil
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}
