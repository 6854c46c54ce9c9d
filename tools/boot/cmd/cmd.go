// Package cmd is the boot benchmark's command line.
package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/cluster/host"
	"github.com/dind-cluster/dind-cluster/image/load"
	"github.com/dind-cluster/dind-cluster/internal/docker"
	"github.com/dind-cluster/dind-cluster/internal/progress"
	"github.com/dind-cluster/dind-cluster/tools/boot/measure"
	"github.com/dind-cluster/dind-cluster/tools/boot/page"
	"github.com/dind-cluster/dind-cluster/tools/boot/result"
)

// Built says what Bazel has put with the program: paths of images' files among the runfiles, and a
// name.
type Built struct {
	Image, NodeImage, PauseImage string
}

// options are what the user asks for.
type options struct {
	starts, repeat   int
	nodes            []int
	output           string
	floor            bool
	image, nodeImage string
	env              []string
	timeout, settle  time.Duration
	built            Built
	stdout, stderr   io.Writer
}

// Main runs the command line and returns the exit status.
func Main(ctx context.Context, built Built, args []string, stdout, stderr io.Writer) int {
	o := &options{built: built, stdout: stdout, stderr: stderr}
	root := o.command()
	root.SetArgs(args)
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintf(stderr, "Error: %v\n", err)
		return 1
	}
	return 0
}

func (o *options) command() *cobra.Command {
	c := &cobra.Command{
		Use:   "boot_benchmark",
		Short: "Measure how long clusters take to get ready",
		Long: `Starts clusters of several sizes in turn and measures them, and in the same run what they
cannot do without: kubeadm alone in one node, and etcd and kube-apiserver alone.
Ready means: all nodes Ready, CoreDNS answers, and a pod of a test Deployment Running.

Writes boot.json and a page with timelines, boot.html, and prints a summary. The exit status
is not 0 if a start failed or took more than twice the median of its size.`,
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          func(c *cobra.Command, _ []string) error { return o.run(c.Context()) },
	}
	c.SetOut(o.stdout)
	c.SetErr(o.stderr)
	c.CompletionOptions.DisableDefaultCmd = true
	f := c.Flags()
	f.IntVar(&o.starts, "starts", 5, "number of starts of each size")
	f.IntVar(&o.repeat, "repeat", 0, "this many starts of each size, and no floor: to see whether one fails or is slow")
	f.IntSliceVar(&o.nodes, "nodes", []int{1, 3, 4}, "sizes of clusters; in each round, one start of each")
	f.StringVar(&o.output, "output", "", "directory for the results (default: a new one below the current directory)")
	f.BoolVar(&o.floor, "floor", true, "measure in each round kubeadm alone, too, and etcd and kube-apiserver")
	f.StringVar(&o.image, "image", "", "image of clusters that the local Docker has, in place of the one just built")
	f.StringVar(&o.nodeImage, "node-image", "", "image of nodes that the local Docker has, for the floor; with --image there is no floor without it")
	f.StringArrayVar(&o.env, "env", nil, "setting of the clusters as NAME=VALUE; may be repeated")
	f.DurationVar(&o.timeout, "timeout", 5*time.Minute, "how long one start may take")
	f.DurationVar(&o.settle, "settle", 0, "time between a start and the look at its memory, such as 30s for that of an idle cluster")
	c.AddCommand(inside(o.stdout), o.render())
	return c
}

// render makes the page of an earlier run anew.
func (o *options) render() *cobra.Command {
	return &cobra.Command{
		Use:   "render DIRECTORY",
		Short: "Make the page and the summary of a run again, from its boot.json",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			run, err := result.Read(filepath.Join(args[0], result.File))
			if err != nil {
				return err
			}
			if err := page.Write(args[0], run); err != nil {
				return err
			}
			return run.Print(o.stdout)
		},
	}
}

func (o *options) check() error {
	if o.repeat < 0 || o.starts < 1 {
		return errors.New("--starts and --repeat: want at least one start")
	}
	if len(o.nodes) == 0 {
		return errors.New("--nodes: want at least one size, such as 1,3,4")
	}
	for i, n := range o.nodes {
		if n < 1 || n > v1alpha1.MaxNodes {
			return fmt.Errorf("--nodes: %d: want sizes from 1 to %d", n, v1alpha1.MaxNodes)
		}
		if slices.Contains(o.nodes[:i], n) {
			return fmt.Errorf("--nodes: %d is there twice", n)
		}
	}
	if o.timeout < time.Second || o.settle < 0 {
		return errors.New("--timeout and --settle: want durations such as 90s")
	}
	if err := host.CheckEnv(o.env, "NODES", "TIMEOUT"); err != nil {
		return fmt.Errorf("--env: %w", err)
	}
	if o.repeat > 0 {
		o.starts, o.floor = o.repeat, false
	}
	if o.image != "" && o.nodeImage == "" {
		o.floor = false
	}
	return nil
}

func (o *options) run(ctx context.Context) error {
	if err := o.check(); err != nil {
		return err
	}
	client, err := docker.Find()
	if err != nil {
		return err
	}
	log := progress.New(o.stderr)
	m := &measure.Measurer{
		Docker: client, Progress: log, PauseImage: o.built.PauseImage, Env: o.env, Limit: o.timeout, Settle: o.settle,
	}
	if m.Image, err = send(ctx, client, log, o.image, o.built.Image); err != nil {
		return err
	}
	if o.floor {
		if m.NodeImage, err = send(ctx, client, log, o.nodeImage, o.built.NodeImage); err != nil {
			return err
		}
	}
	dir, err := o.directory()
	if err != nil {
		return err
	}
	run := &result.Run{Started: time.Now(), Image: m.Image}
	if run.Machine, err = m.Machine(ctx); err != nil {
		return err
	}
	if run.Machine.Load > 0.5 {
		log.Printf("this machine is busy (load average %.1f): the times say little", run.Machine.Load)
	}
	err = o.rounds(ctx, m, run, dir)
	// What there is until then is worth having.
	if len(run.Starts) > 0 {
		if err := page.Write(dir, run); err != nil {
			return err
		}
		if err := run.Print(o.stdout); err != nil {
			return err
		}
		fmt.Fprintf(o.stdout, "Results: %s\n", filepath.Join(dir, page.File))
	}
	if err != nil {
		return err
	}
	if n := len(run.Failures()); n > 0 {
		return fmt.Errorf("%d of %d measurements failed or were slow", n, len(run.Starts)+len(run.Floors))
	}
	return nil
}

// rounds measures everything once in each round, so that what else the machine does hits all alike.
func (o *options) rounds(ctx context.Context, m *measure.Measurer, run *result.Run, dir string) error {
	for round := 1; round <= o.starts; round++ {
		if o.floor {
			for _, kind := range []string{result.Plain, result.Tuned} {
				f, err := m.Floor(ctx, kind, round, kind == result.Tuned)
				if err != nil {
					return err
				}
				run.Floors = append(run.Floors, f)
			}
		}
		for _, nodes := range o.nodes {
			s, err := m.Start(ctx, nodes, round)
			if err != nil {
				return err
			}
			run.Starts = append(run.Starts, s)
			if err := run.Write(dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// directory makes the directory for the results. `bazel run` starts programs elsewhere than where
// the user is.
func (o *options) directory() (string, error) {
	base := os.Getenv("BUILD_WORKING_DIRECTORY")
	dir := o.output
	if dir == "" {
		dir = "boot-benchmark-" + time.Now().UTC().Format("20060102-150405")
	}
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(base, dir)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("making the directory for the results: %w", err)
	}
	return dir, nil
}

// send returns the name of an image in the local Docker, which gets it first if it is one that
// Bazel has built.
func send(ctx context.Context, d *docker.Client, log *progress.Printer, flag, built string) (string, error) {
	if flag != "" {
		_, err := d.InspectImage(ctx, flag)
		return flag, err
	}
	if built == "" {
		return "", errors.New("no image comes with this program: run `bazel run //e2e:boot_benchmark`, or name images with --image and --node-image")
	}
	image, err := load.NewBuilt(d, log, built)
	if err != nil {
		return "", err
	}
	return image.Send(ctx)
}
