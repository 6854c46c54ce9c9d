// Package contents makes an inventory of an image: its Debian packages, its programs with their
// modules, and the images that are in it as files, with inventories of their own.
package contents

import (
	"fmt"
	"maps"
	"path"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/dind-cluster/dind-cluster/image/rootfs"
	"github.com/dind-cluster/dind-cluster/image/sbom/scan"
)

// Image is the inventory of an image.
type Image struct {
	// Name is the image's name with its tag; empty if it is not known.
	Name string
	// Path is the absolute path of the image in the outer one; empty for the outermost.
	Path string
	// Digest is that of the manifest, or, with IsID, for an archive without one, the image's ID.
	Digest v1.Hash
	IsID   bool
	// Created is the image's own time.
	Created      time.Time
	Architecture string
	Layers       []Layer
	OS           *OS
	// Packages are sorted by name, Programs by path, Images by path and name.
	Packages []*Package
	Programs []*Program
	Images   []*Image
}

// Layer is one layer of an image.
type Layer struct {
	Digest v1.Hash
	// CreatedBy is from the image's history.
	CreatedBy string
}

// OS is what os-release(5) says.
type OS struct {
	ID, Name, VersionID, Codename string
}

// Program is an ELF program or library. Of those of Debian packages, only Go programs are listed.
type Program struct {
	// Path is absolute.
	Path   string
	SHA256 string
	// Go has the modules; nil for a program that is not written in Go.
	Go *debug.BuildInfo
	// Package owns the program; nil if none does.
	Package *Package
}

// Options has what an image does not say.
type Options struct {
	// Modules are the module lists of programs that carry none, by the program's SHA-256 in
	// hexadecimal.
	Modules map[string]*debug.BuildInfo
}

// Read makes the inventory of an image whose layers have been scanned. The name is the image's with
// its tag.
func Read(name string, img v1.Image, layers []*scan.Archive, o Options) (*Image, error) {
	digest, err := img.Digest()
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	manifest, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	i := &Image{Name: name, Digest: digest}
	i.describe(config, digests(manifest.Layers))
	return i, i.fill(scan.Squash(layers), o)
}

// describe adds what config and manifest say.
func (i *Image) describe(config *v1.ConfigFile, layers []v1.Hash) {
	i.Created, i.Architecture = config.Created.Time.UTC(), config.Architecture
	var history []string
	for _, h := range config.History {
		if !h.EmptyLayer {
			history = append(history, h.CreatedBy)
		}
	}
	for n, digest := range layers {
		layer := Layer{Digest: digest}
		if len(history) == len(layers) {
			layer.CreatedBy = history[n]
		}
		i.Layers = append(i.Layers, layer)
	}
}

func digests(layers []v1.Descriptor) []v1.Hash {
	all := make([]v1.Hash, len(layers))
	for n, l := range layers {
		all[n] = l.Digest
	}
	return all
}

// tree is a file system as a container sees it.
type tree map[string]*scan.File

// lookup finds the file at a path, following links. It returns nil if there is none.
func (t tree) lookup(p string) *scan.File {
	p, err := rootfs.Resolve(p, func(p string) (string, bool) {
		if f := t[p]; f != nil && f.Link != "" {
			return f.Link, true
		}
		return "", false
	})
	if err != nil {
		return nil
	}
	return t[p]
}

// fill adds what is in the image's files.
func (i *Image) fill(t tree, o Options) error {
	for _, p := range []string{"usr/lib/os-release", "etc/os-release"} {
		if f := t.lookup(p); f != nil && i.OS == nil {
			i.OS = parseOS(string(f.Text))
		}
	}
	db, err := readPackages(t)
	if err != nil {
		return err
	}
	i.Packages = db.packages
	paths := slices.Sorted(maps.Keys(t))
	folders := layouts(t)
	unpacked := stores(t)
	for _, s := range unpacked {
		images, err := s.images(t, o)
		if err != nil {
			return fmt.Errorf("/%s: %w", s.index, err)
		}
		i.Images = append(i.Images, images...)
	}
	for _, p := range paths {
		f := t[p]
		switch {
		case slices.ContainsFunc(unpacked, func(s *store) bool { return s.has(p) }):
			// It belongs to an inner image.
		case f.Program != nil:
			program := &Program{Path: "/" + p, SHA256: f.SHA256, Go: f.Program.Go, Package: db.owners[p]}
			if program.Go == nil && program.Package != nil {
				continue
			}
			if err := program.complete(o); err != nil {
				return err
			}
			i.Programs = append(i.Programs, program)
		case f.Archive != nil && !isBlobOf(folders, p):
			images, err := tree(f.Archive.Files).nested("/"+p, o)
			if err != nil {
				return err
			}
			i.Images = append(i.Images, images...)
		case path.Base(p) == "oci-layout":
			images, err := t.under(path.Dir(p)).nested("/"+path.Dir(p), o)
			if err != nil {
				return err
			}
			i.Images = append(i.Images, images...)
		}
	}
	return nil
}

// complete finds the module list of a Go program.
func (p *Program) complete(o Options) error {
	if p.Go == nil || p.Go.Main.Path != "" || len(p.Go.Deps) > 0 {
		return nil
	}
	if modules := o.Modules[p.SHA256]; modules != nil {
		info := *modules
		info.GoVersion = p.Go.GoVersion
		p.Go = &info
		return nil
	}
	// Debian builds Go programs without modules; instead, the package names the source packages of
	// all that is in it: https://www.debian.org/doc/debian-policy/ch-relationships.html, section
	// 7.8
	if p.Package != nil && len(p.Package.BuiltUsing) > 0 {
		return nil
	}
	return &UnknownModulesError{Path: p.Path, SHA256: p.SHA256}
}

// UnknownModulesError reports a Go program whose modules are not known.
type UnknownModulesError struct {
	Path, SHA256 string
}

func (e *UnknownModulesError) Error() string {
	return fmt.Sprintf("the Go program %s (sha256:%s) has no list of its modules, and no package names its sources; "+
		"if it is one of this build, add its target to the programs of the image_sbom, else link it as the go command does", e.Path, e.SHA256)
}

// layouts returns the directories of OCI layouts, with a slash at the end.
func layouts(t tree) []string {
	var all []string
	for p := range t {
		if path.Base(p) == "oci-layout" {
			all = append(all, strings.TrimPrefix(path.Dir(p)+"/", "./"))
		}
	}
	return all
}

func isBlobOf(layouts []string, p string) bool {
	return slices.ContainsFunc(layouts, func(l string) bool { return strings.HasPrefix(p, l+"blobs/") })
}

// under returns the part of a tree that is in a directory, as a tree.
func (t tree) under(dir string) tree {
	if dir == "." {
		return t
	}
	sub := tree{}
	for p, f := range t {
		if rest, ok := strings.CutPrefix(p, dir+"/"); ok {
			sub[rest] = f
		}
	}
	return sub
}

// parseOS reads os-release(5).
func parseOS(text string) *OS {
	values := map[string]string{}
	for _, line := range strings.Split(text, "\n") {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			values[name] = strings.Trim(value, `"'`)
		}
	}
	if values["ID"] == "" {
		return nil
	}
	return &OS{ID: values["ID"], Name: values["PRETTY_NAME"], VersionID: values["VERSION_ID"], Codename: values["VERSION_CODENAME"]}
}
