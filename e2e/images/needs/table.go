package needs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/big"
	"slices"
	"strings"
)

// Table returns the images that each spec of a report may use, whether it is selected there or not, by the spec's full
// name. What runs before and after all specs is not looked at, and images that are not there on purpose are left out: absent
// has the reasons. Otherwise it is as Find.
//
// Listed are all images that e2e.test knows itself. It replaces the tags of those in manifests by its own.
func Table(sources fs.FS, report io.Reader, listed []string, cuts []Cut, absent map[string]string) (map[string][]string, error) {
	a, err := newAnalysis(sources, report, cuts)
	if err != nil {
		return nil, err
	}
	closures := map[string]*closure{}
	table := map[string][]string{}
	unused := maps.Clone(absent)
	specs := map[location]bool{}
	for _, s := range a.all {
		for _, l := range s.locations {
			specs[l] = true
		}
		driver := a.storageDriver(s.name)
		c := closures[driver]
		if c == nil {
			c = &closure{analysis: a, driver: driver, reached: map[*decl]*big.Int{}, index: map[string]int{}}
			closures[driver] = c
		}
		images := map[string]bool{}
		for _, image := range c.spec(s.locations) {
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

// closure knows the images that are reached from declarations, as sets of bits: the number of an image is its place in
// the list.
type closure struct {
	*analysis
	// driver is that of a storage driver's specs, see storageDriver.
	driver  string
	images  []string
	index   map[string]int
	reached map[*decl]*big.Int
}

// spec returns the images that a spec reaches which is in the containers at these locations.
func (c *closure) spec(locations []location) []string {
	selected := map[location]bool{}
	decls := map[*decl]bool{}
	for _, l := range locations {
		selected[l] = true
		for _, d := range c.starts[l] {
			decls[d] = true
		}
	}
	set := new(big.Int)
	for d := range decls {
		images, to := c.mentioned(d, selected)
		set.Or(set, images)
		for t := range to {
			set.Or(set, c.from(t))
		}
	}
	var images []string
	for i, image := range c.images {
		if set.Bit(i) == 1 {
			images = append(images, image)
		}
	}
	return images
}

// mentioned returns the images and the declarations that a declaration mentions when it runs with some specs and containers.
func (c *closure) mentioned(d *decl, selected map[location]bool) (*big.Int, map[*decl]bool) {
	images, to := new(big.Int), map[*decl]bool{}
	for _, p := range c.part(d).run(selected) {
		for _, m := range p.mentions {
			if m.decl == nil {
				images.Or(images, c.bit(m.image))
				continue
			}
			if c.driver != "" && isDriver(m.decl) && !makes(m.decl, c.driver) {
				continue
			}
			to[m.decl] = true
			for _, method := range m.decl.methods() {
				to[method] = true
			}
		}
	}
	return images, to
}

func (c *closure) bit(image string) *big.Int {
	i, ok := c.index[image]
	if !ok {
		i = len(c.images)
		c.index[image] = i
		c.images = append(c.images, image)
	}
	return new(big.Int).SetBit(new(big.Int), i, 1)
}

// from returns the images that a declaration reaches, without the specs in it: the selected ones are collected where
// they are declared.
func (c *closure) from(d *decl) *big.Int {
	if set, ok := c.reached[d]; ok {
		return set
	}
	// What is reached from here and not known yet, in the order in which it was found.
	seen := map[*decl]*big.Int{}
	targets := map[*decl][]*decl{}
	var list []*decl
	add := func(d *decl) {
		if seen[d] != nil || c.reached[d] != nil {
			return
		}
		seen[d] = new(big.Int)
		list = append(list, d)
		if c.cut(d) {
			return
		}
		images, to := c.mentioned(d, nil)
		seen[d], targets[d] = images, slices.Collect(maps.Keys(to))
	}
	add(d)
	for i := 0; i < len(list); i++ {
		for _, t := range targets[list[i]] {
			add(t)
		}
	}
	// What is found last is mostly a leaf, so that few rounds are enough.
	for changed := true; changed; {
		changed = false
		for _, d := range slices.Backward(list) {
			set := new(big.Int).Set(seen[d])
			for _, t := range targets[d] {
				if r := c.reached[t]; r != nil {
					set.Or(set, r)
				} else {
					set.Or(set, seen[t])
				}
			}
			if set.Cmp(seen[d]) != 0 {
				seen[d], changed = set, true
			}
		}
	}
	maps.Copy(c.reached, seen)
	return c.reached[d]
}
