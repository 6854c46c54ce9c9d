// Package cmd has the verbs of imager, one file each.
package cmd

import (
	"context"
	"encoding/json"
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
	c.AddCommand(newLayer(), newImage(), newArchive(), newLayout(), newLoad())
	return c
}

// argsVariable has arguments, as a JSON list, that come before those of the command
// line: Bazel's rules for `bazel run` and tests have no other way to give some.
const argsVariable = "IMAGER_ARGS"

// Main runs the command.
func Main(ctx context.Context, args []string) error {
	if text := os.Getenv(argsVariable); text != "" {
		var first []string
		if err := json.Unmarshal([]byte(text), &first); err != nil {
			return fmt.Errorf("%s: %w", argsVariable, err)
		}
		args = append(first, args...)
	}
	c := New()
	c.SetArgs(args)
	return c.ExecuteContext(ctx)
}

// writeFile writes a small output.
func writeFile(path string, content []byte) error {
	if path == "" {
		return nil
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		return fmt.Errorf("writing output: %w", err)
	}
	return nil
}
