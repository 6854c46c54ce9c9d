package v1alpha1

// Addons are parts of a cluster that come once it is ready. A start does not wait for them: the log says when each of them is up.
type Addons struct {
	// StorageClass is the default StorageClass, standard: directories of the nodes (ReadWriteOnce), by local-path-provisioner. Default: true.
	StorageClass bool `json:"storageClass"`
	// MetricsServer serves the resource metrics API, for kubectl top and HorizontalPodAutoscalers. Default: false.
	MetricsServer bool `json:"metricsServer"`
}
