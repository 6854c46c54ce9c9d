package needs

// walk follows mentions from the selected specs. It goes breadth first, so that paths are short.
type walk struct {
	*analysis
	queue []visit
	seen  map[*decl]bool
	found map[string]*step
}

// visit is a declaration to walk through.
type visit struct {
	decl *decl
	step *step
}

func (w *walk) run() {
	// First the declarations in which a selected spec stands, then what always runs.
	for _, p := range w.sorted() {
		for _, d := range p.decls {
			if l, ok := w.selectedIn(d); ok {
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
		for _, p := range w.part(v.decl).run(w.selected) {
			w.visit(p, v.step)
		}
	}
}

// selectedIn returns the first line of a declaration at which a selected spec or container begins.
func (w *walk) selectedIn(d *decl) (location, bool) {
	first, last := w.fset.Position(d.node.Pos()), w.fset.Position(d.node.End())
	for line := first.Line; line <= last.Line; line++ {
		if l := (location{first.Filename, line}); w.selected[l] {
			return l, true
		}
	}
	return location{}, false
}

// add queues a declaration, once.
func (w *walk) add(d *decl, from *step) {
	if !w.seen[d] && !w.cut(d) {
		w.seen[d] = true
		w.queue = append(w.queue, visit{d, from})
	}
}

// visit walks through a part of a declaration.
func (w *walk) visit(p *part, from *step) {
	for _, m := range p.mentions {
		at := &step{from: from, where: m.where}
		if m.decl != nil {
			to := &step{from: at, what: m.name, where: w.position(m.decl.node)}
			w.add(m.decl, to)
			for _, method := range m.decl.methods() {
				w.add(method, &step{from: to, what: method.name, where: w.position(method.node)})
			}
			continue
		}
		if m.manifest != nil {
			at = &step{from: at, what: "manifest", where: *m.manifest}
		}
		if w.found[m.image] == nil {
			w.found[m.image] = at
		}
	}
}
