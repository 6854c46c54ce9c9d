package needs

import (
	"errors"
	"fmt"
	"go/ast"
	"go/token"
	"io/fs"
	"strconv"
)

// walk follows mentions from the selected specs.
type walk struct {
	*source
	specs     *specs
	images    *imageList
	manifests *manifests
	cuts      map[string]bool // whether met, by function
	queue     []visit
	seen      map[*decl]bool
	// met are the selected locations at which there was a call.
	met   map[location]bool
	found map[string]*step
	errs  []error
}

// visit is a declaration to walk through.
type visit struct {
	decl *decl
	step *step
}

func newWalk(s *source, specs *specs, images *imageList, manifests *manifests, cuts []Cut) *walk {
	w := &walk{
		source: s, specs: specs, images: images, manifests: manifests,
		cuts: map[string]bool{}, seen: map[*decl]bool{}, met: map[location]bool{}, found: map[string]*step{},
	}
	for _, c := range cuts {
		w.cuts[c.Func] = false
	}
	return w
}

func (w *walk) run() error {
	// Breadth first, so that paths are short: first the declarations in which a selected spec stands, then what always runs.
	for _, p := range w.sorted() {
		for _, d := range p.decls {
			if l, ok := w.selectedIn(d.node); ok {
				w.add(d, &step{what: "spec", where: l})
			}
		}
	}
	for _, p := range w.sorted() {
		for _, d := range p.inits {
			w.add(d, &step{what: "init", where: w.position(d.node)})
		}
	}
	for len(w.queue) > 0 {
		v := w.queue[0]
		w.queue = w.queue[1:]
		w.visit(v)
	}
	for l := range w.specs.selected {
		if !w.met[l] {
			w.errs = append(w.errs, fmt.Errorf("%s: the dry run has a spec or container here, but the source has no call: they are of different versions", l))
		}
	}
	for name, met := range w.cuts {
		if !met {
			w.errs = append(w.errs, fmt.Errorf("no selected spec mentions %s: remove it from the cuts", name))
		}
	}
	return errors.Join(w.errs...)
}

// selectedIn returns the first line of a declaration at which a selected spec or container begins.
func (w *walk) selectedIn(n ast.Node) (location, bool) {
	first, last := w.fset.Position(n.Pos()), w.fset.Position(n.End())
	for line := first.Line; line <= last.Line; line++ {
		if l := (location{first.Filename, line}); w.specs.selected[l] {
			return l, true
		}
	}
	return location{}, false
}

// add queues a declaration, once.
func (w *walk) add(d *decl, from *step) {
	if w.seen[d] {
		return
	}
	name := d.file.pkg.folder + "." + d.name
	if _, ok := w.cuts[name]; ok {
		w.cuts[name] = true
		return
	}
	w.seen[d] = true
	w.queue = append(w.queue, visit{d, from})
}

// mention queues what a name of a package stands for.
func (w *walk) mention(p *pkg, name string, from *step) {
	if p.folder == imagePackage {
		if image, ok := w.images.byName[name]; ok {
			w.use(image, from)
			return
		}
	}
	for _, d := range p.named[name] {
		if p.folder == imagePackage && (d.name == configsFunc || d.name == registriesVar) {
			continue // They mention all images and registries.
		}
		to := &step{from: from, what: name, where: w.position(d.node)}
		w.add(d, to)
		if _, ok := d.node.(*ast.TypeSpec); ok {
			// Whoever has the value may call its methods, also through an interface that is declared elsewhere.
			for _, m := range p.methods[name] {
				w.add(m, &step{from: to, what: m.name, where: w.position(m.node)})
			}
		}
	}
}

func (w *walk) use(image string, from *step) {
	if w.found[image] == nil {
		w.found[image] = from
	}
}

// visit walks through a declaration, leaving out the specs and containers in it that are not selected.
func (w *walk) visit(v visit) {
	f := v.decl.file
	ast.Inspect(v.decl.node, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			return w.call(n)
		case *ast.SelectorExpr:
			x, ok := n.X.(*ast.Ident)
			if !ok {
				break
			}
			if folder, ok := f.imports[x.Name]; ok {
				w.mention(w.packages[folder], n.Sel.Name, w.at(v.step, n))
				return false
			}
		case *ast.Ident:
			// A field or a local variable may have the name too. That costs nothing but a needless visit.
			w.mention(f.pkg, n.Name, w.at(v.step, n))
			for _, folder := range f.dots {
				w.mention(w.packages[folder], n.Name, w.at(v.step, n))
			}
		case *ast.BasicLit:
			if n.Kind == token.STRING {
				if value, err := strconv.Unquote(n.Value); err == nil {
					w.text(value, w.at(v.step, n))
				}
			}
		}
		return true
	})
}

// at is the step to the line of a node.
func (w *walk) at(from *step, n ast.Node) *step {
	return &step{from: from, where: w.position(n)}
}

// call tells whether a call is to be walked through.
func (w *walk) call(n *ast.CallExpr) bool {
	first, last := w.fset.Position(n.Pos()), w.fset.Position(n.Lparen)
	selected, other := false, false
	for line := first.Line; line <= last.Line; line++ {
		l := location{first.Filename, line}
		if w.specs.selected[l] {
			selected, w.met[l] = true, true
		}
		other = other || w.specs.others[l]
	}
	return selected || !other
}

// text looks at a string of the source: it may name an image, or a manifest with images in it.
func (w *walk) text(value string, from *step) {
	if w.images.isImage(value) {
		w.use(value, from)
		return
	}
	for _, name := range w.manifests.named(value) {
		content, err := fs.ReadFile(w.files, name)
		if err != nil {
			w.errs = append(w.errs, err)
			continue
		}
		for _, i := range imagesIn(content) {
			w.use(i.image, &step{from: from, what: "manifest", where: location{name, i.line}})
		}
	}
}
