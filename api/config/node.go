package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/internal/strictyaml"
)

// ReadNode returns the node that a file describes: one element of the field nodes, a worker if it does not say. The error has
// one line for each mistake, as that of Read.
func ReadNode(name string, data []byte) (v1alpha1.Node, error) {
	if len(data) > MaxSize {
		return v1alpha1.Node{}, fmt.Errorf("%s: %d bytes are no description of a node: want at most %d", name, len(data), MaxSize)
	}
	doc, err := strictyaml.Parse(data)
	if err != nil {
		return v1alpha1.Node{}, fmt.Errorf("%s: %w", name, err)
	}
	n := v1alpha1.Node{Role: v1alpha1.RoleWorker}
	all := mistakes(doc.Decode(&n))
	c := v1alpha1.Default()
	c.Nodes = []v1alpha1.Node{{Role: v1alpha1.RoleControlPlane}, n}
	for _, m := range ofNodes(c.Validate(), 1) {
		if !slices.ContainsFunc(all, func(o *strictyaml.Error) bool { return o.Path == m.Path }) {
			all = append(all, m)
		}
	}
	slices.SortStableFunc(all, func(a, b *strictyaml.Error) int { return line(doc, a) - line(doc, b) })
	var errs []error
	for _, m := range all {
		m.Line = line(doc, m)
		errs = append(errs, fmt.Errorf("%s: %w", name, m))
	}
	return n, errors.Join(errs...)
}

// Mistakes returns what Cluster.Validate finds in the nodes from the given index on, with the fields' paths in the node.
func Mistakes(err error, from int) error {
	var errs []error
	for _, m := range ofNodes(err, from) {
		errs = append(errs, m)
	}
	return errors.Join(errs...)
}

// ofNodes returns the mistakes in the nodes from the given index on, and those that are in no node.
func ofNodes(err error, from int) []*strictyaml.Error {
	var out []*strictyaml.Error
	for _, m := range mistakes(err) {
		index, field := 0, ""
		if n, _ := fmt.Sscanf(m.Path, "nodes[%d]", &index); n == 0 {
			out = append(out, m)
		} else if index >= from {
			_, field, _ = strings.Cut(m.Path, "]")
			m.Path = strings.TrimPrefix(field, ".")
			out = append(out, m)
		}
	}
	return out
}
