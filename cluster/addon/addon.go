// Package addon has the add-ons of a cluster: what is applied to it once it is ready, if its settings ask for it.
package addon

import (
	_ "embed" // the manifests

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
)

// VolumesDir is the directory of a node that has the volumes of the default StorageClass. It lies on a volume of the node's own:
// on the node's root, which is an overlay, nothing could be that wants an overlay of its own, such as another Docker's files.
const VolumesDir = "/var/local-path-provisioner"

// Addon is one add-on.
type Addon struct {
	// Name is that of its field in the settings.
	Name string
	// Manifest has its objects, as YAML documents.
	Manifest string
	// Namespace and Deployment name the Deployment whose pods do the work: with all of them ready the add-on is up.
	Namespace, Deployment string
	// App is the selector of these pods.
	App string
	// API is the path of an API that the add-on serves, if any. It is up only when that answers, too.
	API string

	enabled func(v1alpha1.Addons) bool
}

//go:embed storage-class.yaml
var storageClass string

//go:embed metrics-server.yaml
var metricsServer string

// All are the add-ons that there are.
var All = []Addon{{
	Name:       "storageClass",
	Manifest:   storageClass,
	Namespace:  "local-path-storage",
	Deployment: "local-path-provisioner",
	App:        "app=local-path-provisioner",
	enabled:    func(a v1alpha1.Addons) bool { return a.StorageClass },
}, {
	Name:       "metricsServer",
	Manifest:   metricsServer,
	Namespace:  "kube-system",
	Deployment: "metrics-server",
	App:        "k8s-app=metrics-server",
	API:        "/apis/metrics.k8s.io/v1beta1",
	enabled:    func(a v1alpha1.Addons) bool { return a.MetricsServer },
}}

// Of returns those that a cluster asks for.
func Of(c v1alpha1.Cluster) []Addon {
	var out []Addon
	for _, a := range All {
		if a.enabled(c.Addons) {
			out = append(out, a)
		}
	}
	return out
}
