// Package contents makes an inventory of an image: its Debian packages, its programs with the modules they are made of,
// and the images that lie in it as files, with inventories of their own.
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
	// Name is the image's name with its tag, as far as anything says so.
	Name string
	// Path is where the image lies in the outer one, absolute; empty for the outermost.
	Path string
	// Digest is that of the manifest, or, for an archive of docker save, which has none, the image's ID.
	Digest v1.Hash
	IsID   bool
	// Created is when the image says it was made.
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
	// CreatedBy is what the image's history says of it.
	CreatedBy string
}

// OS is what os-release(5) says.
type OS struct {
	ID, Name, VersionID, Codename string
}

// Program is an ELF program or library. Of those that Debian's packages brought only Go programs are listed.
type Program struct {
	// Path is absolute.
	Path   string
	SHA256 string
	// Go has the modules; nil in a program that is not made with Go.
	Go *debug.BuildInfo
	// Package is what the program belongs to; nil if it is no package's.
	Package *Package
}

// Options say what an image does not.
type Options struct {
	// Modules are the module lists of programs that carry none, by the program's SHA-256 in hexadecimal.
	Modules map[string]*debug.BuildInfo
}

// Read makes the inventory of an image whose layers have been scanned. The name is the image's with its tag.
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

// describe takes over what config and manifest say.
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

// fill adds what the image's files tell.
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
			// It is an inner image's.
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
	// Debian's Go programs are built without modules; instead, the package names the source packages of all that is in it.
	if p.Package != nil && len(p.Package.BuiltUsing) > 0 {
		return nil
	}
	return &UnknownModulesError{Path: p.Path, SHA256: p.SHA256}
}

// UnknownModulesError says that nobody knows what a Go program is made of.
type UnknownModulesError struct {
	Path, SHA256 string
}

func (e *UnknownModulesError) Error() string {
	return fmt.Sprintf("the Go program %s (sha256:%s) has no list of its modules, and no package names its sources; "+
		"if it is one of this build, add its target to the programs of the image_sbom, else link it as the go command does", e.Path, e.SHA256)
}

// layouts are the folders of OCI layouts, with a slash at the end.
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

// under is the part of a tree that is in a folder, as a tree.
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
