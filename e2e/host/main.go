// Command host starts the tests' own machine: `bazel run //e2e/host` for a shell in it, and with `-- COMMAND…` for a
// command. See docs/test-host.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/dind-cluster/dind-cluster/e2e/host/testhost"
	"github.com/dind-cluster/dind-cluster/tools/repeated"
)

// Where the kernel and the root file system are among the runfiles. Bazel sets them when it links.
var kernel, disk string

func main() {
	testhost.Init()
	code, err := run()
	if err != nil {
		fmt.Fprintln(os.Stderr, "host:", err)
		code = 125 // As `docker run` does.
	}
	os.Exit(code)
}

func run() (int, error) {
	o := testhost.Options{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: host [OPTION…] [COMMAND ARGUMENT…]\n\nWithout a command, it is a shell. Ctrl-D ends it and the machine.")
		flag.PrintDefaults()
	}
	flag.StringVar(&o.Linux, "kernel", "", "the kernel's `file`; default: Bazel's")
	flag.StringVar(&o.Root, "root", "", "image `file` of the root file system, which stays as it is; default: Bazel's")
	memory := flag.Int64("memory", 6, "memory in `GiB`, of which the host gives what is used")
	size := flag.Int64("disk", 30, "size of the disk for Docker in `GiB`, of which the host gives what is used")
	flag.IntVar(&o.CPUs, "cpus", 2, "`number` of processors, 4 at most")
	flag.Var((*repeated.Strings)(&o.Shares), "share", "`folder` of the host to be seen at the same path, to write with \":rw\" at the end; repeat")
	flag.StringVar(&o.Dir, "dir", "", "`folder` of the machine to run in")
	flag.Var((*repeated.Strings)(&o.Env), "env", "`NAME=VALUE` for the environment; repeat")
	timeout := flag.Duration("timeout", 0, "how long it may take altogether; 0: as long as it takes")
	verbose := flag.Bool("verbose", false, "show what the kernel and systemd say")
	flag.Parse()
	o.Command = flag.Args()
	o.Memory, o.Disk = *memory<<30, *size<<30
	if *verbose {
		o.Log = os.Stderr
	}
	for file, at := range map[*string]string{&o.Linux: kernel, &o.Root: disk} {
		if *file == "" {
			*file = runfile(at)
		}
		if *file == "" {
			return 0, errors.New("neither Bazel's kernel and root file system are here nor others: run it with `bazel run //e2e/host`")
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if *timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, *timeout, fmt.Errorf("it was not done after %s", *timeout))
		defer cancel()
	}
	// The kernel has the terminal pass everything through, and may have no time to undo that.
	if settings, err := unix.IoctlGetTermios(int(os.Stdin.Fd()), unix.TCGETS); err == nil && len(o.Command) == 0 {
		defer unix.IoctlSetTermios(int(os.Stdin.Fd()), unix.TCSETS, settings)
	}
	return testhost.Run(ctx, o)
}

// runfile returns the absolute path of one of the runfiles, and nothing if it is not there.
func runfile(path string) string {
	self, err := os.Executable()
	if err != nil || path == "" {
		return ""
	}
	for _, root := range []string{os.Getenv("RUNFILES_DIR"), os.Getenv("TEST_SRCDIR"), os.Args[0] + ".runfiles", self + ".runfiles"} {
		if found, err := filepath.EvalSymlinks(filepath.Join(root, path)); root != "" && err == nil {
			if found, err = filepath.Abs(found); err == nil {
				return found
			}
		}
	}
	return ""
}
