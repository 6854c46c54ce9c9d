// Command fuzz fuzzes each Fuzz function of a test program for a few seconds, from its seeds.
//
//	fuzz [-time DURATION] PROGRAM
//
// The program is one that Bazel has built, so it counts no coverage: inputs are mutated from the seeds alone. For a search
// that learns, there is `go test -fuzz`. An input that fails is printed, and kept in TEST_UNDECLARED_OUTPUTS_DIR.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/dind-cluster/dind-cluster/internal/cli"
)

func main() {
	duration := flag.Duration("time", 3*time.Second, "how long each function is fuzzed")
	flag.Parse()
	cli.Main("fuzz", func(ctx context.Context) error { return fuzz(ctx, os.Stdout, *duration, flag.Args()) })
}

func fuzz(ctx context.Context, out io.Writer, duration time.Duration, args []string) error {
	if len(args) != 1 {
		return cli.Usage("fuzz [-time DURATION] PROGRAM")
	}
	// Workers are started in another folder.
	program, err := filepath.Abs(args[0])
	if err != nil {
		return err
	}
	list, err := command(ctx, program, "-test.list=^Fuzz").Output()
	if err != nil {
		return fmt.Errorf("listing what %s fuzzes: %w", program, err)
	}
	functions := strings.Fields(string(list))
	if len(functions) == 0 {
		return fmt.Errorf("%s has no Fuzz function", program)
	}
	corpus, err := os.MkdirTemp(os.Getenv("TEST_TMPDIR"), "corpus")
	if err != nil {
		return err
	}
	defer os.RemoveAll(corpus)
	var failed []error
	for _, f := range functions {
		cmd := command(ctx, program, "-test.run=^$", "-test.fuzz=^"+f+"$", "-test.fuzztime="+duration.String(),
			"-test.fuzzcachedir="+corpus, "-test.parallel=1")
		var said bytes.Buffer
		cmd.Stdout = io.MultiWriter(out, &said)
		cmd.Stderr = cmd.Stdout
		err := cmd.Run()
		// The end of the time may look like a failure (go.dev/issue/75804).
		if err != nil && inputForm.Find(said.Bytes()) == nil && timeOver.Match(said.Bytes()) {
			continue
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w%s", f, err, input(&said)))
		}
	}
	return errors.Join(failed...)
}

// command runs the program as Bazel would run it, in the folder of its package.
func command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	cmd.Env = append(os.Environ(), "GO_TEST_RUN_FROM_BAZEL=1", "GO_TEST_WRAP=0")
	return cmd
}

var (
	inputForm = regexp.MustCompile(`Failing input written to (testdata/fuzz/\S+)`)
	timeOver  = regexp.MustCompile(`(?m)^--- FAIL: Fuzz\w+ \(\S+\)\n    context deadline exceeded\nFAIL$`)
)

// input shows the input that a run says to have failed with, and keeps it.
func input(said *bytes.Buffer) string {
	found := inputForm.FindSubmatch(said.Bytes())
	if found == nil {
		return ""
	}
	var text []byte
	// The run's folder is that of its package below ours.
	err := filepath.WalkDir(".", func(path string, _ os.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, string(found[1])) {
			text, err = os.ReadFile(path)
		}
		return err
	})
	if err != nil || text == nil {
		return fmt.Sprintf("; %s is not found: %v", found[1], err)
	}
	if dir := os.Getenv("TEST_UNDECLARED_OUTPUTS_DIR"); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, strings.ReplaceAll(string(found[1]), "/", "-")), text, 0o644); err != nil {
			return "; " + err.Error()
		}
	}
	return fmt.Sprintf("; the package gets %s:\n%s", found[1], text)
}
