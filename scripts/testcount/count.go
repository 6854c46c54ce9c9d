package main

import (
	"bufio"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"sort"
)

// tally is what a test run came to, in test cases; a target that tells of no cases is one.
type tally struct {
	cases
	unrun []string // test targets that did not build or did not run; they count as failed
}

type cases struct{ passed, failed, skipped int }

func (c cases) String() string {
	s := fmt.Sprintf("%d passed, %d failed", c.passed, c.failed)
	if c.skipped > 0 {
		s += fmt.Sprintf(", %d skipped", c.skipped)
	}
	return s
}

// event holds the fields of Bazel's build events that matter here.
type event struct {
	ID struct {
		TargetConfigured *struct{ Label string }
		TestResult       *struct {
			Label               string
			Run, Shard, Attempt int
		}
		TargetCompleted *struct{ Label string }
	}
	Configured *struct{ TestSize string }
	Aborted    *struct{ Reason string }
	TestResult *struct {
		Status           string
		TestActionOutput []struct{ Name, URI string }
	}
}

type shard struct{ run, shard int }

type result struct {
	attempt int
	status  string
	xml     string // path of test.xml
}

type target struct {
	incompatible bool // with this platform, so Bazel leaves it out
	results      map[shard]result
}

func countFile(path string) (tally, error) {
	f, err := os.Open(path)
	if err != nil {
		return tally{}, err
	}
	defer f.Close()
	targets, err := readEvents(f)
	if err != nil {
		return tally{}, fmt.Errorf("%s: %w", path, err)
	}
	return count(targets)
}

// readEvents collects the test targets of a build event stream, one JSON object per line.
func readEvents(r io.Reader) (map[string]*target, error) {
	targets := map[string]*target{}
	get := func(label string) *target {
		if targets[label] == nil {
			targets[label] = &target{results: map[shard]result{}}
		}
		return targets[label]
	}
	decoder := json.NewDecoder(bufio.NewReader(r))
	for {
		var e event
		if err := decoder.Decode(&e); errors.Is(err, io.EOF) {
			return targets, nil
		} else if err != nil {
			return nil, fmt.Errorf("read build events: %w", err)
		}
		switch id := e.ID; {
		case id.TargetConfigured != nil && e.Configured != nil && e.Configured.TestSize != "":
			get(id.TargetConfigured.Label)
		case id.TargetCompleted != nil && e.Aborted != nil && e.Aborted.Reason == "SKIPPED":
			if target := targets[id.TargetCompleted.Label]; target != nil {
				target.incompatible = true
			}
		case id.TestResult != nil && e.TestResult != nil:
			key := shard{id.TestResult.Run, id.TestResult.Shard}
			results := get(id.TestResult.Label).results
			// Only a test's last attempt counts.
			if old, ok := results[key]; ok && old.attempt > id.TestResult.Attempt {
				break
			}
			last := result{attempt: id.TestResult.Attempt, status: e.TestResult.Status}
			for _, output := range e.TestResult.TestActionOutput {
				if output.Name != "test.xml" {
					continue
				}
				u, err := url.Parse(output.URI)
				if err != nil {
					return nil, fmt.Errorf("address of %s's test.xml: %w", id.TestResult.Label, err)
				}
				last.xml = u.Path
			}
			results[key] = last
		}
	}
}

func count(targets map[string]*target) (tally, error) {
	var total tally
	for label, target := range targets {
		if target.incompatible {
			total.skipped++
			continue
		}
		if len(target.results) == 0 {
			total.failed++
			total.unrun = append(total.unrun, label)
			continue
		}
		for _, result := range target.results {
			found, err := readCases(result.xml)
			if err != nil {
				return tally{}, fmt.Errorf("results of %s: %w", label, err)
			}
			ok := result.status == "PASSED"
			if ok && found == (cases{}) {
				found.passed++
			}
			// A test that times out or crashes need not have a case that says so.
			if !ok && found.failed == 0 {
				found.failed++
			}
			total.passed += found.passed
			total.failed += found.failed
			total.skipped += found.skipped
		}
	}
	sort.Strings(total.unrun)
	return total, nil
}

// readCases counts the cases of a test.xml; not every test writes one.
func readCases(path string) (cases, error) {
	var found cases
	if path == "" {
		return found, nil
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return found, nil
	} else if err != nil {
		return found, err
	}
	defer f.Close()
	decoder := xml.NewDecoder(bufio.NewReader(f))
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return found, nil
		} else if err != nil {
			return found, fmt.Errorf("parse %s: %w", path, err)
		}
		start, ok := token.(xml.StartElement)
		if !ok || start.Name.Local != "testcase" {
			continue
		}
		var testcase struct {
			Status  string    `xml:"status,attr"`
			Failure *struct{} `xml:"failure"`
			Error   *struct{} `xml:"error"`
			Skipped *struct{} `xml:"skipped"`
		}
		if err := decoder.DecodeElement(&testcase, &start); err != nil {
			return found, fmt.Errorf("parse %s: %w", path, err)
		}
		switch {
		case testcase.Failure != nil || testcase.Error != nil:
			found.failed++
		case testcase.Skipped != nil || testcase.Status == "notrun":
			found.skipped++
		default:
			found.passed++
		}
	}
}
