// Package cli is the publisher's command line.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dind-cluster/dind-cluster/internal/progress"
	"github.com/dind-cluster/dind-cluster/tools/publisher/push"
	"github.com/dind-cluster/dind-cluster/tools/publisher/registry"
)

// Exit statuses, besides 0.
const (
	statusError       = 1
	statusUsage       = 2
	statusInterrupted = 130 // as a shell has it for Ctrl-C
)

// argsVariable holds arguments, as a JSON list, that come before those of the command line: Bazel's
// rules for `bazel run` have no other way to pass some.
const argsVariable = "PUBLISHER_ARGS"

// usageError is an error in the command line.
type usageError struct{ error }

// flags are the command line's flags.
type flags struct {
	// Set by the rule.
	target   string
	root     string
	images   []string
	sboms    []string
	siblings []string
	bases    []string
	status   string
	// Set by the user.
	registry   string
	tags       []string
	dryRun     bool
	withSBOM   bool
	withCommit bool
	digestFile string
	timeout    time.Duration
	jobs       int
	insecure   bool
	caFile     string
}

// Main runs the command line and returns the exit status.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if text := os.Getenv(argsVariable); text != "" {
		var first []string
		if err := json.Unmarshal([]byte(text), &first); err != nil {
			fmt.Fprintf(stderr, "Error: %s: %v\n", argsVariable, err)
			return statusUsage
		}
		args = append(first, args...)
	}
	f := &flags{}
	c := f.command(stdout, stderr)
	c.SetArgs(args)
	err := c.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	var usage usageError
	switch {
	case ctx.Err() != nil:
		fmt.Fprintf(stderr, "Error: interrupted: %v\n", err)
		return statusInterrupted
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "Error: %v\nRun %q for usage.\n", err, f.display()+" --help")
		return statusUsage
	}
	fmt.Fprintf(stderr, "Error: %v\n", err)
	return statusError
}

// display is the command line that the user started this program with.
func (f *flags) display() string {
	if f.target != "" && os.Getenv("BUILD_WORKSPACE_DIRECTORY") != "" {
		return "bazel run " + f.target + " --"
	}
	return "publisher"
}

func (f *flags) command(stdout, stderr io.Writer) *cobra.Command {
	c := &cobra.Command{
		Use:   "publisher --registry REGISTRY/PATH",
		Short: "Push images to a registry",
		Long: `Pushes images to a registry, as REGISTRY/PATH/NAME: uploads what the registry lacks, mounts what it has
under another name, and writes the tags when everything else is there. It prints NAME@DIGEST and the
tags of each image.

Credentials are those of docker login, credential helpers included; ` + registry.UsernameVariable + ` and
` + registry.PasswordVariable + ` in the environment win.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("unexpected argument %q", args[0])}
			}
			return nil
		},
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          func(c *cobra.Command, _ []string) error { return f.run(c.Context(), stdout, stderr) },
	}
	c.CompletionOptions.DisableDefaultCmd = true
	c.SetOut(stdout)
	c.SetErr(stderr)
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	own := c.Flags()
	own.SortFlags = false
	own.StringVar(&f.registry, "registry", "", "registry and path to push to: registry.example.com/team")
	own.StringArrayVar(&f.tags, "tag", nil, "tag of every image, repeatable (default: the version, and the version with the commit)")
	own.BoolVar(&f.dryRun, "dry-run", false, "say what would be uploaded, mounted and tagged, and change nothing")
	own.StringVar(&f.digestFile, "digest-file", "", "file to write the lines NAME@DIGEST TAG… to")
	own.BoolVar(&f.withSBOM, "sbom", true, "attach the images' SBOMs")
	own.BoolVar(&f.withCommit, "stamp", true, "write the checkout's commit into the manifests and the default tags")
	own.DurationVar(&f.timeout, "timeout", 30*time.Minute, "how long all of it may take")
	own.IntVar(&f.jobs, "jobs", 4, "how many blobs to upload at a time")
	own.BoolVar(&f.insecure, "insecure", false, "allow plain HTTP to another machine (to this one it is always allowed)")
	own.StringVar(&f.caFile, "ca-file", "", "certificate authorities to trust besides the machine's own (PEM)")
	own.StringVar(&f.target, "target", "", "")
	own.StringVar(&f.root, "root", "", "")
	own.StringArrayVar(&f.images, "image", nil, "description of an image's files, as Bazel writes it; repeatable")
	own.StringArrayVar(&f.sboms, "sbom-file", nil, "SBOM of an image: NAME=FILE; repeatable")
	own.StringArrayVar(&f.siblings, "sibling", nil, "name of an image to mount blobs from; repeatable")
	own.StringArrayVar(&f.bases, "base-manifest", nil, "manifest of an image below those to push, as it was built; repeatable, the lowest first")
	own.StringVar(&f.status, "status", "", "Bazel's status file, with the commit")
	for _, name := range []string{"target", "root", "image", "sbom-file", "sibling", "base-manifest", "status"} {
		if err := own.MarkHidden(name); err != nil {
			panic(err) // a name that is not declared above
		}
	}
	return c
}

func (f *flags) run(ctx context.Context, stdout, stderr io.Writer) error {
	place, err := f.check()
	if err != nil {
		return usageError{err}
	}
	printer := progress.New(stderr)
	start := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, f.timeout,
		fmt.Errorf("not finished within %v (--timeout); push again: what has arrived is not sent a second time", f.timeout))
	defer cancel()

	images, err := f.open(printer)
	if err != nil {
		return err
	}
	digests, err := newOutput(f.digestFile)
	if err != nil {
		return err
	}
	defer digests.abandon()
	client, err := registry.New(ctx, place, registry.Options{Insecure: f.insecure, CAFile: inWorkingDirectory(f.caFile), Jobs: f.jobs})
	if err != nil {
		return err
	}
	step := printer.Step("Asking %s", place.Host())
	plan, err := push.NewPlan(ctx, client, images, f.siblings)
	if err != nil {
		step.Fail("")
		return err
	}
	step.Done("%s", plan.Summary())
	if f.dryRun {
		if err := plan.Describe(stdout); err != nil {
			return err
		}
		printer.Printf("Dry run: nothing was changed")
		return nil
	}
	stats, err := plan.Push(ctx, f.jobs, printer)
	if err != nil {
		return err
	}
	printer.Printf("Pushed to %s in %s: %d blobs uploaded, %d bytes; %d mounted", place, progress.Duration(time.Since(start)),
		stats.Uploaded, stats.Bytes, stats.Mounted)
	if _, err := io.WriteString(stdout, plan.Published()); err != nil {
		return err
	}
	return digests.write(plan.Published())
}

// check validates the flags before anything happens.
func (f *flags) check() (registry.Place, error) {
	if f.registry == "" {
		return registry.Place{}, errors.New("no registry: say where to push to, such as --registry registry.example.com/team")
	}
	place, err := registry.ParsePlace(f.registry)
	if err != nil {
		return registry.Place{}, fmt.Errorf("--registry: %w", err)
	}
	for i, tag := range f.tags {
		if err := registry.CheckTag(tag); err != nil {
			return registry.Place{}, fmt.Errorf("--tag: %w", err)
		}
		if slices.Contains(f.tags[:i], tag) {
			return registry.Place{}, fmt.Errorf("--tag: %q is given twice", tag)
		}
	}
	switch {
	case f.timeout <= 0:
		return registry.Place{}, fmt.Errorf("--timeout: %v is no time to push in", f.timeout)
	case f.jobs < 1:
		return registry.Place{}, fmt.Errorf("--jobs: %d: want at least 1", f.jobs)
	case len(f.images) == 0:
		return registry.Place{}, errors.New("no image comes with this program: start it with bazel run //images:push")
	}
	return place, nil
}

// inWorkingDirectory makes a path relative to where the user is: `bazel run` starts programs in
// another directory.
func inWorkingDirectory(path string) string {
	if dir := os.Getenv("BUILD_WORKING_DIRECTORY"); dir != "" && path != "" && !filepath.IsAbs(path) {
		return filepath.Join(dir, path)
	}
	return path
}

// split cuts NAME:TAG.
func split(name string) (image, tag string, err error) {
	image, tag, found := strings.Cut(name, ":")
	if !found || image == "" {
		return "", "", fmt.Errorf("%q is not NAME:TAG", name)
	}
	return image, tag, registry.CheckTag(tag)
}
