package mtree

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Difference is one path whose lines differ; an empty line stands for absence.
type Difference struct {
	Golden, Actual string
}

// String shows the difference as a diff does.
func (d Difference) String() string {
	switch {
	case d.Golden == "":
		return "+ " + d.Actual
	case d.Actual == "":
		return "- " + d.Golden
	}
	return "- " + d.Golden + "\n+ " + d.Actual
}

// Diff compares two listings, path by path.
func Diff(golden, actual string) ([]Difference, error) {
	want, err := parse(golden)
	if err != nil {
		return nil, fmt.Errorf("golden: %w", err)
	}
	have, err := parse(actual)
	if err != nil {
		return nil, fmt.Errorf("actual: %w", err)
	}
	paths := maps.Clone(want)
	maps.Copy(paths, have)
	var all []Difference
	for _, p := range slices.Sorted(maps.Keys(paths)) {
		if want[p] != have[p] {
			all = append(all, Difference{want[p], have[p]})
		}
	}
	return all, nil
}

func parse(text string) (map[string]string, error) {
	lines := map[string]string{}
	layer := ""
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "# layer "); ok {
			layer = name
			continue
		}
		if line == "" || line[0] == '#' || strings.HasPrefix(line, "/set ") {
			continue
		}
		p, _, _ := strings.Cut(line, " ")
		if !strings.HasPrefix(p, ".") {
			return nil, fmt.Errorf("line %d is no path: %q", n+1, line)
		}
		// A path may be in several layers.
		key := layer + " " + p
		if _, twice := lines[key]; twice {
			return nil, fmt.Errorf("line %d lists %s again", n+1, p)
		}
		lines[key] = line
	}
	return lines, nil
}

// Blur removes size and checksum from the lines of matching paths: files that change with each of
// our commits, of which only the presence matters.
func Blur(text string, match func(path string) bool) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		p, _, _ := strings.Cut(line, " ")
		if !strings.HasPrefix(p, "./") || !match(p[1:]) {
			continue
		}
		words := slices.DeleteFunc(strings.Split(line, " "), func(w string) bool {
			return strings.HasPrefix(w, "size=") || strings.HasPrefix(w, "sha256=")
		})
		lines[i] = strings.Join(words, " ")
	}
	return strings.Join(lines, "\n")
}
