// Debianroot lays packages out as an archive of a Debian root, for tests: files as the packages
// bring them, and dpkg's database, which says that all are installed. No maintainer script is run.
package main

import (
	"errors"
	"os"
	"slices"
	"strings"

	"github.com/dind-cluster/dind-cluster/image/debroot"
	"github.com/dind-cluster/dind-cluster/internal/cli"
)

// excluded lists prefixes of paths that no program in a test reads.
var excluded = []string{
	"usr/lib/python3/", "usr/lib/x86_64-linux-gnu/gconv/", "usr/share/doc/", "usr/share/fonts/", "usr/share/icons/",
	"usr/share/info/", "usr/share/locale/", "usr/share/man/",
}

func main() {
	if len(os.Args) < 3 {
		cli.End("debianroot", cli.Usage("debianroot ROOT.tar PACKAGE.deb…"))
	}
	cli.End("debianroot: writing "+os.Args[1], run(os.Args[1], os.Args[2:]))
}

func run(out string, packages []string) error {
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	err = debroot.Archive(f, packages, func(path string) bool {
		return !slices.ContainsFunc(excluded, func(prefix string) bool { return strings.HasPrefix(path, prefix) })
	})
	return errors.Join(err, f.Close())
}
