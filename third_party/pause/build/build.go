package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/dind-cluster/dind-cluster/image/deb"
)

func build(packages []string, source, version, out string) error {
	dir, err := os.MkdirTemp("", "toolchain")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for _, p := range packages {
		if err := unpack(p, dir); err != nil {
			return fmt.Errorf("unpacking %s: %w", p, err)
		}
	}
	t := toolchain{root: dir}
	assembly, object := filepath.Join(dir, "pause.s"), filepath.Join(dir, "pause.o")

	// The flags of upstream's Makefile; position independence would only make the program larger.
	if err := t.run("usr/libexec/gcc/x86_64-linux-gnu/*/cc1", "-quiet", "-Os", "-Wall", "-Werror", "-fno-pie",
		"-ffunction-sections", "-fno-asynchronous-unwind-tables",
		"-nostdinc", "-isystem", filepath.Join(dir, "usr/include/x86_64-linux-musl"),
		"-DVERSION="+version, source, "-o", assembly); err != nil {
		return err
	}
	if err := t.run("usr/bin/x86_64-linux-gnu-as", "--64", "-o", object, assembly); err != nil {
		return err
	}
	lib := filepath.Join(dir, "usr/lib/x86_64-linux-musl")
	return t.run("usr/bin/x86_64-linux-gnu-ld.bfd", "-static", "-s", "--gc-sections", "--build-id=none", "-z", "noexecstack",
		"-o", out, filepath.Join(lib, "crt1.o"), filepath.Join(lib, "crti.o"), object,
		"--start-group", filepath.Join(lib, "libc.a"), "--end-group", filepath.Join(lib, "crtn.o"))
}

type toolchain struct{ root string }

// run runs a program of the toolchain, named by a path in it that may hold wildcards.
func (t toolchain) run(program string, args ...string) error {
	found, err := filepath.Glob(filepath.Join(t.root, program))
	if err != nil {
		return err
	}
	if len(found) != 1 {
		return fmt.Errorf("the packages hold %d programs %s, not one", len(found), program)
	}
	lib := filepath.Join(t.root, "usr/lib/x86_64-linux-gnu")
	cmd := exec.Command(filepath.Join(lib, "ld-linux-x86-64.so.2"), append([]string{"--library-path", lib, found[0]}, args...)...)
	cmd.Env = []string{"LC_ALL=C"}
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(program), err)
	}
	return nil
}

// unpack lays out the part of a package that the build reads: what is in /usr, but for documentation.
func unpack(name, dir string) error {
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
		path := strings.TrimPrefix(hdr.Name, "./")
		if !strings.HasPrefix(path, "usr/") || strings.HasPrefix(path, "usr/share/") {
			return nil
		}
		path = strings.TrimSuffix(path, "/")
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
