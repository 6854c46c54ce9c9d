package effects

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/dind-cluster/dind-cluster/image/declare"
	"github.com/dind-cluster/dind-cluster/image/tree"
)

// alternatives writes what update-alternatives(1) would: the links, and its database, so that the
// choice can be changed later.
func (s *System) alternatives(all []declare.Named) error {
	choices := map[string][]declare.Alternative{}
	sources := map[string]string{}
	for _, n := range all {
		for _, a := range n.Alternatives {
			choices[a.Name] = append(choices[a.Name], a)
			sources[a.Name] = n.Source
		}
	}
	for _, name := range slices.Sorted(maps.Keys(choices)) {
		if err := s.alternative(name, choices[name], sources[name]); err != nil {
			return fmt.Errorf("%s: alternative %s: %w", sources[name], name, err)
		}
	}
	return nil
}

func (s *System) alternative(name string, choices []declare.Alternative, source string) error {
	// Slaves are kept by name, without those whose path is excluded: update-alternatives(1) ignores
	// what does not exist.
	slaves := map[string]string{} // name to link
	best := choices[0]
	for i := range choices {
		a := &choices[i]
		if !s.exists(a.Path) {
			return fmt.Errorf("%s does not exist", a.Path)
		}
		if a.Link != best.Link {
			return fmt.Errorf("two links: %s and %s", best.Link, a.Link)
		}
		a.Slaves = slices.DeleteFunc(slices.Clone(a.Slaves), func(sl declare.Slave) bool { return !s.exists(sl.Path) })
		for _, sl := range a.Slaves {
			slaves[sl.Name] = sl.Link
		}
		if a.Priority > best.Priority {
			best = *a
		} else if a.Path == best.Path {
			best = *a
		}
	}
	slices.SortFunc(choices, func(a, b declare.Alternative) int { return strings.Compare(a.Path, b.Path) })

	var db strings.Builder
	fmt.Fprintf(&db, "auto\n%s\n", best.Link)
	names := slices.Sorted(maps.Keys(slaves))
	for _, slave := range names {
		fmt.Fprintf(&db, "%s\n%s\n", slave, slaves[slave])
	}
	db.WriteString("\n")
	for _, a := range choices {
		fmt.Fprintf(&db, "%s\n%d\n", a.Path, a.Priority)
		for _, slave := range names {
			path := ""
			for _, sl := range a.Slaves {
				if sl.Name == slave {
					path = sl.Path
				}
			}
			fmt.Fprintf(&db, "%s\n", path)
		}
	}
	db.WriteString("\n")
	e, err := Text("var/lib/dpkg/alternatives/"+name, db.String(), 0o644, source)
	if err != nil {
		return err
	}
	if err := s.Tree.Add(e); err != nil {
		return err
	}
	if err := s.alternativeLink(name, best.Link, best.Path, source); err != nil {
		return err
	}
	for _, sl := range best.Slaves {
		if err := s.alternativeLink(sl.Name, sl.Link, sl.Path, source); err != nil {
			return err
		}
	}
	return nil
}

func (s *System) alternativeLink(name, link, path, source string) error {
	if err := s.link("etc/alternatives/"+name, path, source); err != nil {
		return err
	}
	return s.link(link, "/etc/alternatives/"+name, source)
}

func (s *System) exists(path string) bool {
	p, err := tree.Clean(path)
	return err == nil && s.Tree.Follow(p) != nil
}
