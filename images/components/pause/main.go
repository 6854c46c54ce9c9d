// Command build compiles upstream's pause.c into a small static program.
//
// The compiler, assembler, linker and C library come from locked Debian packages. They are unpacked
// into a temporary directory and run through the package's own dynamic loader, so that nothing of
// the machine takes part.
package main

import (
	"flag"

	"github.com/dind-cluster/dind-cluster/internal/cli"
	"github.com/dind-cluster/dind-cluster/internal/repeated"
)

func main() {
	var packages repeated.Strings
	flag.Var(&packages, "deb", "a Debian `package` of the toolchain; repeat")
	source := flag.String("source", "", "C source `file`")
	version := flag.String("version", "", "what the program reports as its `version`")
	out := flag.String("out", "", "program to write")
	flag.Parse()
	cli.End("building "+*out, build(packages, *source, *version, *out))
}
