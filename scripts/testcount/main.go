// Command testcount reads the build event file of a `bazel test` (--build_event_json_file) and
// prints how many test cases passed, failed and were skipped. It fails when none ran.
package main

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"slices"

	"github.com/dind-cluster/dind-cluster/internal/cli"
)

func main() {
	if len(os.Args) != 2 {
		cli.End("testcount", cli.Usage("testcount BUILD_EVENT_JSON_FILE"))
	}
	total, unrun, err := count(os.Args[1])
	if err != nil {
		cli.End("testcount", err)
	}
	for _, label := range unrun {
		fmt.Fprintln(os.Stderr, "did not run:", label)
	}
	none := total.passed+total.failed == 0
	if none {
		fmt.Fprintln(os.Stderr, "no test ran")
	}
	// The last line is for CI to read.
	fmt.Println(total)
	if none {
		os.Exit(1)
	}
}

// tally counts test cases.
type tally struct{ passed, failed, skipped int }

func (t tally) String() string {
	s := fmt.Sprintf("%d passed, %d failed", t.passed, t.failed)
	if t.skipped > 0 {
		s += fmt.Sprintf(", %d skipped", t.skipped)
	}
	return s
}

// event holds the fields of Bazel's build events that matter here (build_event_stream.proto).
type event struct {
	ID struct {
		TargetConfigured, TargetCompleted struct{ Label string }
		TestResult                        attempt
	}
	Configured struct{ TestSize string }
	Aborted    struct{ Reason string }
	TestResult struct {
		Status           string
		TestActionOutput []struct{ Name, URI string }
	}
}

// attempt identifies the attempts at a test, of which the last one counts.
type attempt struct {
	Label      string
	Run, Shard int
}

// count counts the cases of all test targets in a build event file. A target without cases counts
// as one case; so does one that did not build or run, as failed: unrun lists those. A target that
// is not for this platform counts as skipped.
func count(path string) (total tally, unrun []string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return total, nil, err
	}
	defer f.Close()
	results := map[attempt]tally{}
	ran := map[string]bool{} // by label, all test targets
	for events := json.NewDecoder(f); ; {
		var e event
		if err := events.Decode(&e); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return total, nil, fmt.Errorf("reading build events from %s: %w", path, err)
		}
		switch {
		case e.Configured.TestSize != "":
			ran[e.ID.TargetConfigured.Label] = false
		case e.Aborted.Reason == "SKIPPED":
			label := e.ID.TargetCompleted.Label
			if _, test := ran[label]; test {
				ran[label] = true
				results[attempt{Label: label}] = tally{skipped: 1}
			}
		case e.TestResult.Status != "":
			ran[e.ID.TestResult.Label] = true
			if results[e.ID.TestResult], err = e.cases(); err != nil {
				return total, nil, fmt.Errorf("results of %s: %w", e.ID.TestResult.Label, err)
			}
		}
	}
	for label, yes := range ran {
		if !yes {
			unrun = append(unrun, label)
		}
	}
	slices.Sort(unrun)
	total.failed = len(unrun)
	for _, r := range results {
		total.passed += r.passed
		total.failed += r.failed
		total.skipped += r.skipped
	}
	return total, unrun, nil
}

// cases counts the cases in the test.xml of a test's result. Not every test writes one, and one
// that times out or crashes need not have a case that says so.
func (e *event) cases() (found tally, err error) {
	for _, output := range e.TestResult.TestActionOutput {
		if output.Name == "test.xml" {
			if found, err = readCases(output.URI); err != nil {
				return found, err
			}
		}
	}
	switch ok := e.TestResult.Status == "PASSED"; {
	case ok && found == (tally{}):
		found.passed++
	case !ok && found.failed == 0:
		found.failed++
	}
	return found, nil
}

func readCases(uri string) (found tally, err error) {
	u, err := url.Parse(uri)
	if err != nil {
		return found, err
	}
	text, err := os.ReadFile(u.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return found, nil
	} else if err != nil {
		return found, err
	}
	var suites struct {
		Cases []struct {
			Status  string    `xml:"status,attr"`
			Failure *struct{} `xml:"failure"`
			Error   *struct{} `xml:"error"`
			Skipped *struct{} `xml:"skipped"`
		} `xml:"testsuite>testcase"`
	}
	if err := xml.Unmarshal(text, &suites); err != nil {
		return found, fmt.Errorf("parsing %s: %w", u.Path, err)
	}
	for _, c := range suites.Cases {
		switch {
		case c.Failure != nil || c.Error != nil:
			found.failed++
		case c.Skipped != nil || c.Status == "notrun":
			found.skipped++
		default:
			found.passed++
		}
	}
	return found, nil
}
