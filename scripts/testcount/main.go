// Command testcount reads the build event file of a `bazel test` and prints how many test cases passed, failed and
// were skipped. It fails when none ran.
package main

import (
	"fmt"
	"os"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: testcount BUILD_EVENT_JSON_FILE")
		os.Exit(2)
	}
	tally, err := countFile(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "testcount:", err)
		os.Exit(1)
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
