// Package config reads the configuration file of a cluster.
package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/dind-cluster/dind-cluster/api/kind"
	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/internal/strictyaml"
	"sigs.k8s.io/yaml"
)

// MaxSize bounds a file, in bytes.
const MaxSize = 1 << 20

// maxMistakes bounds how many an error names.
const maxMistakes = 50

// Read returns the cluster that a file describes, in any of the formats that there are: our own, and kind's. The error has one
// line for each mistake in the file, with the file's name, the line and the field in front.
func Read(name string, data []byte) (v1alpha1.Cluster, error) {
	c, _, err := ReadIn("", name, data)
	return c, err
}

// ReadIn is Read for a file of a user who works in a directory: host paths that are not absolute
// start there, unless it is empty. Warnings say, with name and line in front, what of the file is
// left away.
func ReadIn(dir, name string, data []byte) (c v1alpha1.Cluster, warnings []string, err error) {
	if len(data) > MaxSize {
		return v1alpha1.Cluster{}, nil, fmt.Errorf("%s: %d bytes are no configuration of a cluster: want at most %d", name, len(data), MaxSize)
	}
	doc, err := strictyaml.Parse(data)
	if err != nil {
		return v1alpha1.Cluster{}, nil, fmt.Errorf("%s: %w", name, err)
	}
	c = v1alpha1.Default()
	var left []*strictyaml.Error
	switch version := doc.String("apiVersion"); version {
	case v1alpha1.APIVersion:
		err = doc.Decode(&c)
	case kind.APIVersion:
		c, left, err = kind.Convert(doc)
	case "":
		err = &strictyaml.Error{Path: "apiVersion", Text: fmt.Sprintf("is missing: want %s or %s", v1alpha1.APIVersion, kind.APIVersion)}
	default:
		err = &strictyaml.Error{Path: "apiVersion", Text: fmt.Sprintf("%q: want %s or %s", version, v1alpha1.APIVersion, kind.APIVersion)}
	}
	for _, w := range left {
		w.Line = line(doc, w)
		warnings = append(warnings, fmt.Sprintf("%s: %v", name, w))
	}
	for _, n := range c.Nodes {
		for i, m := range n.ExtraMounts {
			if dir != "" && m.HostPath != "" && !filepath.IsAbs(m.HostPath) {
				n.ExtraMounts[i].HostPath = filepath.Join(dir, m.HostPath)
			}
		}
	}
	for i, m := range c.Manifests {
		if dir != "" && m.HostPath != "" && !filepath.IsAbs(m.HostPath) {
			c.Manifests[i].HostPath = filepath.Join(dir, m.HostPath)
		}
	}
	// Fields that could not be read have their defaults, so that all others can be checked at the same time.
	all, known := mistakes(err), map[string]bool{}
	for _, m := range all {
		known[m.Path] = true
	}
	more := mistakes(c.Validate())
	if doc.String("kind") == "" {
		more = append(more, &strictyaml.Error{Path: "kind", Text: "is missing: want " + v1alpha1.Kind})
	}
	for _, m := range more {
		if !known[m.Path] {
			all = append(all, m)
		}
	}
	if len(all) == 0 {
		return c, warnings, nil
	}
	slices.SortStableFunc(all, func(a, b *strictyaml.Error) int { return line(doc, a) - line(doc, b) })
	var errs []error
	for i, m := range all {
		if i == maxMistakes {
			errs = append(errs, fmt.Errorf("%s: and %d more", name, len(all)-i))
			break
		}
		m.Line = line(doc, m)
		errs = append(errs, fmt.Errorf("%s: %w", name, m))
	}
	return v1alpha1.Cluster{}, warnings, errors.Join(errs...)
}

func line(doc *strictyaml.Document, e *strictyaml.Error) int {
	if e.Line > 0 {
		return e.Line
	}
	return doc.Line(e.Path)
}

// mistakes takes apart what was joined.
func mistakes(err error) []*strictyaml.Error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var out []*strictyaml.Error
		for _, e := range joined.Unwrap() {
			out = append(out, mistakes(e)...)
		}
		return out
	}
	var one *strictyaml.Error
	if !errors.As(err, &one) {
		one = &strictyaml.Error{Text: err.Error()}
	}
	return []*strictyaml.Error{one}
}

// Write returns a cluster as a file that Read takes, with everything in it that was assumed.
func Write(c v1alpha1.Cluster) ([]byte, error) {
	data, err := yaml.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("writing the configuration: %w", err)
	}
	return data, nil
}
