package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"

	"github.com/dind-cluster/dind-cluster/image/debroot"
)

type kernel struct {
	packages, patches []string
	config, out       string
}

func (k *kernel) build(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "linux")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := debroot.Lay(dir, k.packages, keep); err != nil {
		return err
	}
	// An alternative, which mawk's maintainer script would register.
	if err := os.Symlink("mawk", filepath.Join(dir, "usr/bin/awk")); err != nil {
		return err
	}
	source := filepath.Join(dir, "linux")
	if err := os.Mkdir(source, 0o755); err != nil {
		return err
	}
	run := func(script string) error {
		cmd := debroot.Inside(ctx, dir, "sh", "-euc", "cd /linux\n"+script)
		cmd.Env = append(cmd.Env, "ARCH=um",
			"KBUILD_BUILD_HOST=dind-cluster", "KBUILD_BUILD_TIMESTAMP=1970-01-01T00:00:00Z", "KBUILD_BUILD_USER=dind-cluster", "KBUILD_BUILD_VERSION=1")
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w in\n%s\n%s", err, script, out)
		}
		return nil
	}
	if err := run("tar --extract --file /usr/src/linux-source-*.tar.xz --strip-components=1\nrm /usr/src/linux-source-*.tar.xz"); err != nil {
		return err
	}
	for _, p := range k.patches {
		if err := copyFile(p, filepath.Join(source, "change.patch")); err != nil {
			return err
		}
		if err := run("patch --strip=1 --fuzz=0 --input=change.patch"); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
	}
	if err := copyFile(k.config, filepath.Join(source, "wanted.config")); err != nil {
		return err
	}
	if err := run("make --silent x86_64_defconfig\ncat wanted.config >> .config\nmake --silent olddefconfig"); err != nil {
		return err
	}
	if err := checkConfig(filepath.Join(source, "wanted.config"), filepath.Join(source, ".config")); err != nil {
		return err
	}
	// The number of jobs is the machine's, the result is not.
	if err := run(fmt.Sprintf("make --silent --jobs=%d linux\nstrip linux", runtime.NumCPU())); err != nil {
		return err
	}
	return copyFile(filepath.Join(source, "linux"), k.out)
}

// keep leaves out what no program of the build reads.
func keep(path string) bool {
	for _, prefix := range []string{"usr/share/doc/", "usr/share/info/", "usr/share/locale/", "usr/share/man/"} {
		if strings.HasPrefix(path, prefix) {
			return false
		}
	}
	return true
}

// checkConfig checks that the kernel's configuration has all that is wanted: the kernel drops what it does not know, and
// what needs something that is off.
func checkConfig(wanted, config string) error {
	got, err := settings(config)
	if err != nil {
		return err
	}
	want, err := settings(wanted)
	if err != nil {
		return err
	}
	var errs []error
	for name, value := range want {
		// What is off is not there.
		if has := got[name]; has != value && !(value == "n" && has == "") {
			errs = append(errs, fmt.Errorf("%s is %q, not %s: what it depends on is missing, or this kernel does not know it", name, has, value))
		}
	}
	return errors.Join(errs...)
}

var setting = regexp.MustCompile(`(?m)^(CONFIG_\w+)=(.*)$`)

func settings(file string) (map[string]string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for _, m := range setting.FindAllSubmatch(bytes.TrimSpace(data), -1) {
		found[string(m[1])] = string(m[2])
	}
	return found, nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
