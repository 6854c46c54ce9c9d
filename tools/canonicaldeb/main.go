// Command canonical finishes a package that rules_pkg's pkg_deb has put together.
//
// pkg_deb is a Python program: the compressed bytes it writes depend on the Python and zlib of the machine. It also
// writes neither md5sums nor Installed-Size. canonical reads such a package and writes it anew, so that equal contents are
// equal bytes everywhere, with both added.
package main

import (
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/dind-cluster/dind-cluster/internal/cli"
)

func main() {
	in := flag.String("in", "", "the `package` as pkg_deb wrote it")
	out := flag.String("out", "", "the package to write")
	changelog := flag.String("changelog", "", "text `file` of the Debian changelog, with @PACKAGE@ and @VERSION@ to be filled in")
	mtime := flag.Int64("mtime", 0, "modification time of every file, in `seconds` since 1970")
	flag.Parse()
	cli.End("canonical: making "+*out, run(*in, *out, *changelog, time.Unix(*mtime, 0).UTC()))
}

func run(in, out, changelog string, mtime time.Time) error {
	text, err := os.ReadFile(changelog)
	if err != nil {
		return err
	}
	p, err := read(in)
	if err != nil {
		return fmt.Errorf("reading %s: %w", in, err)
	}
	defer p.close()
	if err := p.addChangelog(string(text), mtime); err != nil {
		return err
	}
	return p.write(out, mtime)
}
