package needs

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// location is a line of a source file; the file by its path below the repository's root.
type location struct {
	file string
	line int
}

func (l location) String() string { return fmt.Sprintf("%s:%d", l.file, l.line) }

// specs are the places in the source at which specs and their containers begin.
type specs struct {
	// selected are those of the selected specs, and of what runs before and after all specs.
	selected map[location]bool
	// others are those of no selected spec.
	others map[location]bool
}

// readReport reads Ginkgo's JSON report.
func readReport(r io.Reader) (*specs, error) {
	type codeLocation struct {
		FileName   string
		LineNumber int
	}
	var suites []struct {
		SpecReports []struct {
			ContainerHierarchyLocations []codeLocation
			LeafNodeType                string
			LeafNodeLocation            codeLocation
			State                       string
		}
	}
	if err := json.NewDecoder(r).Decode(&suites); err != nil {
		return nil, fmt.Errorf("the dry run's report is no JSON report of Ginkgo: %w", err)
	}
	s := &specs{selected: map[location]bool{}, others: map[location]bool{}}
	var its int
	for _, suite := range suites {
		for _, spec := range suite.SpecReports {
			to := s.others
			if spec.State != "skipped" {
				to = s.selected
				if spec.LeafNodeType == "It" {
					its++
				}
			}
			for _, l := range append(spec.ContainerHierarchyLocations, spec.LeafNodeLocation) {
				// How a path begins depends on who compiled the program.
				_, file, ok := strings.Cut("/"+l.FileName, "/"+root)
				if !ok {
					return nil, fmt.Errorf("the dry run's report has a spec in %q, which is not below %s", l.FileName, root)
				}
				to[location{root + file, l.LineNumber}] = true
			}
		}
	}
	if its == 0 {
		return nil, errors.New("the dry run's report selects no spec")
	}
	for l := range s.selected {
		delete(s.others, l)
	}
	return s, nil
}
