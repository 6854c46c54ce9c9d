// Package cmd is the test host's command line.
package cmd

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/dind-cluster/dind-cluster/e2e/host/testhost"
	"github.com/dind-cluster/dind-cluster/internal/runfiles"
)

// Built says what Bazel has put with the program: paths among the runfiles.
type Built struct {
	Kernel, Disk string
}

// failed is the exit status when there is none of a command, as that of `docker run`.
const failed = 125

// Main runs the command line and returns the exit status.
func Main(ctx context.Context, built Built, args []string, stdin *os.File, stdout, stderr io.Writer) int {
	code := 0
	c := command(built, testhost.Options{Stdin: stdin, Stdout: stdout, Stderr: stderr}, &code)
	c.SetArgs(args)
	c.SetOut(stdout)
	c.SetErr(stderr)
	if err := c.ExecuteContext(ctx); err != nil {
		fmt.Fprintf(stderr, "Error: %v\n", err)
		return failed
	}
	return code
}

func command(built Built, o testhost.Options, code *int) *cobra.Command {
	var memory, disk int64
	var timeout time.Duration
	var verbose bool
	c := &cobra.Command{
		Use:   "host [OPTION...] [COMMAND ARGUMENT...]",
		Short: "Start a machine for tests, with cgroup v2 and Docker",
		Long: `Starts a machine in this process: user-mode Linux. It has Docker, cgroups of version 2 and what specs
of Kubernetes ask of a kernel, no network, and those directories of this machine that it is given. It is no
sandbox: root in it can mount whatever files you have.

Without a command it is a shell; its end is that of the machine. The exit status is the command's, or
125 if the machine did not come so far.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(c *cobra.Command, args []string) (err error) {
			o.Command, o.Memory, o.Disk = args, memory<<30, disk<<30
			if verbose {
				o.Log = o.Stderr
			}
			if o.Linux, err = runfile(built.Kernel, o.Linux); err != nil {
				return err
			}
			if o.Root, err = runfile(built.Disk, o.Root); err != nil {
				return err
			}
			ctx := c.Context()
			if timeout > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeoutCause(ctx, timeout, fmt.Errorf("it was not done after %s", timeout))
				defer cancel()
			}
			*code, err = run(ctx, o)
			return err
		},
	}
	c.CompletionOptions.DisableDefaultCmd = true
	f := c.Flags()
	// What follows the command is the command's.
	f.SetInterspersed(false)
	f.IntVar(&o.CPUs, "cpus", 2, "number of processors, 4 at most")
	f.StringVar(&o.Dir, "dir", "", "directory of the machine that the command runs in")
	f.Int64Var(&disk, "disk", 30, "size of the disk for Docker in GiB, of which it takes what is used")
	f.StringArrayVar(&o.Env, "env", nil, "NAME=VALUE for the command's environment; may be repeated")
	f.StringVar(&o.Linux, "kernel", "", "file of another kernel than Bazel's")
	f.Int64Var(&memory, "memory", 6, "memory in GiB, of which it takes what is used")
	f.StringVar(&o.Root, "root", "", "image file of another root file system than Bazel's; it stays as it is")
	f.StringArrayVar(&o.Shares, "share", nil, "directory of this machine to have at the same path, read-only, or to write with \":rw\" at the end; may be repeated")
	f.DurationVar(&timeout, "timeout", 0, "how long it may take altogether (as long as it takes)")
	f.BoolVar(&verbose, "verbose", false, "show what the kernel and systemd say")
	return c
}

func run(ctx context.Context, o testhost.Options) (int, error) {
	// The kernel has the terminal pass everything through, and may have no time to undo that.
	if terminal := int(o.Stdin.Fd()); len(o.Command) == 0 {
		if settings, err := unix.IoctlGetTermios(terminal, unix.TCGETS); err == nil {
			defer unix.IoctlSetTermios(terminal, unix.TCSETS, settings)
		}
	}
	return testhost.Run(ctx, o)
}

// runfile returns the absolute path of a file: of the one that the user names, else of one among
// the runfiles.
func runfile(path, named string) (string, error) {
	if named != "" {
		return filepath.Abs(named)
	}
	root, err := runfiles.Root(path)
	if err != nil {
		return "", fmt.Errorf("%w, or name other files with --kernel and --root", err)
	}
	return filepath.EvalSymlinks(filepath.Join(root, path))
}
