package needs

import (
	"fmt"
	"go/ast"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const (
	// registriesVar holds the registries by field, configsFunc makes the images of them.
	registriesVar = "initRegistry"
	configsFunc   = "initImageConfigs"
)

// imageList is the tests' list of images.
type imageList struct {
	// byName has the images' full names.
	byName map[string]string
	// registries are the registries and paths that images are named with.
	registries []string
}

// images reads the list of images: assignments of the form configs[NAME] = Config{list.REGISTRY,
// "name", "tag"}.
func (s *source) images() (*imageList, error) {
	p, err := s.load(imagePackage)
	if err != nil {
		return nil, err
	}
	registries := map[string]string{}
	for _, d := range p.named[registriesVar] {
		ast.Inspect(d.node, func(n ast.Node) bool {
			if kv, ok := n.(*ast.KeyValueExpr); ok {
				if key, ok := kv.Key.(*ast.Ident); ok {
					if value, ok := stringValue(kv.Value); ok {
						registries[key.Name] = value
					}
				}
			}
			return true
		})
	}
	list := &imageList{byName: map[string]string{}, registries: slices.Sorted(maps.Values(registries))}
	for _, d := range p.named[configsFunc] {
		ast.Inspect(d.node, func(n ast.Node) bool {
			a, ok := n.(*ast.AssignStmt)
			if !ok || len(a.Lhs) != 1 || len(a.Rhs) != 1 {
				return true
			}
			index, ok := a.Lhs[0].(*ast.IndexExpr)
			if !ok {
				return true
			}
			name, ok := index.Index.(*ast.Ident)
			if !ok {
				return true
			}
			image, readErr := readConfig(a.Rhs[0], registries)
			if readErr != nil && err == nil {
				err = fmt.Errorf("%s: image %s: %w", s.position(a), name.Name, readErr)
			}
			list.byName[name.Name] = image
			return true
		})
	}
	if err == nil && len(list.byName) == 0 {
		err = fmt.Errorf("%s: %s has no images in the form that is known", imagePackage, configsFunc)
	}
	return list, err
}

// readConfig reads Config{list.REGISTRY, "name", "tag"}.
func readConfig(e ast.Expr, registries map[string]string) (string, error) {
	c, ok := e.(*ast.CompositeLit)
	if !ok || len(c.Elts) != 3 {
		return "", fmt.Errorf("is not made of registry, name and tag")
	}
	field, ok := c.Elts[0].(*ast.SelectorExpr)
	if !ok {
		return "", fmt.Errorf("its registry is not a field of the list of registries")
	}
	registry, ok := registries[field.Sel.Name]
	if !ok {
		return "", fmt.Errorf("registry %s has no name", field.Sel.Name)
	}
	name, ok1 := stringValue(c.Elts[1])
	tag, ok2 := stringValue(c.Elts[2])
	if !ok1 || !ok2 {
		return "", fmt.Errorf("its name and tag are not plain strings")
	}
	return registry + "/" + name + ":" + tag, nil
}

func stringValue(e ast.Expr) (string, bool) {
	l, ok := e.(*ast.BasicLit)
	if !ok || l.Kind != token.STRING {
		return "", false
	}
	value, err := strconv.Unquote(l.Value)
	return value, err == nil
}

// otherRegistries are those that images may come from besides the tests' own.
var otherRegistries = []string{"docker.io", "gcr.io", "ghcr.io", "mcr.microsoft.com", "quay.io"}

// isImage reports whether a string in the source is the name of an image. Without a registry it is
// not one that a cluster could start: specs which only talk to the API use such names.
func (l *imageList) isImage(s string) bool {
	if strings.ContainsAny(s, " \t\n%{") {
		return false
	}
	for _, r := range append(slices.Clone(otherRegistries), l.registries...) {
		if rest, ok := strings.CutPrefix(s, r+"/"); ok && rest != "" {
			return true
		}
	}
	return false
}

// manifests are the files that tests read, by their last element.
type manifests struct {
	files  fs.FS
	byBase map[string][]string
}

func indexManifests(files fs.FS) (*manifests, error) {
	m := &manifests{files: files, byBase: map[string][]string{}}
	err := fs.WalkDir(files, strings.TrimSuffix(root, "/"), func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		switch path.Ext(strings.TrimSuffix(name, ".in")) {
		case ".yaml", ".yml", ".json":
			m.byBase[path.Base(name)] = append(m.byBase[path.Base(name)], name)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("looking for manifests in the sources of e2e.test: %w", err)
	}
	return m, nil
}

// named returns the files that a string in the source may mean.
func (m *manifests) named(s string) []string {
	var files []string
	for _, name := range m.byBase[path.Base(s)] {
		if strings.HasSuffix("/"+name, "/"+strings.TrimPrefix(path.Clean(s), "/")) {
			files = append(files, name)
		}
	}
	return files
}

var (
	imageField = regexp.MustCompile(`(?m)^[\s-]*["']?image["']?\s*:\s*["']?([^\s"'{},]+)`)
	kindField  = regexp.MustCompile(`(?m)^[\s{]*["']?kind["']?\s*:`)
)

// imagesIn returns the images in the text of a manifest, YAML or JSON. Those that a template fills
// in are not among them: they come from the code. Nor is anything of a file that is no Kubernetes
// object.
func imagesIn(text []byte) (images []string) {
	if !kindField.Match(text) {
		return nil
	}
	for _, m := range imageField.FindAllSubmatch(text, -1) {
		images = append(images, string(m[1]))
	}
	return images
}
