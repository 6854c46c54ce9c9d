package deb

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"pault.ag/go/debian/version"
)

// Field is one field of a control paragraph. Value keeps the continuation
// lines as they are, with their leading blank.
type Field struct {
	Name, Value string
}

// Control is a control paragraph, its fields in the order of the file.
type Control []Field

// Get returns the value of the named field, whose case does not matter, or "".
func (c Control) Get(name string) string {
	for _, f := range c {
		if strings.EqualFold(f.Name, name) {
			return f.Value
		}
	}
	return ""
}

// RemoveDependency removes the dependency on the named package from Depends and reports whether it
// was there. A dependency that other packages can meet as well is kept.
func (c Control) RemoveDependency(name string) bool {
	for i, f := range c {
		if !strings.EqualFold(f.Name, "Depends") {
			continue
		}
		groups := strings.Split(f.Value, ",")
		kept := slices.DeleteFunc(slices.Clone(groups), func(group string) bool {
			r, err := ParseRelations(group)
			return err == nil && len(r) == 1 && len(r[0]) == 1 && r[0][0].Name == name
		})
		c[i].Value = strings.TrimSpace(strings.Join(kept, ","))
		return len(kept) < len(groups)
	}
	return false
}

// String returns the paragraph as a control file has it.
func (c Control) String() string {
	var b strings.Builder
	for _, f := range c {
		b.WriteString(f.Name)
		b.WriteByte(':')
		if f.Value != "" && f.Value[0] != '\n' {
			b.WriteByte(' ')
		}
		b.WriteString(f.Value)
		b.WriteByte('\n')
	}
	return b.String()
}

// ParseControls reads the paragraphs of a control file, such as dpkg's status.
func ParseControls(text string) ([]Control, error) {
	var (
		all     []Control
		current Control
	)
	for n, line := range strings.Split(text, "\n") {
		switch {
		case strings.TrimSpace(line) == "":
			if current != nil {
				all, current = append(all, current), nil
			}
		case line[0] == ' ' || line[0] == '\t':
			if len(current) == 0 {
				return nil, fmt.Errorf("line %d continues no field: %q", n+1, line)
			}
			current[len(current)-1].Value += "\n" + line
		case line[0] == '#':
		default:
			name, value, ok := strings.Cut(line, ":")
			if !ok || name == "" || strings.ContainsAny(name, " \t") {
				return nil, fmt.Errorf("line %d is no field: %q", n+1, line)
			}
			current = append(current, Field{name, strings.TrimSpace(value)})
		}
	}
	if current != nil {
		all = append(all, current)
	}
	return all, nil
}

func parseControl(text string) (Control, error) {
	all, err := ParseControls(text)
	if err != nil {
		return nil, fmt.Errorf("control file: %w", err)
	}
	if len(all) != 1 {
		return nil, fmt.Errorf("control file has %d paragraphs, not one", len(all))
	}
	c := all[0]
	for _, name := range []string{"Package", "Version", "Architecture"} {
		if c.Get(name) == "" {
			return nil, errors.New("control file has no field " + name)
		}
	}
	if _, err := version.Parse(c.Get("Version")); err != nil {
		return nil, fmt.Errorf("control file has no valid version: %q: %w", c.Get("Version"), err)
	}
	// The name becomes a file name in dpkg's database.
	if strings.Trim(c.Get("Package"), "abcdefghijklmnopqrstuvwxyz0123456789+-.") != "" || c.Get("Package")[0] == '.' {
		return nil, fmt.Errorf("control file names an impossible package: %q", c.Get("Package"))
	}
	return c, nil
}
