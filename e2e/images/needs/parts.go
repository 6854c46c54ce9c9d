package needs

import (
	"fmt"
	"go/ast"
	"go/token"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strconv"
)

// part is a declaration, or something in it that is not always run with it: a call at which a spec
// or a container of specs begins, or a function that is the value of a local variable. Those are
// parts of their own and not in the part around them.
type part struct {
	// locations are the lines of the call at which a spec or container begins.
	locations []location
	// local is the name of the local variable.
	local string
	// names are all plain names in the part: those of local variables that it uses are among them.
	names    map[string]bool
	mentions []mention
	parts    []*part
}

// run returns those parts of a declaration, itself first, that run when the specs and containers at
// some locations do.
func (p *part) run(selected map[location]bool) (run []*part) {
	names := map[string]bool{}
	var locals []*part
	var add func(*part)
	add = func(p *part) {
		run = append(run, p)
		maps.Copy(names, p.names)
		for _, q := range p.parts {
			switch {
			case q.holds(selected):
				add(q)
			case q.local != "":
				locals = append(locals, q)
			}
		}
	}
	add(p)
	for more := true; more; {
		more = false
		for i, q := range locals {
			if q != nil && names[q.local] {
				locals[i], more = nil, true
				add(q)
			}
		}
	}
	return run
}

// holds reports whether a part begins at one of the locations, or, if it is a local function,
// declares what does.
func (p *part) holds(locations map[location]bool) bool {
	for _, l := range p.locations {
		if locations[l] {
			return true
		}
	}
	return p.local != "" && slices.ContainsFunc(p.parts, func(q *part) bool { return q.holds(locations) })
}

// mention is a place at which the source names an image, or a declaration of ours.
type mention struct {
	// image is empty if decl is not nil.
	image string
	decl  *decl
}

// analysis is what specs and sources have to do with each other.
type analysis struct {
	*source
	*specs
	images    *imageList
	manifests *manifests
	cuts      map[string]bool // whether met, by function
	parts     map[*decl]*part
	// withoutSpecs is what declarations mention when none of the specs in them runs.
	withoutSpecs map[*decl][]mention
	// starts are the declarations in which a spec or container begins, by its line.
	starts map[location][]*decl
	// met are the locations at which there is a call.
	met  map[location]bool
	errs []error
}

func newAnalysis(sources fs.FS, report io.Reader, cuts []Cut) (*analysis, error) {
	specs, err := readReport(report)
	if err != nil {
		return nil, err
	}
	src, err := load(sources)
	if err != nil {
		return nil, err
	}
	images, err := src.images()
	if err != nil {
		return nil, err
	}
	manifests, err := indexManifests(sources)
	if err != nil {
		return nil, err
	}
	a := &analysis{
		source: src, specs: specs, images: images, manifests: manifests,
		cuts: map[string]bool{}, parts: map[*decl]*part{}, withoutSpecs: map[*decl][]mention{},
		starts: map[location][]*decl{}, met: map[location]bool{},
	}
	for _, c := range cuts {
		a.cuts[c.Func] = false
	}
	for _, p := range a.sorted() {
		for _, d := range p.decls {
			first, last := a.fset.Position(d.node.Pos()), a.fset.Position(d.node.End())
			for line := first.Line; line <= last.Line; line++ {
				if l := (location{first.Filename, line}); a.located[l] {
					a.starts[l] = append(a.starts[l], d)
				}
			}
		}
	}
	return a, nil
}

// cut reports whether a declaration is not to be followed.
func (a *analysis) cut(d *decl) bool {
	name := d.file.pkg.folder + "." + d.name
	if _, ok := a.cuts[name]; ok {
		a.cuts[name] = true
		return true
	}
	return false
}

// part returns what a declaration mentions.
func (a *analysis) part(d *decl) *part {
	p := a.parts[d]
	if p == nil {
		p = &part{names: map[string]bool{}}
		a.parts[d] = p
		a.inspect(d.file, d.node, p)
	}
	return p
}

func (a *analysis) inspect(f *file, node ast.Node, to *part) {
	ast.Inspect(node, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			if n == node {
				break
			}
			if locations := a.begins(n); len(locations) > 0 {
				p := &part{locations: locations, names: map[string]bool{}}
				to.parts = append(to.parts, p)
				a.inspect(f, n, p)
				return false
			}
		case *ast.AssignStmt:
			if name, value := localFunc(n); value != nil {
				p := &part{local: name, names: map[string]bool{}}
				to.parts = append(to.parts, p)
				a.inspect(f, value, p)
				return false
			}
		case *ast.SelectorExpr:
			x, ok := n.X.(*ast.Ident)
			if !ok {
				break
			}
			if folder, ok := f.imports[x.Name]; ok {
				a.mention(to, a.packages[folder], n.Sel.Name)
				return false
			}
		case *ast.Ident:
			to.names[n.Name] = true
			// A field or a local variable may have the name too. That costs nothing but a needless
			// visit.
			a.mention(to, f.pkg, n.Name)
			for _, folder := range f.dots {
				a.mention(to, a.packages[folder], n.Name)
			}
		case *ast.BasicLit:
			if n.Kind == token.STRING {
				if value, err := strconv.Unquote(n.Value); err == nil {
					a.text(to, value)
				}
			}
		}
		return true
	})
}

// localFunc returns the name and the value of a statement that makes a function the value of a new
// local variable.
func localFunc(n *ast.AssignStmt) (string, *ast.FuncLit) {
	if n.Tok != token.DEFINE || len(n.Lhs) != 1 || len(n.Rhs) != 1 {
		return "", nil
	}
	name, ok := n.Lhs[0].(*ast.Ident)
	value, isFunc := n.Rhs[0].(*ast.FuncLit)
	if !ok || !isFunc {
		return "", nil
	}
	return name.Name, value
}

// begins returns the lines of a call at which a spec or container begins.
func (a *analysis) begins(n *ast.CallExpr) (locations []location) {
	first, last := a.fset.Position(n.Pos()), a.fset.Position(n.Lparen)
	for line := first.Line; line <= last.Line; line++ {
		if l := (location{first.Filename, line}); a.located[l] {
			locations = append(locations, l)
			a.met[l] = true
		}
	}
	return locations
}

// mention adds what a name of a package stands for.
func (a *analysis) mention(to *part, p *pkg, name string) {
	if p.folder == imagePackage {
		if image, ok := a.images.byName[name]; ok {
			to.mentions = append(to.mentions, mention{image: image})
			return
		}
	}
	for _, d := range p.named[name] {
		if p.folder == imagePackage && (d.name == configsFunc || d.name == registriesVar) {
			continue // They mention all images and registries.
		}
		to.mentions = append(to.mentions, mention{decl: d})
	}
}

// methods are those of a type, which may be called by any code that has a value of it, also through
// an interface that is declared elsewhere.
func (d *decl) methods() []*decl {
	if t, ok := d.node.(*ast.TypeSpec); ok {
		return d.file.pkg.methods[t.Name.Name]
	}
	return nil
}

// text looks at a string of the source: it may name an image, or a manifest with images in it.
func (a *analysis) text(to *part, value string) {
	if a.images.isImage(value) {
		to.mentions = append(to.mentions, mention{image: value})
		return
	}
	for _, name := range a.manifests.named(value) {
		content, err := fs.ReadFile(a.files, name)
		if err != nil {
			a.errs = append(a.errs, err)
			continue
		}
		for _, image := range imagesIn(content) {
			to.mentions = append(to.mentions, mention{image: image})
		}
	}
}

// check finds what shows that report, sources and cuts do not belong together, once all that runs
// with the specs and containers at some locations has been looked at.
func (a *analysis) check(locations map[location]bool) []error {
	errs := a.errs
	for l := range locations {
		if !a.met[l] {
			errs = append(errs, fmt.Errorf("%s: the dry run has a spec or container here, but the source has no call: they are of different versions", l))
		}
	}
	for name, met := range a.cuts {
		if !met {
			errs = append(errs, fmt.Errorf("no spec mentions %s: remove it from the cuts", name))
		}
	}
	return errs
}
