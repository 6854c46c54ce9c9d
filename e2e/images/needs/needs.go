// Package needs finds out which images the specs of Kubernetes' e2e.test use, so that a missing one is known before a
// cluster is.
//
// e2e.test can list all images that any of its specs may use, but not which of them a spec or a selection needs. The
// answer is in its source: starting from the specs that a dry run selects, everything that their code mentions is
// followed, function by function, to the images at its ends. What cannot be decided by names alone counts as used
// (a value of a type may have any of the type's methods called), so an image may be found needlessly, but none is
// missed that is named in the source of the tests or in a manifest whose file name stands there.
package needs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
)

// Need is an image that a selected spec may use.
type Need struct {
	// Image is its full name: registry/name:tag.
	Image string
	// Path leads from a spec to the mention of the image, one step a line: what it is and file:line. There may be other
	// paths; this is one of the shortest.
	Path []string
}

func (n Need) String() string {
	return n.Image + "\n  " + strings.Join(n.Path, "\n  > ")
}

// Cut is a function that no selected spec runs although its name is mentioned on the way.
type Cut struct {
	// Func is package.Function or package.Type.Method, the package by its path below the repository's root:
	// test/e2e/dra/utils.Driver.SetUp.
	Func string
	// Reason says why it does not run.
	Reason string
}

// Find returns the images that the specs selected in a dry run may use, sorted by name, each once.
//
// The file system holds the sources of k8s.io/kubernetes, the folder test in its root. The report is what
// --ginkgo.json-report writes in a dry run: specs whose state is "skipped" are not selected. Find fails if sources and
// report do not belong together, or if a cut is not on any path.
func Find(sources fs.FS, report io.Reader, cuts []Cut) ([]Need, error) {
	a, err := newAnalysis(sources, report, cuts)
	if err != nil {
		return nil, err
	}
	w := &walk{analysis: a, seen: map[*decl]bool{}, found: map[string]*step{}}
	w.run()
	if err := errors.Join(a.check(a.selected)...); err != nil {
		return nil, err
	}
	var needs []Need
	for _, image := range slices.Sorted(maps.Keys(w.found)) {
		needs = append(needs, Need{Image: image, Path: w.found[image].path()})
	}
	return needs, nil
}

// Known returns all images that the sources have a name for, by that name: Agnhost, BusyBox …
func Known(sources fs.FS) (map[string]string, error) {
	src, err := load(sources)
	if err != nil {
		return nil, err
	}
	list, err := src.images()
	if err != nil {
		return nil, err
	}
	return list.byName, nil
}

// step is one place on the way from a spec to an image.
type step struct {
	from  *step
	what  string
	where location
}

func (s *step) path() []string {
	var path []string
	for ; s != nil; s = s.from {
		path = append(path, strings.TrimSpace(fmt.Sprintf("%s %s", s.what, s.where)))
	}
	slices.Reverse(path)
	return path
}
