package needs

import (
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
)

const (
	// registriesVar holds the registries by field, configsFunc makes the images of them.
	registriesVar = "initRegistry"
	configsFunc   = "initImageConfigs"
)

// The lines of both, as gofmt has them.
var (
	registryLine = regexp.MustCompile(`(?m)^\t+(\w+):\s+"([^"]+)",$`)
	configLine   = regexp.MustCompile(`(?m)^\tconfigs\[(\w+)\] = (.+)$`)
	config       = regexp.MustCompile(`^Config\{list\.(\w+), "([^"]+)", "([^"]+)"\}$`)
)

// imageList is the tests' list of images.
type imageList struct {
	// byName has the images' full names.
	byName map[string]string
	// registries are the registries and paths that images are named with.
	registries []string
}

// images reads the list of images from manifest.go.
func (s *source) images() (*imageList, error) {
	text, err := fs.ReadFile(s.files, imagePackage+"/manifest.go")
	if err != nil {
		return nil, fmt.Errorf("reading the sources of e2e.test: %w", err)
	}
	registries := map[string]string{}
	for _, m := range registryLine.FindAllStringSubmatch(string(text), -1) {
		registries[m[1]] = m[2]
	}
	list := &imageList{map[string]string{}, slices.Sorted(maps.Values(registries))}
	for _, m := range configLine.FindAllStringSubmatch(string(text), -1) {
		parts := config.FindStringSubmatch(m[2])
		if parts == nil || registries[parts[1]] == "" {
			return nil, fmt.Errorf("%s: image %s is not made of registry, name and tag", imagePackage, m[1])
		}
		list.byName[m[1]] = registries[parts[1]] + "/" + parts[2] + ":" + parts[3]
	}
	if len(list.byName) == 0 {
		return nil, fmt.Errorf("%s has no images in the form that is known", imagePackage)
	}
	return list, nil
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
