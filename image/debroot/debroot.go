// Package debroot lays Debian packages out, in a directory or as an archive, and runs their
// programs, as build actions do: with the rights of the user that builds, without maintainer
// scripts, and with nothing of the machine but its kernel.
package debroot

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/dind-cluster/dind-cluster/image/deb"
)

// Lay unpacks packages into a directory: the files whose paths, without a leading slash, are to be
// kept. Their owner is the user that calls it.
func Lay(dir string, packages []string, keep func(path string) bool) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return each(packages, func(p *deb.Package) error {
		return files(p, func(path string, hdr *tar.Header, content io.Reader) error {
			if !keep(path) {
				return nil
			}
			return lay(root, path, hdr, content)
		})
	})
}

// each reads packages up to their data. base-files comes first: it brings the links from /bin to
// /usr/bin and so on, which the others' files may go through.
func each(packages []string, visit func(*deb.Package) error) error {
	rank := func(name string) int {
		if strings.HasPrefix(filepath.Base(name), "base-files") {
			return 0
		}
		return 1
	}
	for _, name := range slices.SortedStableFunc(slices.Values(packages), func(a, b string) int { return rank(a) - rank(b) }) {
		if err := open(name, visit); err != nil {
			return fmt.Errorf("unpacking %s: %w", name, err)
		}
	}
	return nil
}

func open(name string, visit func(*deb.Package) error) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	p, err := deb.Read(f)
	if err != nil {
		return err
	}
	return visit(p)
}

// files calls visit for each entry of a package but the root. Paths, and what hard links lead to,
// are clean and without a leading slash.
func files(p *deb.Package, visit func(path string, hdr *tar.Header, content io.Reader) error) error {
	return p.Data(func(hdr *tar.Header, content io.Reader) error {
		name, err := clean(hdr.Name)
		if err != nil || name == "." {
			return err
		}
		if hdr.Typeflag == tar.TypeLink {
			if hdr.Linkname, err = clean(hdr.Linkname); err != nil {
				return err
			}
		}
		return visit(name, hdr, content)
	})
}

func clean(name string) (string, error) {
	p := path.Clean(strings.TrimLeft(name, "/"))
	if !filepath.IsLocal(p) {
		return "", fmt.Errorf("the path %q leads out of the root", name)
	}
	return p, nil
}

func lay(root *os.Root, path string, hdr *tar.Header, content io.Reader) error {
	switch hdr.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(path, 0o755)
	case tar.TypeSymlink:
		if err := root.Symlink(hdr.Linkname, path); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		return nil
	case tar.TypeLink:
		return root.Link(hdr.Linkname, path)
	case tar.TypeReg:
		out, err := root.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, os.FileMode(hdr.Mode).Perm())
		if err != nil {
			return err
		}
		_, err = io.Copy(out, content)
		return errors.Join(err, out.Close())
	}
	return fmt.Errorf("%s: unexpected kind of entry %q", hdr.Name, hdr.Typeflag)
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

// Init ends in the program that Inside was asked for, in a process that Inside has started. Call it
// first in main.
func Init() {
	if os.Args[0] != entering {
		return
	}
	err := enter(os.Args[1], os.Args[2:])
	fmt.Fprintf(os.Stderr, "entering %s: %v\n", os.Args[1], err)
	os.Exit(127)
}

// Inside returns a command that runs a program with the directory as its root, as root, and with no
// processes but its own. The main function must call Init.
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
