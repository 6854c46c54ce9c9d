// Canonicaldeb finishes a package that rules_pkg's pkg_deb has put together: see
// image/deb/canonical.
package main

import (
	"flag"
	"os"
	"time"

	"github.com/dind-cluster/dind-cluster/image/deb/canonical"
	"github.com/dind-cluster/dind-cluster/internal/cli"
)

func main() {
	in := flag.String("in", "", "the `package` as pkg_deb wrote it")
	out := flag.String("out", "", "the package to write")
	changelog := flag.String("changelog", "", "text `file` of the Debian changelog, with @PACKAGE@ and @VERSION@ to be filled in")
	mtime := flag.Int64("mtime", 0, "modification time of every file, in `seconds` since 1970")
	flag.Parse()
	cli.End("canonicaldeb: writing "+*out, run(*in, *out, *changelog, time.Unix(*mtime, 0).UTC()))
}

func run(in, out, changelog string, mtime time.Time) error {
	text, err := os.ReadFile(changelog)
	if err != nil {
		return err
	}
	return canonical.Rewrite(in, out, string(text), mtime)
}
