package needs

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/onsi/ginkgo/v2/types"
)

// location is a line of a source file; the file by its path below the repository's root.
type location struct {
	file string
	line int
}

func (l location) String() string { return fmt.Sprintf("%s:%d", l.file, l.line) }

// specs are the places in the source at which specs and their containers begin.
type specs struct {
	located map[location]bool
	all     []spec
}

// spec is a spec with the places at which its containers, from the outermost on, and itself begin.
type spec struct {
	name      string
	locations []location
}

// readReport reads Ginkgo's JSON report.
func readReport(r io.Reader) (*specs, error) {
	var suites []types.Report
	if err := json.NewDecoder(r).Decode(&suites); err != nil {
		return nil, fmt.Errorf("the dry run's report is no JSON report of Ginkgo: %w", err)
	}
	s := &specs{located: map[location]bool{}}
	for _, suite := range suites {
		for _, report := range suite.SpecReports {
			one := spec{name: report.FullText()}
			for _, l := range append(report.ContainerHierarchyLocations, report.LeafNodeLocation) {
				// How a path begins depends on how the program was compiled.
				_, file, ok := strings.Cut("/"+l.FileName, "/"+root)
				if !ok {
					return nil, fmt.Errorf("the dry run's report has a spec in %q, which is not below %s", l.FileName, root)
				}
				here := location{root + file, l.LineNumber}
				one.locations = append(one.locations, here)
				s.located[here] = true
			}
			if report.LeafNodeType.Is(types.NodeTypeIt) {
				s.all = append(s.all, one)
			}
		}
	}
	if len(s.all) == 0 {
		return nil, errors.New("the dry run's report has no spec")
	}
	return s, nil
}
