// Golden compares the files of layers with golden listings, or writes these: see rules/golden.bzl.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/dind-cluster/dind-cluster/internal/cli"
)

// specVariable names the file with what is to be done: Bazel's rules for tests and `bazel run` pass
// no arguments.
const specVariable = "GOLDEN_SPEC"

// spec is that file (JSON). Paths are relative to the current directory, of the runfiles.
type spec struct {
	Goldens []golden `json:"goldens"`
	// Update has the goldens written, below BUILD_WORKSPACE_DIRECTORY.
	Update bool `json:"update"`
}

func main() {
	cli.Main("golden", func(context.Context) error {
		return run(os.Getenv(specVariable), os.Getenv("BUILD_WORKSPACE_DIRECTORY"))
	})
}

func run(file, workspace string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("reading %s, which names what to compare: %w (start it with bazel)", specVariable, err)
	}
	var s spec
	if err := json.Unmarshal(text, &s); err != nil {
		return fmt.Errorf("reading %s: %w", file, err)
	}
	var errs []error
	for _, g := range s.Goldens {
		actual, err := g.listing()
		if err == nil && s.Update {
			err = g.write(workspace, actual)
		} else if err == nil {
			err = g.compare(actual)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
