// Command testcount reads the build event file of a `bazel test` and prints how many test cases passed, failed and
// were skipped. It fails when none ran.
package main

import (
	"fmt"
	"os"

	"github.com/dind-cluster/dind-cluster/internal/cli"
)

func main() {
	if len(os.Args) != 2 {
		cli.End("testcount", cli.Usage("testcount BUILD_EVENT_JSON_FILE"))
	}
	tally, err := countFile(os.Args[1])
	if err != nil {
		cli.End("testcount", err)
	}
	for _, label := range tally.unrun {
		fmt.Fprintln(os.Stderr, "did not run:", label)
	}
	none := tally.passed+tally.failed == 0
	if none {
		fmt.Fprintln(os.Stderr, "no test ran")
	}
	// The last line is for CI to read.
	fmt.Println(tally)
	if none {
		os.Exit(1)
	}
}
