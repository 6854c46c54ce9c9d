// Package component has the table of a cluster's components, for code that deals with all of them
// or with one kind.
package component

import "slices"

// Runs is the way in which a component runs.
type Runs string

// The ways a component can run.
const (
	// Unit is a systemd unit of each node.
	Unit Runs = "unit"
	// StaticPod is a pod of each control plane, which the kubelet makes from a file.
	StaticPod Runs = "static pod"
	// AddOn is a DaemonSet or a Deployment that kubeadm adds to the cluster.
	AddOn Runs = "add-on"
)

// Component is one part of a cluster.
type Component struct {
	// Name is kubeadm's name for it, or the unit's name.
	Name string
	Runs Runs
	// App is the value of the label k8s-app of an add-on's pods.
	App string
	// Waits reports whether the component exits, or retries only after seconds, when it starts
	// before the API server is ready. The runner waits in its place and then becomes it.
	Waits bool
	// Errors is an extended regular expression (grep -E) for the lines of a unit's log that explain
	// why a node does not come up.
	Errors string
}

// All has the components in the order in which a control plane starts them.
var All = []Component{
	{Name: "containerd", Runs: Unit, Errors: "level=(error|fatal)"},
	{Name: "kubelet", Runs: Unit, Errors: "^[EF][0-9]{4}|rror"},
	{Name: "etcd", Runs: StaticPod},
	{Name: "kube-apiserver", Runs: StaticPod},
	{Name: "kube-controller-manager", Runs: StaticPod, Waits: true},
	{Name: "kube-scheduler", Runs: StaticPod, Waits: true},
	{Name: "kube-proxy", Runs: AddOn, App: "kube-proxy"},
	{Name: "coredns", Runs: AddOn, App: "kube-dns"},
}

// Which returns the components that run in a given way.
func Which(runs Runs) []Component {
	return slices.DeleteFunc(slices.Clone(All), func(c Component) bool { return c.Runs != runs })
}

// Waits reports whether the runner waits in place of the component with the given name.
func Waits(name string) bool {
	return slices.ContainsFunc(All, func(c Component) bool { return c.Waits && c.Name == name })
}

// IsAddOn reports whether pods with the label k8s-app=app belong to an add-on.
func IsAddOn(app string) bool {
	return slices.ContainsFunc(Which(AddOn), func(c Component) bool { return c.App == app })
}
