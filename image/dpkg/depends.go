package dpkg

import (
	"errors"
	"fmt"
	"strings"

	"github.com/dind-cluster/dind-cluster/image/deb"
)

// CheckRelations returns an error for the packages of a status file whose dependencies no package
// meets, and for those that exclude each other.
func CheckRelations(status string) error {
	all, err := deb.ParseControls(status)
	if err != nil {
		return err
	}
	has := newProvided(all)
	var errs []error
	for _, p := range all {
		for _, field := range []string{"Pre-Depends", "Depends"} {
			groups, err := deb.ParseRelations(p.Get(field))
			if err != nil {
				errs = append(errs, fmt.Errorf("package %s, %s: %w", p.Get("Package"), field, err))
			}
			for _, group := range groups {
				if !has.any(group) {
					errs = append(errs, fmt.Errorf("package %s needs %s, which is not there", p.Get("Package"), alternatives(group)))
				}
			}
		}
		for _, field := range []string{"Conflicts", "Breaks"} {
			groups, err := deb.ParseRelations(p.Get(field))
			if err != nil {
				errs = append(errs, fmt.Errorf("package %s, %s: %w", p.Get("Package"), field, err))
			}
			for _, group := range groups {
				for _, r := range group {
					if other := has.other(r, p.Get("Package")); other != "" {
						errs = append(errs, fmt.Errorf("package %s cannot be together with %s: %s %s", p.Get("Package"), other, field, r))
					}
				}
			}
		}
	}
	return errors.Join(errs...)
}

func alternatives(group []deb.Relation) string {
	names := make([]string, len(group))
	for i, r := range group {
		names[i] = r.String()
	}
	return strings.Join(names, " or ")
}

// provider is a package under its own name or another.
type provider struct {
	pkg string
	// version is empty for a name provided without one.
	version string
}

type provided map[string][]provider

func newProvided(all []deb.Control) provided {
	has := provided{}
	for _, p := range all {
		name := p.Get("Package")
		has[name] = append(has[name], provider{name, p.Get("Version")})
		// A field that cannot be parsed provides nothing.
		groups, _ := deb.ParseRelations(p.Get("Provides"))
		for _, group := range groups {
			for _, r := range group {
				has[r.Name] = append(has[r.Name], provider{name, r.Version})
			}
		}
	}
	return has
}

func (has provided) any(group []deb.Relation) bool {
	for _, r := range group {
		if has.other(r, "") != "" {
			return true
		}
	}
	return false
}

// other returns a package that meets the relation and is not the named one, or "".
func (has provided) other(r deb.Relation, not string) string {
	for _, p := range has[r.Name] {
		if p.pkg != not && (r.Operator == "" || p.version != "" && r.Admits(p.version)) {
			return p.pkg
		}
	}
	return ""
}
