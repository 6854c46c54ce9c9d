package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/dind-cluster/dind-cluster/image/debroot"
)

func build(packages []string, source, version, out string) error {
	dir, err := os.MkdirTemp("", "toolchain")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	// The part of the packages that the build reads.
	err = debroot.Lay(dir, packages, func(path string) bool {
		return (path == "usr" || strings.HasPrefix(path, "usr/")) && !strings.HasPrefix(path, "usr/share/")
	})
	if err != nil {
		return err
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
	cmd, err := debroot.Program(t.root, program, args...)
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(program), err)
	}
	return nil
}
