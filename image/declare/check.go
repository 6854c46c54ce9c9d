package declare

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/dind-cluster/dind-cluster/image/deb"
)

// Set is all the declarations of a layer.
type Set []*Declaration

// Check returns an error for scripts and triggers that no declaration acknowledges, and for
// declarations that no package needs any more. It removes the dependencies that declarations list
// as without from the packages' control data.
func (s Set) Check(packages []*deb.Package) error {
	var problems []string
	known := map[string]bool{}
	waiting := map[string][]string{} // trigger to packages
	for _, p := range packages {
		known[p.Name()] = true
		for _, kind := range scriptKinds {
			if _, has := p.Members[kind]; has && !s.acknowledged(p.Name(), kind) {
				problems = append(problems, fmt.Sprintf("package %s %s has a %s script that no declaration acknowledges: declare what it does, or why it is not needed, as packages.%s.scripts.%s",
					p.Name(), p.Control.Get("Version"), kind, p.Name(), kind))
			}
		}
		for _, trigger := range triggers(p.Members["triggers"]) {
			if !s.acknowledgedTrigger(trigger) {
				waiting[trigger] = append(waiting[trigger], p.Name())
			}
		}
	}
	for _, trigger := range slices.Sorted(maps.Keys(waiting)) {
		problems = append(problems, fmt.Sprintf("no declaration acknowledges dpkg's trigger %q, which %s uses: declare why it need not run, as triggers.%s",
			trigger, strings.Join(waiting[trigger], ", "), trigger))
	}
	for _, d := range s {
		for _, name := range slices.Sorted(maps.Keys(d.Packages)) {
			if !known[name] {
				problems = append(problems, fmt.Sprintf("%s declares effects of package %s, which is not in this layer: remove the entry", d.path, name))
				continue
			}
		}
	}
	for _, p := range packages {
		for _, d := range s {
			for _, kind := range slices.Sorted(maps.Keys(d.Packages[p.Name()].Scripts)) {
				if _, has := p.Members[kind]; !has {
					problems = append(problems, fmt.Sprintf("%s acknowledges a %s script of package %s, which has none: remove the entry", d.path, kind, p.Name()))
				}
			}
			for _, name := range slices.Sorted(maps.Keys(d.Packages[p.Name()].Without)) {
				if !p.Control.RemoveDependency(name) {
					problems = append(problems, fmt.Sprintf("%s has package %s do without %s, which it does not depend on: remove the entry", d.path, p.Name(), name))
				}
			}
		}
	}
	if len(problems) == 0 {
		return nil
	}
	return fmt.Errorf("maintainer scripts are not run in a build, and these need a decision in %s:\n  %s", s.where(), strings.Join(problems, "\n  "))
}

func (s Set) where() string {
	var paths []string
	for _, d := range s {
		if d.path != "" {
			paths = append(paths, d.path)
		}
	}
	if len(paths) == 0 {
		return "a declaration file of this layer (it has none yet)"
	}
	return strings.Join(paths, " or ")
}

func (s Set) acknowledged(name, kind string) bool {
	for _, d := range s {
		if d.Scripts[kind] != "" || d.Packages[name].Scripts[kind] != "" {
			return true
		}
	}
	return false
}

func (s Set) acknowledgedTrigger(name string) bool {
	for _, d := range s {
		if d.Triggers[name] != "" {
			return true
		}
	}
	return false
}

// triggers returns the names in a package's triggers file.
func triggers(file []byte) []string {
	var names []string
	for _, line := range strings.Split(string(file), "\n") {
		line, _, _ = strings.Cut(line, "#")
		if fields := strings.Fields(line); len(fields) == 2 {
			names = append(names, fields[1])
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Patterns returns all patterns of paths to leave out of packages, and of exceptions.
func (s Set) Patterns() (exclude, include []string) {
	for _, d := range s {
		exclude = append(exclude, d.Exclude...)
		include = append(include, d.Include...)
	}
	return exclude, include
}

// Excluded reports whether a package's path is left out.
func (s Set) Excluded(path string) bool {
	exclude, include := s.Patterns()
	match := func(pattern string) bool { return Match(pattern, "/"+path) }
	return slices.ContainsFunc(exclude, match) && !slices.ContainsFunc(include, match)
}

// Winner returns the source that an override chooses for a path, or "" if there is no override.
func (s Set) Winner(path string) string {
	for _, d := range s {
		for _, o := range d.Overrides {
			if strings.TrimPrefix(o.Path, "/") == path {
				return o.Winner
			}
		}
	}
	return ""
}

// All returns the effects in their order: file by file, packages by name, then those of no package.
func (s Set) All() []Named {
	var all []Named
	for _, d := range s {
		for _, name := range slices.Sorted(maps.Keys(d.Packages)) {
			all = append(all, Named{"declaration for package " + name, d.Packages[name].Effects})
		}
	}
	for _, d := range s {
		all = append(all, Named{"declaration " + d.path, d.Effects})
	}
	return all
}

// Named has effects and their source, for messages.
type Named struct {
	Source string
	Effects
}

// Match matches as dpkg's path-exclude does: `*` and `?` match slashes too.
func Match(pattern, name string) bool {
	// Iterative matching with one backtracking point, which no input makes exponential.
	p, n, star, mark := 0, 0, -1, 0
	for n < len(name) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, n
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == name[n]):
			p++
			n++
		case star >= 0:
			mark++
			p, n = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}
