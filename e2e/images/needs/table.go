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

// Table returns the images that each spec of a report may use, whether it is selected there or not,
// by the spec's full name. What runs before and after all specs is not looked at, and images that
// are not there on purpose are left out: absent has the reasons. It fails if sources and report do
// not belong together, or if a cut is not on any path.
//
// The file system holds the sources of k8s.io/kubernetes, the directory test in its root. The
// report is what --ginkgo.json-report writes in a dry run. Listed are all images that e2e.test
// knows: it replaces the tags of those in manifests by its own.
func Table(sources fs.FS, report io.Reader, listed []string, cuts []Cut, absent map[string]string) (map[string][]string, error) {
	a, err := newAnalysis(sources, report, cuts)
	if err != nil {
		return nil, err
	}
	table := map[string][]string{}
	unused := maps.Clone(absent)
	specs := map[location]bool{}
	for _, s := range a.all {
		for _, l := range s.locations {
			specs[l] = true
		}
		images := map[string]bool{}
		for image := range a.reached(s) {
			if absent[image] != "" {
				delete(unused, image)
				continue
			}
			for _, i := range replaced(image, listed) {
				images[i] = true
			}
		}
		if len(images) > 0 {
			table[s.name] = slices.Sorted(maps.Keys(images))
		}
	}
	for image := range unused {
		a.errs = append(a.errs, fmt.Errorf("no spec names %s any more: remove it from those that are absent", image))
	}
	return table, errors.Join(a.check(specs)...)
}

// replaced returns an image with the tags that e2e.test has for it, if it has any.
func replaced(image string, listed []string) (images []string) {
	repository := func(image string) string {
		if i := strings.LastIndexByte(image, ':'); i > strings.LastIndexByte(image, '/') {
			return image[:i]
		}
		return image
	}
	for _, l := range listed {
		switch {
		case l == image:
			return []string{image}
		case repository(l) == repository(image):
			images = append(images, l)
		}
	}
	if len(images) == 0 {
		return []string{image}
	}
	return images
}

// reached returns the images that a spec reaches.
func (a *analysis) reached(s spec) map[string]bool {
	driver := a.storageDriver(s.name)
	selected := map[location]bool{}
	for _, l := range s.locations {
		selected[l] = true
	}
	images, seen := map[string]bool{}, map[*decl]bool{}
	var queue []*decl
	add := func(d *decl) {
		if !seen[d] {
			seen[d] = true
			if !a.cut(d) {
				queue = append(queue, d)
			}
		}
	}
	follow := func(mentions []mention) {
		for _, m := range mentions {
			if m.decl == nil {
				images[m.image] = true
				continue
			}
			if driver != "" && isDriver(m.decl) && !makes(m.decl, driver) {
				continue
			}
			add(m.decl)
			for _, method := range m.decl.methods() {
				add(method)
			}
		}
	}
	for l := range selected {
		for _, d := range a.starts[l] {
			follow(a.mentions(d, selected))
		}
	}
	for len(queue) > 0 {
		d := queue[0]
		queue = queue[1:]
		follow(a.alone(d))
	}
	return images
}

// mentions returns what a declaration mentions, each once, when it runs with some specs and
// containers.
func (a *analysis) mentions(d *decl, selected map[location]bool) (all []mention) {
	seen := map[mention]bool{}
	for _, p := range a.part(d).run(selected) {
		for _, m := range p.mentions {
			if !seen[m] {
				seen[m] = true
				all = append(all, m)
			}
		}
	}
	return all
}

// alone returns what a declaration mentions without the specs in it: those are looked at where they
// are declared.
func (a *analysis) alone(d *decl) []mention {
	all, ok := a.withoutSpecs[d]
	if !ok {
		all = a.mentions(d, nil)
		a.withoutSpecs[d] = all
	}
	return all
}
