// Package dpkg writes dpkg's database for packages that dpkg did not unpack, so that dpkg, apt and
// vulnerability scanners see what is installed.
package dpkg

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/dind-cluster/dind-cluster/image/deb"
	"github.com/dind-cluster/dind-cluster/image/declare"
	"github.com/dind-cluster/dind-cluster/image/effects"
	"github.com/dind-cluster/dind-cluster/image/state"
	"github.com/dind-cluster/dind-cluster/image/tree"
)

// StatusPath is dpkg's list of installed packages.
const StatusPath = root + "/status"

const (
	root           = "var/lib/dpkg"
	triggersPath   = root + "/triggers/File"
	diversionsPath = root + "/diversions"
	source         = "dpkg's database"
)

// Installed is a package whose files are in the tree.
type Installed struct {
	*deb.Package
	// Paths are those of the package's archive, excluded ones too, as dpkg lists
	// them: absolute, "/." for the root.
	Paths []string
	// MD5 has the checksums of its files, by path without leading slash.
	MD5 map[string]string
}

// Register adds the packages to the database of the layers below.
func Register(t *tree.Tree, below *state.State, shared map[string]string, packages []*Installed, diversions []declare.Diversion) error {
	if len(packages) == 0 {
		return nil
	}
	status, err := deb.ParseControls(below.Shared[StatusPath])
	if err != nil {
		return fmt.Errorf("/%s of the layers below: %w", StatusPath, err)
	}
	var files []*tree.Entry
	add := func(p, content string, mode int64) error {
		e, err := effects.Text(p, content, mode, source)
		if err == nil {
			files = append(files, e)
		}
		return err
	}
	for _, p := range packages {
		paragraph, err := statusOf(t, p)
		if err != nil {
			return fmt.Errorf("package %s: %w", p.Name(), err)
		}
		status = append(status, paragraph)
		if err := info(p, add); err != nil {
			return err
		}
	}
	slices.SortStableFunc(status, func(a, b deb.Control) int { return strings.Compare(a.Get("Package"), b.Get("Package")) })
	var text strings.Builder
	for _, paragraph := range status {
		text.WriteString(paragraph.String() + "\n")
	}
	shared[StatusPath] = text.String()
	written := []string{StatusPath, triggersPath, diversionsPath}
	interests := triggerInterests(packages)
	for _, p := range slices.Sorted(maps.Keys(interests)) {
		shared[p] = below.Shared[p] + interests[p]
		if p != triggersPath {
			written = append(written, p)
		}
	}
	if _, ok := shared[triggersPath]; !ok {
		shared[triggersPath] = below.Shared[triggersPath]
	}
	shared[diversionsPath] = below.Shared[diversionsPath] + diversionLines(diversions)
	for _, p := range written {
		if err := add(p, shared[p], 0o644); err != nil {
			return err
		}
	}
	for _, p := range []string{"available", "statoverride", "triggers/Unincorp"} {
		if err := add(root+"/"+p, "", 0o644); err != nil {
			return err
		}
	}
	if err := add(root+"/info/format", "1\n", 0o644); err != nil {
		return err
	}
	for _, e := range files {
		if err := t.Replace(e); err != nil {
			return err
		}
	}
	return nil
}

// statusOf returns a package's paragraph in the status file.
func statusOf(t *tree.Tree, p *Installed) (deb.Control, error) {
	paragraph := deb.Control{{Name: "Package", Value: p.Name()}, {Name: "Status", Value: "install ok installed"}}
	for _, f := range p.Control {
		if !strings.EqualFold(f.Name, "Package") && !strings.EqualFold(f.Name, "Status") && !strings.EqualFold(f.Name, "Conffiles") {
			paragraph = append(paragraph, f)
		}
	}
	var lines strings.Builder
	for _, conffile := range strings.Split(string(p.Members["conffiles"]), "\n") {
		fields := strings.Fields(conffile)
		// A flag may stand before the path: remove-on-upgrade.
		if len(fields) != 1 {
			continue
		}
		path, err := tree.Clean(fields[0])
		if err != nil {
			return nil, err
		}
		sum, ok := p.MD5[path]
		if !ok {
			return nil, fmt.Errorf("conffile %s is not among its files", fields[0])
		}
		fmt.Fprintf(&lines, "\n /%s %s", path, sum)
	}
	if lines.Len() > 0 {
		paragraph = append(paragraph, deb.Field{Name: "Conffiles", Value: lines.String()})
	}
	return paragraph, nil
}

// info writes the package's files of the info directory.
func info(p *Installed, add func(path, content string, mode int64) error) error {
	prefix := root + "/info/" + p.Name()
	if p.Control.Get("Multi-Arch") == "same" {
		prefix += ":" + p.Control.Get("Architecture")
	}
	if err := add(prefix+".list", strings.Join(p.Paths, "\n")+"\n", 0o644); err != nil {
		return err
	}
	for name, content := range p.Members {
		mode := int64(0o644)
		if slices.Contains(declare.ScriptKinds(), name) {
			mode = 0o755
		}
		if err := add(prefix+"."+name, string(content), mode); err != nil {
			return err
		}
	}
	if _, has := p.Members["md5sums"]; !has && len(p.MD5) > 0 {
		var lines []string
		for path, sum := range p.MD5 {
			lines = append(lines, sum+"  "+path+"\n")
		}
		slices.SortFunc(lines, func(a, b string) int { return strings.Compare(a[32:], b[32:]) })
		return add(prefix+".md5sums", strings.Join(lines, ""), 0o644)
	}
	return nil
}

// triggerInterests returns the lines to add to the files of the triggers directory: one file for
// all paths that packages wait for, and one for each named trigger.
func triggerInterests(packages []*Installed) map[string]string {
	lines := map[string]string{}
	for _, p := range packages {
		for _, line := range strings.Split(string(p.Members["triggers"]), "\n") {
			line, _, _ = strings.Cut(line, "#")
			f := strings.Fields(line)
			if len(f) != 2 || !strings.HasPrefix(f[0], "interest") {
				continue
			}
			who := p.Name()
			if strings.HasSuffix(f[0], "-noawait") {
				who += "/noawait"
			}
			if strings.HasPrefix(f[1], "/") {
				lines[triggersPath] += f[1] + " " + who + "\n"
			} else {
				lines[root+"/triggers/"+f[1]] += who + "\n"
			}
		}
	}
	return lines
}

func diversionLines(diversions []declare.Diversion) string {
	var b strings.Builder
	for _, d := range diversions {
		fmt.Fprintf(&b, "%s\n%s\n%s\n", d.Path, d.To, d.By)
	}
	return b.String()
}

// MD5Of reads a package's own md5sums file.
func MD5Of(p *deb.Package) map[string]string {
	sums := map[string]string{}
	for _, line := range bytes.Split(p.Members["md5sums"], []byte("\n")) {
		if sum, path, ok := strings.Cut(string(line), "  "); ok && len(sum) == 32 {
			sums[strings.TrimPrefix(path, "./")] = sum
		}
	}
	return sums
}
