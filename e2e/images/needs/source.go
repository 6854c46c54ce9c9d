package needs

import (
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

const (
	module = "k8s.io/kubernetes"
	// root is the directory of all tests. Nothing outside it names test images.
	root = "test/"
	// program is the package of e2e.test, which is a test itself.
	program = "test/e2e"
	// imagePackage has the names of images.
	imagePackage = "test/utils/image"
)

// source is e2e.test's own packages, by directory.
type source struct {
	files    fs.FS
	fset     *token.FileSet
	packages map[string]*pkg
}

// pkg is a package: its declarations by name.
type pkg struct {
	folder string
	name   string
	decls  []*decl
	// named are package-level functions, types, variables and constants.
	named map[string][]*decl
	// methods are those of a type, by its name.
	methods map[string][]*decl
}

// file is what a name in one file means.
type file struct {
	pkg *pkg
	// imports are the directories of imported packages of ours, by the name in this file.
	imports map[string]string
	// dots are those that are imported without a name.
	dots []string
}

// decl is a function, or one line of a declaration.
type decl struct {
	node ast.Node
	file *file
	// name is Function, Type.Method, or the first variable.
	name string
}

// load reads e2e.test's packages.
func load(files fs.FS) (*source, error) {
	s := &source{files: files, fset: token.NewFileSet(), packages: map[string]*pkg{}}
	if _, err := s.load(program); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *source) load(folder string) (*pkg, error) {
	if p, ok := s.packages[folder]; ok {
		return p, nil
	}
	p := &pkg{folder: folder, named: map[string][]*decl{}, methods: map[string][]*decl{}}
	s.packages[folder] = p
	entries, err := fs.ReadDir(s.files, folder)
	if err != nil {
		return nil, fmt.Errorf("reading the sources of e2e.test: %w", err)
	}
	// As the shipped program is built.
	target := build.Context{
		GOOS: "linux", GOARCH: "amd64", Compiler: "gc", ReleaseTags: build.Default.ReleaseTags,
		JoinPath: path.Join,
		OpenFile: func(name string) (io.ReadCloser, error) { return s.files.Open(name) },
	}
	for _, e := range entries {
		name := e.Name()
		if e.IsDir() || path.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") && folder != program {
			continue
		}
		full := path.Join(folder, name)
		if ok, err := target.MatchFile(folder, name); err != nil {
			return nil, fmt.Errorf("reading the sources of e2e.test: %s: %w", full, err)
		} else if !ok {
			continue
		}
		text, err := fs.ReadFile(s.files, full)
		if err != nil {
			return nil, fmt.Errorf("reading the sources of e2e.test: %w", err)
		}
		syntax, err := parser.ParseFile(s.fset, full, text, parser.SkipObjectResolution)
		if err != nil {
			return nil, fmt.Errorf("reading the sources of e2e.test: %w", err)
		}
		p.name = syntax.Name.Name
		if err := s.add(p, syntax); err != nil {
			return nil, err
		}
	}
	if p.name == "" {
		return nil, fmt.Errorf("reading the sources of e2e.test: %s has no Go file for linux/amd64", folder)
	}
	return p, nil
}

// add adds a file's declarations, and the packages that it imports.
func (s *source) add(p *pkg, syntax *ast.File) error {
	f := &file{pkg: p, imports: map[string]string{}}
	for _, spec := range syntax.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return fmt.Errorf("%s: %w", s.position(spec), err)
		}
		folder, ok := strings.CutPrefix(imported, module+"/")
		if !ok || !strings.HasPrefix(folder, root) {
			continue
		}
		q, err := s.load(folder)
		if err != nil {
			return err
		}
		switch {
		case spec.Name == nil:
			f.imports[q.name] = folder
		case spec.Name.Name == ".":
			f.dots = append(f.dots, folder)
		default:
			f.imports[spec.Name.Name] = folder
		}
	}
	for _, d := range syntax.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			p.addFunc(&decl{node: d, file: f, name: d.Name.Name}, d)
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				p.addSpec(f, spec)
			}
		}
	}
	return nil
}

func (p *pkg) addFunc(d *decl, syntax *ast.FuncDecl) {
	p.decls = append(p.decls, d)
	switch {
	case syntax.Recv != nil && len(syntax.Recv.List) == 1:
		receiver := typeName(syntax.Recv.List[0].Type)
		p.methods[receiver] = append(p.methods[receiver], d)
		d.name = receiver + "." + d.name
	case d.name == "init": // cannot be mentioned
	default:
		p.named[d.name] = append(p.named[d.name], d)
	}
}

func (p *pkg) addSpec(f *file, spec ast.Spec) {
	var names []*ast.Ident
	switch spec := spec.(type) {
	case *ast.TypeSpec:
		names = []*ast.Ident{spec.Name}
	case *ast.ValueSpec:
		names = spec.Names
	default:
		return
	}
	d := &decl{node: spec, file: f, name: names[0].Name}
	p.decls = append(p.decls, d)
	for _, n := range names {
		// A variable without a name cannot be mentioned. Specs are declared with them.
		if n.Name != "_" {
			p.named[n.Name] = append(p.named[n.Name], d)
		}
	}
}

// typeName is the name of a method's receiver: T, *T, T[P].
func typeName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.StarExpr:
		return typeName(e.X)
	case *ast.ParenExpr:
		return typeName(e.X)
	case *ast.IndexExpr:
		return typeName(e.X)
	case *ast.IndexListExpr:
		return typeName(e.X)
	}
	return ""
}

func (s *source) position(n ast.Node) location {
	p := s.fset.Position(n.Pos())
	return location{p.Filename, p.Line}
}

// sorted returns the packages in the order of their directories.
func (s *source) sorted() []*pkg {
	var all []*pkg
	for _, p := range s.packages {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *pkg) int { return strings.Compare(a.folder, b.folder) })
	return all
}
