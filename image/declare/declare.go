// Package declare reads declarations of what the maintainer scripts of a layer's packages would
// have done, since no script is run: their effects as data, or the reason why there is none.
package declare

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// Declaration is one file of declarations.
type Declaration struct {
	// Exclude and Include are dpkg's path-exclude and path-include patterns, applied in this order
	// to the paths of packages. A `*` matches slashes too. A layer that declares none uses those of
	// the layers below.
	Exclude []string `json:"exclude,omitempty"`
	Include []string `json:"include,omitempty"`
	// Scripts acknowledges kinds of script for all packages: the kind and the reason. Only kinds
	// that do not run when a package is first installed are allowed.
	Scripts map[string]string `json:"scripts,omitempty"`
	// Triggers acknowledges dpkg triggers that packages activate or wait for: the
	// trigger's name and the reason.
	Triggers map[string]string `json:"triggers,omitempty"`
	// Complete requires that the packages of this layer and of those below and above make up a
	// complete system: all dependencies must be met.
	Complete bool `json:"complete,omitempty"`
	// Overrides settles conflicts.
	Overrides []Override `json:"overrides,omitempty"`
	// Packages has the effects of each package, by its name.
	Packages map[string]Package `json:"packages,omitempty"`
	// Effects are those of no package in particular.
	Effects

	path string
}

// Package declares what one package's scripts do.
type Package struct {
	// Scripts acknowledges the package's scripts: preinst, postinst, prerm,
	// postrm, config. The reason says why none is run, or points to the effects.
	Scripts map[string]string `json:"scripts,omitempty"`
	// Without names dependencies that the image does without, each with the reason. They are
	// removed from dpkg's database, so that dpkg and apt do not report them.
	Without map[string]string `json:"without,omitempty"`
	Effects
}

// Override names the package or file that wins at a path.
type Override struct {
	Path   string `json:"path"`
	Winner string `json:"winner"`
	Reason string `json:"reason"`
}

// Effects are changes to the tree, applied in the order of these fields.
type Effects struct {
	Remove       []string      `json:"remove,omitempty"`
	Directories  []File        `json:"directories,omitempty"`
	Files        []File        `json:"files,omitempty"`
	Copies       []Copy        `json:"copies,omitempty"`
	Symlinks     []Symlink     `json:"symlinks,omitempty"`
	Sysusers     []string      `json:"sysusers,omitempty"`
	Groups       []Group       `json:"groups,omitempty"`
	Users        []User        `json:"users,omitempty"`
	Shadow       bool          `json:"shadow,omitempty"`
	Alternatives []Alternative `json:"alternatives,omitempty"`
	Diversions   []Diversion   `json:"diversions,omitempty"`
	CABundle     bool          `json:"caBundle,omitempty"`
	DefaultUnit  string        `json:"defaultUnit,omitempty"`
	Enable       []string      `json:"enable,omitempty"`
	Mask         []string      `json:"mask,omitempty"`
	Attributes   []Attributes  `json:"attributes,omitempty"`
}

// File is a file with its content, or a directory. Mode is written in octal, as a
// string: 0644 and 0755 when empty.
type File struct {
	Path    string `json:"path"`
	Mode    string `json:"mode,omitempty"`
	UID     int    `json:"uid,omitempty"`
	GID     int    `json:"gid,omitempty"`
	Content string `json:"content,omitempty"`
}

// Copy copies a file of a package.
type Copy struct {
	From string `json:"from"`
	To   string `json:"to"`
	Mode string `json:"mode,omitempty"`
}

// Symlink is a symbolic link.
type Symlink struct {
	Path   string `json:"path"`
	Target string `json:"target"`
}

// Group is a group account.
type Group struct {
	Name string `json:"name"`
	GID  int    `json:"gid"`
	// Members are further users of the group, besides those that have it as their primary group.
	Members []string `json:"members,omitempty"`
}

// User is a user account, always locked.
type User struct {
	Name  string `json:"name"`
	UID   int    `json:"uid"`
	GID   int    `json:"gid"`
	Gecos string `json:"gecos,omitempty"`
	Home  string `json:"home,omitempty"`
	Shell string `json:"shell,omitempty"`
}

// Alternative is one choice that update-alternatives would register. Of several for one
// name the one with the highest priority is taken.
type Alternative struct {
	Name     string  `json:"name"`
	Link     string  `json:"link"`
	Path     string  `json:"path"`
	Priority int     `json:"priority"`
	Slaves   []Slave `json:"slaves,omitempty"`
}

// Slave follows its alternative's choice.
type Slave struct {
	Name string `json:"name"`
	Link string `json:"link"`
	Path string `json:"path"`
}

// Diversion moves a package's file aside, as dpkg-divert does.
type Diversion struct {
	Path string `json:"path"`
	To   string `json:"to"`
	By   string `json:"by"`
}

// Attributes changes the attributes of an existing path.
type Attributes struct {
	Path   string            `json:"path"`
	Mode   string            `json:"mode,omitempty"`
	UID    *int              `json:"uid,omitempty"`
	GID    *int              `json:"gid,omitempty"`
	Xattrs map[string]string `json:"xattrs,omitempty"`
}

// scriptKinds are the maintainer scripts:
// https://www.debian.org/doc/debian-policy/ch-maintainerscripts.html and debconf's config.
var scriptKinds = []string{"preinst", "postinst", "prerm", "postrm", "config"}

// ScriptKinds returns the names of the maintainer scripts.
func ScriptKinds() []string { return slices.Clone(scriptKinds) }

// Load reads a declaration file, YAML or JSON.
func Load(path string) (*Declaration, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading declaration: %w", err)
	}
	d, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	d.path = path
	return d, nil
}

// Parse reads a declaration.
func Parse(text []byte) (*Declaration, error) {
	d := &Declaration{}
	if err := yaml.UnmarshalStrict(text, d); err != nil {
		return nil, fmt.Errorf("not a valid declaration: %w", err)
	}
	return d, d.validate()
}

func (d *Declaration) validate() error {
	var errs []error
	reasons := func(where string, m map[string]string, allowed []string) {
		for _, kind := range slices.Sorted(maps.Keys(m)) {
			if allowed != nil && !slices.Contains(allowed, kind) {
				errs = append(errs, fmt.Errorf("%s: %q is not one of %s", where, kind, strings.Join(allowed, ", ")))
			}
			if strings.TrimSpace(m[kind]) == "" {
				errs = append(errs, fmt.Errorf("%s: %s needs a reason", where, kind))
			}
		}
	}
	reasons("scripts", d.Scripts, []string{"prerm", "postrm", "config"})
	reasons("triggers", d.Triggers, nil)
	for _, name := range slices.Sorted(maps.Keys(d.Packages)) {
		reasons("packages."+name+".scripts", d.Packages[name].Scripts, scriptKinds)
		reasons("packages."+name+".without", d.Packages[name].Without, nil)
	}
	for _, o := range d.Overrides {
		if o.Path == "" || o.Winner == "" || strings.TrimSpace(o.Reason) == "" {
			errs = append(errs, fmt.Errorf("overrides: %q needs path, winner and reason", o.Path))
		}
	}
	return errors.Join(errs...)
}
