package deb

import (
	"fmt"
	"strings"
	"unicode"

	debian "pault.ag/go/debian/version"
)

// Relation is one package that a field such as Depends names, with the versions that it accepts
// (https://www.debian.org/doc/debian-policy/ch-relationships.html).
type Relation struct {
	Name string
	// Operator is one of << <= = >= >>, or empty for any version.
	Operator, Version string
}

// String returns the relation as a control file has it.
func (r Relation) String() string {
	if r.Operator == "" {
		return r.Name
	}
	return fmt.Sprintf("%s (%s %s)", r.Name, r.Operator, r.Version)
}

// Admits reports whether the relation holds for a version.
func (r Relation) Admits(version string) bool {
	if r.Operator == "" {
		return true
	}
	c := CompareVersions(version, r.Version)
	switch r.Operator {
	case "<<":
		return c < 0
	case "<=":
		return c <= 0
	case "=":
		return c == 0
	case ">=":
		return c >= 0
	}
	return c > 0
}

// ParseRelations reads a field such as Depends: all of the groups must hold, and one
// of the alternatives in each.
func ParseRelations(field string) ([][]Relation, error) {
	var groups [][]Relation
	for _, group := range strings.Split(field, ",") {
		if strings.TrimSpace(group) == "" {
			continue
		}
		var alternatives []Relation
		for _, text := range strings.Split(group, "|") {
			r, err := parseRelation(text)
			if err != nil {
				return nil, err
			}
			alternatives = append(alternatives, r)
		}
		groups = append(groups, alternatives)
	}
	return groups, nil
}

func parseRelation(text string) (Relation, error) {
	text = strings.TrimSpace(text)
	name, rest, versioned := strings.Cut(text, "(")
	name = strings.TrimSpace(name)
	// All packages are of one architecture, so that a qualifier makes no difference.
	name, _, _ = strings.Cut(name, ":")
	if name == "" || strings.ContainsFunc(name, unicode.IsSpace) {
		return Relation{}, fmt.Errorf("%q names no package", text)
	}
	if !versioned {
		return Relation{Name: name}, nil
	}
	constraint, after, closed := strings.Cut(rest, ")")
	constraint = strings.TrimSpace(constraint)
	operator := constraint[:len(constraint)-len(strings.TrimLeft(constraint, "<=>"))]
	version := strings.TrimSpace(constraint[len(operator):])
	switch operator {
	case "<<", "<=", "=", ">=", ">>":
	default:
		operator = ""
	}
	if !closed || operator == "" || version == "" || strings.TrimSpace(after) != "" {
		return Relation{}, fmt.Errorf("%q has no valid version", text)
	}
	if _, err := debian.Parse(version); err != nil {
		return Relation{}, fmt.Errorf("%q has no valid version: %w", text, err)
	}
	return Relation{name, operator, version}, nil
}
