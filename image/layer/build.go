package layer

import (
	"archive/tar"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/dind-cluster/dind-cluster/image/deb"
	"github.com/dind-cluster/dind-cluster/image/declare"
	"github.com/dind-cluster/dind-cluster/image/dpkg"
	"github.com/dind-cluster/dind-cluster/image/effects"
	"github.com/dind-cluster/dind-cluster/image/spool"
	"github.com/dind-cluster/dind-cluster/image/state"
	"github.com/dind-cluster/dind-cluster/image/tree"
)

// Layer is a built layer, to be written.
type Layer struct {
	Entries []*tree.Entry
	// State is for the layers above.
	State *state.State

	spool *spool.Spool
}

// Close frees the disk space of the layer's content.
func (l *Layer) Close() error { return l.spool.Close() }

// builder has the state of a build.
type builder struct {
	spec     *Spec
	spool    *spool.Spool
	below    *state.State
	tree     *tree.Tree
	declared declare.Set
	packages []*unpacked
	above    *state.State
}

// unpacked is a package whose files are in the spool.
type unpacked struct {
	*dpkg.Installed
	entries []*tree.Entry
}

// Build builds a layer. Close it after it has been written.
func Build(spec *Spec) (*Layer, error) {
	sp, err := spool.New()
	if err != nil {
		return nil, err
	}
	b := &builder{spec: spec, spool: sp}
	l, err := b.build()
	if err != nil {
		sp.Close()
		return nil, err
	}
	return l, nil
}

func (b *builder) build() (*Layer, error) {
	for _, step := range []func() error{
		b.readBelow,
		b.readDeclarations,
		b.unpackDebs,
		b.checkPackages,
		b.addPackages,
		b.addFiles,
		b.addTars,
		b.applyEffects,
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	if err := b.tree.Complete(); err != nil {
		return nil, err
	}
	b.above.Entries = b.tree.All()
	return &Layer{Entries: b.tree.Entries(), State: b.above, spool: b.spool}, nil
}

func (b *builder) readBelow() error {
	b.below = state.New()
	if b.spec.Below != "" {
		below, err := state.Read(b.spec.Below)
		if err != nil {
			return err
		}
		b.below = below
	}
	b.tree = tree.New(b.below.Entries)
	return nil
}

func (b *builder) readDeclarations() error {
	for _, path := range b.spec.Declarations {
		d, err := declare.Load(path)
		if err != nil {
			return err
		}
		b.declared = append(b.declared, d)
	}
	if exclude, include := b.declared.Patterns(); len(exclude)+len(include) == 0 {
		b.declared = append(b.declared, &declare.Declaration{Exclude: b.below.Exclude, Include: b.below.Include})
	}
	return nil
}

// unpackDebs reads all packages, several at once, and sorts them by name, so that their order in
// the spec makes no difference.
func (b *builder) unpackDebs() error {
	b.packages = make([]*unpacked, len(b.spec.Debs))
	errs := make([]error, len(b.spec.Debs))
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	var wg sync.WaitGroup
	for i, path := range b.spec.Debs {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			p, err := b.unpackDeb(path)
			if err != nil {
				errs[i] = fmt.Errorf("unpacking %s: %w", path, err)
			}
			b.packages[i] = p
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	slices.SortFunc(b.packages, func(a, b *unpacked) int { return strings.Compare(a.Name(), b.Name()) })
	for i, p := range b.packages {
		if i > 0 && b.packages[i-1].Name() == p.Name() {
			return fmt.Errorf("package %s is given twice, as versions %s and %s", p.Name(), b.packages[i-1].Control.Get("Version"), p.Control.Get("Version"))
		}
		if version, ok := b.below.Packages[p.Name()]; ok {
			return fmt.Errorf("package %s %s: version %s is in a layer below, and a layer cannot upgrade it", p.Name(), p.Control.Get("Version"), version)
		}
	}
	return nil
}

func (b *builder) checkPackages() error {
	packages := make([]*deb.Package, len(b.packages))
	for i, p := range b.packages {
		packages[i] = p.Package
	}
	return b.declared.Check(packages)
}

func (b *builder) addPackages() error {
	// Links come first, from the root down, so that what other packages have below a link (/lib/x)
	// is added to what it leads to (/usr/lib/x), whatever the packages' names are.
	var links, others []*tree.Entry
	for _, p := range b.packages {
		for _, e := range p.entries {
			if b.declared.Excluded(e.Path) {
				continue
			}
			if e.IsLink() {
				links = append(links, e)
			} else {
				others = append(others, e)
			}
		}
	}
	slices.SortStableFunc(links, func(a, b *tree.Entry) int {
		return strings.Count(a.Path, "/") - strings.Count(b.Path, "/")
	})
	var errs []error
	for _, e := range append(links, others...) {
		if err := b.add(e); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// add puts an entry into the tree, with the declared overrides and diversions.
func (b *builder) add(e *tree.Entry) error {
	for _, d := range b.declared {
		for _, n := range (declare.Set{d}).All() {
			for _, v := range n.Diversions {
				if strings.TrimPrefix(v.Path, "/") == e.Path && e.Source != packageSource(v.By) {
					e.Path = strings.TrimPrefix(v.To, "/")
				}
			}
		}
	}
	err := b.tree.Add(e)
	var conflict *tree.ConflictError
	if !errors.As(err, &conflict) {
		return err
	}
	winner := b.declared.Winner(conflict.Path)
	switch {
	case winner == "":
		return err
	case e.Source == winner || e.Source == packageSource(winner):
		return b.tree.Replace(e)
	case conflict.First.Source == winner || conflict.First.Source == packageSource(winner):
		return nil
	}
	return fmt.Errorf("%w\n(An override names %q, which is neither.)", err, winner)
}

func packageSource(name string) string { return "package " + name }

func (b *builder) applyEffects() error {
	sys := &effects.System{Tree: b.tree, Shared: maps.Clone(b.below.Shared), Units: b.below.Units}
	all := b.declared.All()
	installed := make([]*dpkg.Installed, len(b.packages))
	for i, p := range b.packages {
		installed[i] = p.Installed
	}
	if err := sys.Apply(all); err != nil {
		return err
	}
	var diversions []declare.Diversion
	for _, n := range all {
		diversions = append(diversions, n.Diversions...)
	}
	if err := dpkg.Register(b.tree, b.below, sys.Shared, installed, diversions); err != nil {
		return err
	}
	if err := b.sumUp(sys); err != nil || !b.above.Complete {
		return err
	}
	return dpkg.CheckRelations(sys.Shared[dpkg.StatusPath])
}

// sumUp computes the state for the layers above.
func (b *builder) sumUp(sys *effects.System) error {
	units, err := sys.Installable()
	if err != nil {
		return err
	}
	above := &state.State{Packages: maps.Clone(b.below.Packages), Shared: sys.Shared, Units: maps.Clone(b.below.Units)}
	maps.Copy(above.Units, units)
	for _, p := range b.packages {
		above.Packages[p.Name()] = p.Control.Get("Version")
	}
	above.Complete = b.below.Complete || slices.ContainsFunc(b.declared, func(d *declare.Declaration) bool { return d.Complete })
	above.Exclude, above.Include = b.declared.Patterns()
	b.above = above
	return nil
}

// inode names the group of a package's hard links to one file.
func inode(source, path string) string { return source + ":" + path }

func modeBits(hdr *tar.Header) int64 { return hdr.Mode & 0o7777 }
