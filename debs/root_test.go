// Package debs tests our packages with the real dpkg and lintian, in a throw-away Debian root.
package debs

import (
	"archive/tar"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/dind-cluster/dind-cluster/internal/repeated"
)

var (
	rootArchive = flag.String("root", "", "tar archive of a Debian root")
	packages    repeated.Strings
)

// insideVariable marks the test program as started again, in namespaces of its own, to enter the
// root.
const insideVariable = "DEBS_TEST_ROOT"

func TestMain(m *testing.M) {
	if root := os.Getenv(insideVariable); root != "" {
		err := enter(root, os.Args[1:])
		fmt.Fprintf(os.Stderr, "entering %s: %v\n", root, err)
		os.Exit(1)
	}
	flag.Var(&packages, "deb", "package to test; repeat")
	flag.Parse()
	os.Exit(m.Run())
}

// debianRoot is a root with our packages in /debs, by name.
type debianRoot struct {
	dir  string
	debs map[string]string
}

func newRoot(t *testing.T) *debianRoot {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("dpkg and chroot need root")
	}
	r := &debianRoot{dir: filepath.Join(t.TempDir(), "root"), debs: map[string]string{}}
	if err := os.Mkdir(r.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unpack(*rootArchive, r.dir); err != nil {
		t.Fatalf("unpacking %s: %v", *rootArchive, err)
	}
	for from, to := range map[string]string{
		"usr/share/base-passwd/passwd.master": "etc/passwd",
		"usr/share/base-passwd/group.master":  "etc/group",
	} {
		content, err := os.ReadFile(filepath.Join(r.dir, from))
		if err != nil {
			t.Fatal(err)
		}
		r.write(t, to, string(content))
	}
	for _, dir := range []string{"debs", "dev", "proc", "tmp", "var/lib/dpkg/updates", "var/log", "var/lib/dpkg/triggers"} {
		if err := os.MkdirAll(filepath.Join(r.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// What base-files' script would do.
	if err := os.Symlink("debian", filepath.Join(r.dir, "etc/dpkg/origins/default")); err != nil {
		t.Fatal(err)
	}
	for _, p := range packages {
		name, _, _ := strings.Cut(filepath.Base(p), "_")
		inside := "/debs/" + filepath.Base(p)
		r.debs[name] = inside
		content, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		r.write(t, inside, string(content))
	}
	return r
}

func (r *debianRoot) write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, path), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (r *debianRoot) exists(path string) bool {
	_, err := os.Lstat(filepath.Join(r.dir, path))
	return err == nil
}

// try runs a program in the root: own mounts and processes, and no network.
func (r *debianRoot) try(args ...string) (string, error) {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = []string{
		insideVariable + "=" + r.dir,
		"DEBIAN_FRONTEND=noninteractive", "HOME=/root", "LC_ALL=C.UTF-8",
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin",
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (r *debianRoot) run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := r.try(args...)
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// enter becomes a program inside the root. It runs in the new namespaces.
func enter(root string, args []string) error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	if err := syscall.Mount("/dev", filepath.Join(root, "dev"), "", syscall.MS_BIND|syscall.MS_REC, ""); err != nil {
		return fmt.Errorf("binding /dev: %w", err)
	}
	if err := syscall.Mount("proc", filepath.Join(root, "proc"), "proc", 0, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	if err := syscall.Chroot(root); err != nil {
		return err
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	if err := os.Unsetenv(insideVariable); err != nil {
		return err
	}
	program, err := exec.LookPath(args[0])
	if err != nil {
		return err
	}
	return syscall.Exec(program, args, os.Environ())
}

// unpack lays out a tar archive. Links in it may only lead inside.
func unpack(archive, dir string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	tr := tar.NewReader(f)
	for {
		hdr, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		name := strings.TrimSuffix(hdr.Name, "/")
		if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		switch hdr.Typeflag {
		case tar.TypeDir:
			if err := root.MkdirAll(name, 0o755); err != nil {
				return err
			}
		case tar.TypeSymlink:
			if err := root.Symlink(hdr.Linkname, name); err != nil && !errors.Is(err, os.ErrExist) {
				return err
			}
			continue
		case tar.TypeLink:
			if err := root.Link(hdr.Linkname, name); err != nil {
				return err
			}
			continue
		case tar.TypeReg:
			out, err := root.Create(name)
			if err != nil {
				return err
			}
			_, err = io.Copy(out, tr)
			if err := errors.Join(err, out.Close()); err != nil {
				return err
			}
		default:
			continue
		}
		if hdr.Uid != 0 || hdr.Gid != 0 {
			if err := root.Lchown(name, hdr.Uid, hdr.Gid); err != nil {
				return err
			}
		}
		if err := root.Chmod(name, hdr.FileInfo().Mode()&(os.ModePerm|os.ModeSetuid|os.ModeSetgid|os.ModeSticky)); err != nil {
			return err
		}
	}
}
