package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// listing is a layer's listing by lines.
type listing []line

// line is one line: of a path, or a comment or the like, with an empty path.
type line struct {
	path, text string
}

// source is a layer that another golden lists.
type source struct {
	name  string
	lines listing
}

func parse(text string) listing {
	var l listing
	for s := range strings.Lines(text) {
		s = strings.TrimSuffix(s, "\n")
		path := ""
		if strings.HasPrefix(s, ".") {
			path, _, _ = strings.Cut(s, " ")
		}
		l = append(l, line{path, s})
	}
	return l
}

func (l listing) String() string {
	var b strings.Builder
	for _, n := range l {
		b.WriteString(n.text + "\n")
	}
	return b.String()
}

// says returns what is listed of a path.
func (n line) says() string { return strings.TrimPrefix(n.text, n.path) }

func (n line) isDir() bool {
	return n.path != "" && slices.Contains(strings.Fields(n.text), "type=dir")
}

// under returns the path of a line below a directory.
func under(dir, path string) string { return dir + strings.TrimPrefix(path, ".") }

// match is a directory that has all files of a layer.
type match struct {
	dir    string
	source source
}

// refer puts one line, `DIR/* layer=NAME`, in place of the files and directories of a layer that are
// all, as they are there, in one directory here; of several layers, `layer=NAME,NAME`. Of two that
// have files in common the larger one counts.
func (l *listing) refer(layers []source) {
	says := map[string]string{}
	for _, n := range *l {
		if n.path != "" {
			says[n.path] = n.says()
		}
	}
	var matches []match
	for _, k := range layers {
		for _, dir := range k.places(*l) {
			if k.liesIn(dir, says) {
				matches = append(matches, match{dir, k})
			}
		}
	}
	slices.SortStableFunc(matches, func(a, b match) int {
		return cmp.Compare(len(b.source.lines), len(a.source.lines))
	})
	gone := map[string]bool{}      // paths
	names := map[string][]string{} // of layers, by directory
	first := map[string][]string{} // directories, by the path that their line comes before
	for _, m := range matches {
		paths, taken := m.files()
		if slices.ContainsFunc(taken, func(p string) bool { return gone[p] }) {
			continue
		}
		if names[m.dir] == nil {
			at := (*l)[slices.IndexFunc(*l, func(n line) bool { return paths[n.path] })].path
			first[at] = append(first[at], m.dir)
		}
		names[m.dir] = append(names[m.dir], m.source.name)
		maps.Copy(gone, paths)
	}
	var kept listing
	for _, n := range *l {
		for _, dir := range first[n.path] {
			p := dir + "/*"
			kept = append(kept, line{p, p + " layer=" + strings.Join(names[dir], ",")})
		}
		if n.path == "" || !gone[n.path] {
			kept = append(kept, n)
		}
	}
	*l = kept
}

// places returns the directories that have the first of a layer's files, as it is there.
func (k source) places(l listing) []string {
	var dirs []string
	for _, want := range k.lines {
		if want.path == "" || want.isDir() {
			continue
		}
		for _, n := range l {
			if dir, ok := strings.CutSuffix(n.path, strings.TrimPrefix(want.path, ".")); ok && n.says() == want.says() {
				dirs = append(dirs, dir)
			}
		}
		break
	}
	return dirs
}

// liesIn reports whether all that the layer has is in a directory.
func (k source) liesIn(dir string, says map[string]string) bool {
	return !slices.ContainsFunc(k.lines, func(n line) bool {
		have, ok := says[under(dir, n.path)]
		return n.path != "" && (!ok || have != n.says())
	})
}

// files returns the paths that the match stands for, and those of them that are no directories, which
// others may have too.
func (m match) files() (all map[string]bool, files []string) {
	all = map[string]bool{}
	for _, n := range m.source.lines {
		if n.path == "" {
			continue
		}
		p := under(m.dir, n.path)
		all[p] = true
		if !n.isDir() {
			files = append(files, p)
		}
	}
	return all, files
}

// count puts one line, `DIR/* files=N`, in place of what is in each directory whose absolute path
// matches.
func (l *listing) count(match func(dir string) bool) {
	var kept listing
	counted, files := "", 0
	end := func() {
		if counted != "" {
			kept = append(kept, line{counted + "/*", fmt.Sprintf("%s/* files=%d", counted, files)})
		}
		counted, files = "", 0
	}
	for _, n := range *l {
		if counted != "" && strings.HasPrefix(n.path, counted+"/") {
			if !n.isDir() {
				files++
			}
			continue
		}
		end()
		kept = append(kept, n)
		if n.isDir() && match(strings.TrimPrefix(n.path, ".")) {
			counted = n.path
		}
	}
	end()
	*l = kept
}
