// Package cmd is e2e's command line.
package cmd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/cluster/paths"
	"github.com/dind-cluster/dind-cluster/cluster/proxy"
	"github.com/dind-cluster/dind-cluster/cluster/settings"
	"github.com/dind-cluster/dind-cluster/cluster/topology"
	"github.com/dind-cluster/dind-cluster/tools/e2e/results"
	"github.com/dind-cluster/dind-cluster/tools/e2e/run"
	"github.com/dind-cluster/dind-cluster/tools/e2e/suite"
)

const (
	// imagesFile is where the image has the test images, if it has them.
	imagesFile = "/usr/lib/dind-cluster/e2e/images.tar"
	// needsFile is where the image has the table of the images that specs need.
	needsFile = "/usr/lib/dind-cluster/e2e/needs.json"
	// DefaultResults is a directory below the current one: /e2e-results for `docker exec`, which
	// starts in /.
	DefaultResults = "e2e-results"
)

// Main runs the command line and returns the exit status.
func Main(args []string) int {
	status := results.ExitPassed
	root := newRoot(&status)
	root.SetArgs(args)
	ctx, stop := run.Signals(context.Background())
	defer stop()
	err := root.ExecuteContext(ctx)
	if err == nil {
		return status
	}
	fmt.Fprintf(os.Stderr, "e2e: %v\n", err)
	if errors.As(err, new(run.UsageError)) {
		return results.ExitUsage
	}
	if errors.As(err, new(run.StoppedError)) {
		return results.ExitInterrupted
	}
	return results.ExitFailed
}

type flags struct {
	run.Options
	dryRun    bool
	stopOnEOF bool
}

func newRoot(status *int) *cobra.Command {
	f := flags{Options: run.Options{Needs: needsFile, Missing: run.MissingFail}}
	cmd := &cobra.Command{
		Use:   "e2e [flags]",
		Short: "Runs Kubernetes' end-to-end specs against a cluster",
		Long: `Runs Kubernetes' end-to-end specs against a cluster, with the programs e2e.test and ginkgo, and leaves the results in a directory:
summary.txt and report.html for people, junit_01.xml and report.json for programs, e2e.log with all that was printed, logs of
nodes and pods if something failed, and what CNCF's certification asks for after a full conformance run.

Without --focus, --label-filter and --spec it runs the conformance specs.

Exit status: 0 all specs passed, 1 some did not, 2 nothing was run because of a mistake in what was asked for,
3 the run was stopped, or its time was up.`,
		Example: `  docker exec k8s e2e                                       # all conformance specs
  docker exec k8s e2e --focus 'sig-network.*Services'       # some specs
  docker exec k8s e2e --dry-run --label-filter 'sig-storage && Conformance'
  docker cp k8s:/e2e-results .`,
		Args:          noArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.complete(cmd); err != nil {
				return run.UsageError{Err: err}
			}
			if f.dryRun {
				return run.List(cmd.Context(), f.Options, cmd.OutOrStdout(), cmd.ErrOrStderr())
			}
			ctx := cmd.Context()
			if f.stopOnEOF {
				var stop func()
				ctx, stop = run.Until(ctx, cmd.InOrStdin())
				defer stop()
			}
			var err error
			*status, err = run.Run(ctx, f.Options, cmd.OutOrStdout())
			return err
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	// Arrays, not slices: commas belong to regular expressions and to names.
	fs.StringArrayVar(&f.Selection.Focus, "focus", nil, "run specs whose names match this `regexp`; may be repeated, one has to match")
	fs.StringArrayVar(&f.Selection.Skip, "skip", nil, "but none that match this `regexp`; may be repeated")
	fs.StringVar(&f.Selection.LabelFilter, "label-filter", "", "run specs whose labels meet this `expression` of Ginkgo's, such as 'sig-node && !Slow'")
	fs.StringArrayVar(&f.Selection.Specs, "spec", nil, "run the spec of this full `name`; may be repeated, each has to exist and to run")
	fs.BoolVar(&f.dryRun, "dry-run", false, "only list the specs that would run")
	fs.IntVar(&f.Processes, "parallel", 0, "how `many` specs to run at a time; serial specs run alone, after the others (default two per CPU, from 8 to 25)")
	fs.DurationVar(&f.Timeout, "timeout", 3*time.Hour, "stop after this `time`; the results tell what had passed until then")
	fs.IntVar(&f.FlakeAttempts, "flake-attempts", 1, "try a spec that fails again, so `often` in all; if it passes then, it is reported as a flake")
	fs.StringVar(&f.Results, "results", DefaultResults, "`directory` for the results; earlier results in it are replaced")
	fs.StringVar(&f.Suite.Kubeconfig, "kubeconfig", "", "`file` that says which cluster (default $KUBECONFIG, else ~/.kube/config)")
	fs.StringVar(&f.Images, "images", "", "`archive` of test images to load into all nodes first; --images= for none (default "+imagesFile+" if it exists)")
	fs.Var(&f.Missing, "missing", "in a dind-cluster, what to do with specs whose images or kernel features are missing: fail before anything runs, skip them, or run them, since the nodes can pull")
	fs.BoolVar(&f.KeepNamespaces, "keep-namespaces", false, "leave the namespaces of specs that fail, to look at them")
	fs.BoolVar(&f.stopOnEOF, "stop-on-eof", false, "stop when standard input ends: with docker exec -i, when that is no more")
	fs.StringVar(&f.Suite.E2ETest, "e2e-test", "", "`path` of e2e.test (default on PATH)")
	fs.StringVar(&f.Suite.Ginkgo, "ginkgo", "", "`path` of ginkgo (default on PATH)")
	fs.StringVar(&f.Suite.Kubectl, "kubectl", "", "`path` of kubectl (default on PATH)")
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return run.UsageError{Err: fmt.Errorf("%w; see e2e --help", err)}
	})
	cmd.CompletionOptions.DisableDefaultCmd = true
	cmd.AddCommand(newReport(), newGuard())
	return cmd
}

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return run.UsageError{Err: fmt.Errorf("%q is no command, and arguments are not taken; see e2e --help", args[0])}
	}
	return nil
}

// complete checks the flags, and finds the defaults that depend on where this is.
func (f *flags) complete(cmd *cobra.Command) error {
	switch {
	case f.Processes < 0 || f.Processes == 0 && cmd.Flags().Changed("parallel"):
		return fmt.Errorf("--parallel %d: it takes a number from 1 on", f.Processes)
	case f.FlakeAttempts < 1:
		return fmt.Errorf("--flake-attempts %d: it takes a number from 1 on", f.FlakeAttempts)
	case f.Timeout <= 0:
		return fmt.Errorf("--timeout %s: it takes a time from now on, such as 90m", f.Timeout)
	case f.Results == "":
		return errors.New("--results is empty: give a directory")
	}
	role, err := os.ReadFile(paths.Role)
	f.Product = err == nil && strings.TrimSpace(string(role)) == "cluster"
	if !f.Product && cmd.Flags().Changed("missing") {
		return errors.New("--missing: only inside a dind-cluster is it known what the nodes and the kernel have")
	}
	if f.Product {
		if err := f.reachDirectly(os.Getenv, settings.Load); err != nil {
			return err
		}
	}
	if !cmd.Flags().Changed("images") {
		if _, err := os.Stat(imagesFile); err == nil {
			f.Images = imagesFile
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// reachDirectly has the specs talk to the API server itself, without the proxies that the container
// may have for the sake of images. The kubeconfig in the container has 127.0.0.1, for which no
// client takes a proxy: a spec wants to see just that.
func (f *flags) reachDirectly(getenv func(string) string, load func() (v1alpha1.Cluster, error)) error {
	proxy.Clear()
	if f.Suite.Kubeconfig != "" || getenv("KUBECONFIG") != "" {
		return nil
	}
	c, err := load()
	if err != nil {
		return err
	}
	f.Suite.Host = "https://" + topology.Resolve(c).Endpoint.String()
	return nil
}

func newReport() *cobra.Command {
	return &cobra.Command{
		Use:   "report [DIRECTORY]",
		Short: "Makes the summary and the page again, also of a run that was killed",
		Long: `Makes the summary, the page and the directory for the certification again from the results in a directory (` + DefaultResults + ` if none is given): after
a run that was killed, or while one goes on.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := cobra.MaximumNArgs(1)(cmd, args); err != nil {
				return run.UsageError{Err: err}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := DefaultResults
			if len(args) > 0 {
				dir = args[0]
			}
			r, err := run.Report(dir)
			if err != nil {
				return run.UsageError{Err: err}
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), r.Summary())
			return err
		},
	}
}

func newGuard() *cobra.Command {
	return &cobra.Command{
		Use:    suite.GuardVerb,
		Short:  "Ends ginkgo's processes when e2e is no more (started by e2e)",
		Args:   cobra.NoArgs,
		Hidden: true,
		Run:    func(*cobra.Command, []string) { suite.Guard() },
	}
}
