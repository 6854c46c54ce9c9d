// Package forward connects the Docker host with ports in a cluster.
package forward

import (
	"fmt"
	"slices"
	"strings"
)

// Target is a port of something in the cluster.
type Target struct {
	// Kind is one of Kinds.
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	// Port is a number, or the name of a port of a service or a container.
	Port string `json:"port"`
	// Look only finds out the port's number: the connection brings it, and ends.
	Look bool `json:"look,omitempty"`
}

// Kinds are those that have ports.
var Kinds = []string{"pod", "service", "deployment", "statefulset", "daemonset", "replicaset", "job", "node"}

var short = map[string]string{
	"po": "pod", "svc": "service", "deploy": "deployment", "sts": "statefulset", "ds": "daemonset", "rs": "replicaset", "no": "node",
}

// Parse reads TYPE/NAME, with TYPE as kubectl has it.
func Parse(s string) (Target, error) {
	kind, name, ok := strings.Cut(s, "/")
	kind = strings.ToLower(kind)
	if full := short[kind]; full != "" {
		kind = full
	}
	if !slices.Contains(Kinds, kind) {
		kind = strings.TrimSuffix(kind, "s")
	}
	if !ok || name == "" || strings.Contains(name, "/") || !slices.Contains(Kinds, kind) {
		return Target{}, fmt.Errorf("%q: want TYPE/NAME, such as svc/web, with one of the types %s", s, strings.Join(Kinds, ", "))
	}
	return Target{Kind: kind, Name: name}, nil
}

// String returns what kubectl would call it.
func (t Target) String() string {
	if t.Namespace == "" || t.Namespace == "default" {
		return t.Kind + "/" + t.Name
	}
	return t.Kind + "/" + t.Name + " in namespace " + t.Namespace
}
