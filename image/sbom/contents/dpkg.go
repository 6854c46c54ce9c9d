package contents

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/dind-cluster/dind-cluster/image/deb"
	"github.com/dind-cluster/dind-cluster/image/rootfs"
)

// Package is an installed Debian package.
type Package struct {
	Name, Version, Architecture string
	// Maintainer is a name and an address: A Person <someone@example.org>.
	Maintainer string
	Homepage   string
	// Summary is the first line of the description.
	Summary string
	// Source is the source package that the package was built from.
	Source SourcePackage
	// BuiltUsing are further source packages, parts of which are in this one: all that a Go program
	// is linked from.
	BuiltUsing []SourcePackage
	// Copyright is the package's copyright file; nil if it has none.
	Copyright []byte
}

// SourcePackage is a Debian source package.
type SourcePackage struct {
	Name, Version string
}

// database is the content of dpkg's database.
type database struct {
	packages []*Package
	// owners are the packages of files, by path without a leading slash.
	owners map[string]*Package
}

const (
	dpkg      = "var/lib/dpkg/"
	statusDir = dpkg + "status.d/"
)

// readPackages reads dpkg's database: one file for all packages, or, as in images without dpkg, one
// for each: https://github.com/GoogleContainerTools/distroless/blob/main/PACKAGE_METADATA.md
func readPackages(t tree) (*database, error) {
	db := &database{owners: map[string]*Package{}}
	byName := map[string]*Package{}
	for _, p := range slices.Sorted(maps.Keys(t)) {
		f := t[p]
		if f.Text == nil || p != dpkg+"status" && (!strings.HasPrefix(p, statusDir) || strings.HasSuffix(p, ".md5sums")) {
			continue
		}
		paragraphs, err := deb.ParseControls(string(f.Text))
		if err != nil {
			return nil, fmt.Errorf("/%s: %w", p, err)
		}
		for n, paragraph := range paragraphs {
			status := strings.Fields(paragraph.Get("Status"))
			if len(status) > 0 && status[len(status)-1] != "installed" {
				continue // removed, with its configuration files left
			}
			pkg, err := parsePackage(paragraph)
			if err != nil {
				return nil, fmt.Errorf("/%s: package %d: %w", p, n+1, err)
			}
			if f := t.lookup("usr/share/doc/" + pkg.Name + "/copyright"); f != nil {
				pkg.Copyright = f.Text
			}
			db.packages = append(db.packages, pkg)
			byName[pkg.Name], byName[pkg.Name+":"+pkg.Architecture] = pkg, pkg
		}
	}
	slices.SortStableFunc(db.packages, func(a, b *Package) int {
		return strings.Compare(a.Name+":"+a.Architecture, b.Name+":"+b.Architecture)
	})
	for _, p := range slices.Sorted(maps.Keys(t)) {
		f := t[p]
		if dir, base := path.Split(p); dir == dpkg+"info/" {
			if name, ok := strings.CutSuffix(base, ".list"); ok && byName[name] != nil {
				db.own(byName[name], strings.Split(string(f.Text), "\n"))
			}
		} else if dir == statusDir {
			if name, ok := strings.CutSuffix(base, ".md5sums"); ok && byName[name] != nil {
				db.own(byName[name], md5Paths(string(f.Text)))
			}
		}
	}
	return db, nil
}

// merged matches the directories that are links into /usr today (https://wiki.debian.org/UsrMerge);
// older packages name their files by them.
var merged = regexp.MustCompile(`^(bin|sbin|lib|lib32|lib64|libx32)/`)

func (db *database) own(pkg *Package, paths []string) {
	for _, p := range paths {
		if p = rootfs.Clean(p); p == "" {
			continue
		}
		db.owners[p] = pkg
		if merged.MatchString(p) {
			db.owners["usr/"+p] = pkg
		}
	}
}

// md5Paths returns the paths of a list of checksums.
func md5Paths(text string) []string {
	var paths []string
	for _, line := range strings.Split(text, "\n") {
		if _, p, ok := strings.Cut(line, "  "); ok {
			paths = append(paths, p)
		}
	}
	return paths
}

func parsePackage(c deb.Control) (*Package, error) {
	p := &Package{
		Name:         c.Get("Package"),
		Version:      c.Get("Version"),
		Architecture: c.Get("Architecture"),
		Maintainer:   unfold(c.Get("Maintainer")),
		Homepage:     unfold(c.Get("Homepage")),
	}
	for _, f := range []struct{ name, value string }{{"Package", p.Name}, {"Version", p.Version}, {"Architecture", p.Architecture}} {
		if f.value == "" || strings.ContainsAny(f.value, " \t\n") {
			return nil, fmt.Errorf("field %s is %q", f.name, f.value)
		}
	}
	p.Summary, _, _ = strings.Cut(c.Get("Description"), "\n")
	p.Source = SourcePackage{p.Name, p.Version}
	if source := unfold(c.Get("Source")); source != "" {
		name, version, hasVersion := strings.Cut(source, " (")
		p.Source.Name = name
		if hasVersion {
			p.Source.Version = strings.TrimSuffix(version, ")")
		}
	}
	for _, field := range []string{"Built-Using", "Static-Built-Using"} {
		sources, err := parseSources(c.Get(field))
		if err != nil {
			return nil, fmt.Errorf("field %s of %s: %w", field, p.Name, err)
		}
		for _, s := range sources {
			if !slices.Contains(p.BuiltUsing, s) {
				p.BuiltUsing = append(p.BuiltUsing, s)
			}
		}
	}
	return p, nil
}

var exactSource = regexp.MustCompile(`^([a-z0-9][a-z0-9+.-]*)(?::[a-z0-9]+)? \(= ?([^\s()]+)\)$`)

// parseSources reads a list of source packages with exact versions: a (= 1), b (= 2).
func parseSources(text string) ([]SourcePackage, error) {
	var all []SourcePackage
	for _, item := range strings.Split(unfold(text), ",") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		m := exactSource.FindStringSubmatch(item)
		if m == nil {
			return nil, fmt.Errorf("%q is not a name with an exact version", item)
		}
		all = append(all, SourcePackage{m[1], m[2]})
	}
	return all, nil
}

// unfold makes one line of a field's value.
func unfold(value string) string { return strings.Join(strings.Fields(value), " ") }
