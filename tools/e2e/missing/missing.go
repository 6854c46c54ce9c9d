// Package missing finds out, before a run, what the selected specs need and the cluster does not
// have: images that its nodes cannot pull without a network, and features that the machine's kernel
// was built without. A spec does not say so soon: most wait five minutes for a pod whose image does
// not come.
package missing

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/distribution/reference"

	"github.com/dind-cluster/dind-cluster/tools/e2e/results"
)

// Thing is something that is missing.
type Thing struct {
	// What is it: "image registry.k8s.io/…", "kernel feature …".
	What string
	// Specs are the full names of those that need it.
	Specs []string
}

// Table is which images specs need. It is made when the project is built, from the source of
// e2e.test: see e2e/images/needs.
type Table struct {
	// Version is that of e2e.test: v1.37.2.
	Version string `json:"version"`
	// Images are the names, complete with registry and tag.
	Images []string `json:"images"`
	// Specs are the numbers of the images that a spec may use, by its full name.
	Specs map[string][]int `json:"specs"`
}

// NewTable makes a table of the images by spec.
func NewTable(version string, specs map[string][]string) *Table {
	t := &Table{Version: version, Specs: make(map[string][]int, len(specs))}
	for _, images := range specs {
		t.Images = append(t.Images, images...)
	}
	slices.Sort(t.Images)
	t.Images = slices.Compact(t.Images)
	for spec, images := range specs {
		for _, image := range images {
			i, _ := slices.BinarySearch(t.Images, image)
			t.Specs[spec] = append(t.Specs[spec], i)
		}
	}
	return t
}

// ReadTable reads a table from a file.
func ReadTable(path string) (*Table, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var t Table
	if err := json.Unmarshal(data, &t); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for spec, images := range t.Specs {
		for _, i := range images {
			if i < 0 || i >= len(t.Images) {
				return nil, fmt.Errorf("%s: %q has image %d of %d", path, spec, i, len(t.Images))
			}
		}
	}
	return &t, nil
}

// Write writes the table as ReadTable reads it.
func (t *Table) Write(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(t)
}

// Missing returns the images that specs need and nodes do not have, sorted by name. There are two
// sources, each a list of names: what will be loaded, and, only asked if that does not do, what the
// nodes have.
func (t *Table) Missing(ctx context.Context, specs []results.Planned, loaded []string, nodes func(context.Context) ([]string, error)) ([]Thing, error) {
	needs := map[string][]string{}
	for _, s := range specs {
		if otherProvider(s.Name) {
			continue
		}
		for _, i := range t.Specs[s.Name] {
			needs[t.Images[i]] = append(needs[t.Images[i]], s.Name)
		}
	}
	without := func(have []string) {
		set := map[string]bool{}
		for _, h := range have {
			set[normalise(h)] = true
		}
		for image := range needs {
			if set[normalise(image)] {
				delete(needs, image)
			}
		}
	}
	without(loaded)
	if len(needs) > 0 {
		have, err := nodes(ctx)
		if err != nil {
			return nil, fmt.Errorf("asking the nodes for their images: %w", err)
		}
		without(have)
	}
	var things []Thing
	for image, specs := range needs {
		things = append(things, Thing{"image " + image, specs})
	}
	slices.SortFunc(things, func(a, b Thing) int { return strings.Compare(a.What, b.What) })
	return things, nil
}

var provider = regexp.MustCompile(`\[Provider:([^\]]*)\]`)

// otherProvider reports whether a spec skips itself because it is for clouds only: all run with the
// provider "skeleton".
func otherProvider(spec string) bool {
	for _, m := range provider.FindAllStringSubmatch(spec, -1) {
		if !slices.Contains(strings.Split(m[1], ","), "skeleton") {
			return true
		}
	}
	return false
}

// normalise completes a name as the container runtime does: nginx is
// docker.io/library/nginx:latest.
func normalise(image string) string {
	ref, err := reference.ParseDockerRef(image)
	if err != nil {
		return image
	}
	return ref.String()
}
