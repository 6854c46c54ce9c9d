// Package debroot unpacks Debian packages into a directory and runs their programs, for build
// actions: with the rights of the user that builds, without maintainer scripts, and with nothing of
// the machine but its kernel.
package debroot

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/dind-cluster/dind-cluster/image/deb"
)

// Lay unpacks the paths of packages, without a leading slash, that keep selects. The user that
// calls it owns all files.
func Lay(dir string, packages []string, keep func(path string) bool) error {
	// base-files has the links from /bin to /usr/bin and so on, which the others' files may go
	// through.
	first := func(p string) int {
		if strings.HasPrefix(filepath.Base(p), "base-files") {
			return 0
		}
		return 1
	}
	for _, p := range slices.SortedStableFunc(slices.Values(packages), func(a, b string) int { return first(a) - first(b) }) {
		if err := unpack(p, dir, keep); err != nil {
			return fmt.Errorf("unpacking %s: %w", p, err)
		}
	}
	return nil
}

func unpack(name, dir string, keep func(path string) bool) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	p, err := deb.Read(f)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return p.Data(func(hdr *tar.Header, content io.Reader) error {
		path := strings.TrimSuffix(strings.TrimPrefix(hdr.Name, "./"), "/")
		if path == "" || !keep(path) {
			return nil
		}
		switch hdr.Typeflag {
		case tar.TypeDir:
			return root.MkdirAll(path, 0o755)
		case tar.TypeSymlink:
			if err := root.Symlink(hdr.Linkname, path); err != nil && !errors.Is(err, os.ErrExist) {
				return err
			}
			return nil
		case tar.TypeLink:
			return root.Link(strings.TrimPrefix(hdr.Linkname, "./"), path)
		case tar.TypeReg:
			out, err := root.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, os.FileMode(hdr.Mode).Perm())
			if err != nil {
				return err
			}
			_, err = io.Copy(out, content)
			return errors.Join(err, out.Close())
		}
		return fmt.Errorf("%s: unexpected kind of entry %q", hdr.Name, hdr.Typeflag)
	})
}

// Program returns a command that runs one of the programs, named by a path in the directory that
// may hold wildcards, through the dynamic loader beside it. It sees the machine's files.
func Program(dir, program string, args ...string) (*exec.Cmd, error) {
	found, err := filepath.Glob(filepath.Join(dir, program))
	if err != nil {
		return nil, err
	}
	if len(found) != 1 {
		return nil, fmt.Errorf("the packages hold %d programs %s, not one", len(found), program)
	}
	lib := filepath.Join(dir, "usr/lib/x86_64-linux-gnu")
	cmd := exec.Command(filepath.Join(lib, "ld-linux-x86-64.so.2"), append([]string{"--library-path", lib, found[0]}, args...)...)
	cmd.Env = []string{"LC_ALL=C"}
	return cmd, nil
}

// entering is the name that this program has when it is started again, to enter a directory.
const entering = "debroot-enter"

// Init runs the program of Inside, in a process that Inside has started, and then does not return.
// Call it first in main.
func Init() {
	if os.Args[0] != entering {
		return
	}
	err := enter(os.Args[1], os.Args[2:])
	fmt.Fprintf(os.Stderr, "entering %s: %v\n", os.Args[1], err)
	os.Exit(127)
}

// Inside returns a command that runs a program with the directory as its root, as root, and in a
// PID namespace of its own. The main function must call Init.
func Inside(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args = append([]string{entering, dir}, args...)
	cmd.Env = []string{"HOME=/tmp", "LC_ALL=C", "PATH=/usr/sbin:/usr/bin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	return cmd
}

func enter(dir string, args []string) error {
	for _, d := range []string{"dev", "proc", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	if err := syscall.Mount("/dev", filepath.Join(dir, "dev"), "", syscall.MS_BIND|syscall.MS_REC, ""); err != nil {
		return fmt.Errorf("binding /dev: %w", err)
	}
	if err := syscall.Mount("proc", filepath.Join(dir, "proc"), "proc", 0, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	if err := syscall.Chroot(dir); err != nil {
		return err
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	program, err := exec.LookPath(args[0])
	if err != nil {
		return err
	}
	return syscall.Exec(program, args, os.Environ())
}
