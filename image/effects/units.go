package effects

import (
	"fmt"
	"path"
	"strings"

	"github.com/dind-cluster/dind-cluster/image/declare"
)

const (
	unitsOfAdmin    = "etc/systemd/system"
	unitsOfPackages = "usr/lib/systemd/system"
)

func (s *System) defaultUnit(n declare.Named) error {
	if n.DefaultUnit == "" {
		return nil
	}
	if s.Tree.Follow(unitsOfPackages+"/"+n.DefaultUnit) == nil {
		return fmt.Errorf("default unit %s does not exist", n.DefaultUnit)
	}
	return s.link(unitsOfAdmin+"/default.target", "/"+unitsOfPackages+"/"+n.DefaultUnit, n.Source)
}

// mask masks units, as systemctl(1) does. They need not exist: generators make some.
func (s *System) mask(n declare.Named) error {
	for _, unit := range n.Mask {
		if err := s.link(unitsOfAdmin+"/"+unit, "/dev/null", n.Source); err != nil {
			return err
		}
	}
	return nil
}

// enable makes the links of systemctl enable, as the [Install] section of a unit says:
// https://www.freedesktop.org/software/systemd/man/latest/systemd.unit.html
func (s *System) enable(n declare.Named) error {
	done := map[string]bool{}
	for _, unit := range n.Enable {
		if err := s.enableUnit(unit, n.Source, done); err != nil {
			return fmt.Errorf("enabling %s: %w", unit, err)
		}
	}
	return nil
}

func (s *System) enableUnit(unit, source string, done map[string]bool) error {
	if done[unit] {
		return nil
	}
	done[unit] = true
	file, instance := unit, ""
	if base, rest, ok := strings.Cut(unit, "@"); ok && !strings.HasPrefix(rest, ".") {
		ext := path.Ext(rest)
		file, instance = base+"@"+ext, strings.TrimSuffix(rest, ext)
	}
	where, text, err := s.unitFile(file)
	if err != nil {
		return err
	}
	install := installSection(text)
	if len(install) == 0 {
		return fmt.Errorf("/%s has no [Install] section", where)
	}
	target := "/" + where
	for _, line := range install {
		for _, word := range strings.Fields(strings.ReplaceAll(line[1], "%i", instance)) {
			var err error
			switch line[0] {
			case "Alias":
				err = s.link(unitsOfAdmin+"/"+word, target, source)
			case "WantedBy":
				err = s.link(unitsOfAdmin+"/"+word+".wants/"+unit, target, source)
			case "RequiredBy":
				err = s.link(unitsOfAdmin+"/"+word+".requires/"+unit, target, source)
			case "Also":
				err = s.enableUnit(word, source, done)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *System) unitFile(name string) (string, string, error) {
	for _, dir := range []string{unitsOfAdmin, unitsOfPackages} {
		p := dir + "/" + name
		text, ok, err := s.read(p)
		if err != nil {
			return "", "", err
		}
		if ok {
			return p, text, nil
		}
		if text, ok := s.Units[p]; ok {
			return p, text, nil
		}
	}
	return "", "", fmt.Errorf("no such unit file, or one without an [Install] section")
}

// Installable returns the unit files of this layer that have an [Install] section,
// with their content.
func (s *System) Installable() (map[string]string, error) {
	units := map[string]string{}
	for _, e := range s.Tree.Entries() {
		if dir := path.Dir(e.Path); dir != unitsOfAdmin && dir != unitsOfPackages {
			continue
		}
		text, ok, err := s.read(e.Path)
		if err != nil {
			return nil, err
		}
		if ok && len(installSection(text)) > 0 {
			units[e.Path] = text
		}
	}
	return units, nil
}

// installSection returns the assignments of a unit file's [Install] section.
func installSection(text string) [][2]string {
	var (
		lines [][2]string
		in    bool
	)
	text = strings.ReplaceAll(text, "\\\n", " ")
	for _, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			in = line == "[Install]"
			continue
		}
		if !in || line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		if key, value, ok := strings.Cut(line, "="); ok {
			lines = append(lines, [2]string{strings.TrimSpace(key), strings.TrimSpace(value)})
		}
	}
	return lines
}
