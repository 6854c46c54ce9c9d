package kubeapi

import "time"

// Condition is a condition of a node or a pod.
type Condition struct {
	Type    string `json:"type"`
	Status  string `json:"status"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
	// LastHeartbeatTime is set for nodes only.
	LastHeartbeatTime time.Time `json:"lastHeartbeatTime"`
}

// Node is the part of a node that callers use.
type Node struct {
	Metadata Meta `json:"metadata"`
	Spec     struct {
		PodCIDR       string `json:"podCIDR"`
		Unschedulable bool   `json:"unschedulable"`
	} `json:"spec"`
	Status struct {
		Conditions []Condition `json:"conditions"`
		Addresses  []struct {
			Type    string `json:"type"`
			Address string `json:"address"`
		} `json:"addresses"`
		NodeInfo struct {
			KubeletVersion string `json:"kubeletVersion"`
		} `json:"nodeInfo"`
	} `json:"status"`
}

// Meta returns the node's metadata.
func (n Node) Meta() Meta { return n.Metadata }

// Pod is the part of a pod that callers use.
type Pod struct {
	Metadata Meta `json:"metadata"`
	Spec     struct {
		NodeName string `json:"nodeName"`
	} `json:"spec"`
	Status struct {
		Phase             string            `json:"phase"`
		Reason            string            `json:"reason"`
		Conditions        []Condition       `json:"conditions"`
		ContainerStatuses []ContainerStatus `json:"containerStatuses"`
	} `json:"status"`
}

// ContainerStatus is the state of one container of a pod.
type ContainerStatus struct {
	Name         string `json:"name"`
	Ready        bool   `json:"ready"`
	RestartCount int    `json:"restartCount"`
	State        struct {
		Running *struct {
			StartedAt time.Time `json:"startedAt"`
		} `json:"running"`
		Waiting *struct {
			Reason  string `json:"reason"`
			Message string `json:"message"`
		} `json:"waiting"`
		Terminated *struct {
			Reason   string `json:"reason"`
			ExitCode int    `json:"exitCode"`
		} `json:"terminated"`
	} `json:"state"`
}

// Finished reports whether the pod has ended for good, as those of a Job do, and those that were
// evicted.
func (p Pod) Finished() bool { return p.Status.Phase == "Succeeded" || p.Status.Phase == "Failed" }

// Static reports whether the pod stands for a static pod of a kubelet.
func (p Pod) Static() bool {
	_, ok := p.Metadata.Annotations["kubernetes.io/config.mirror"]
	return ok
}

// Meta returns the pod's metadata.
func (p Pod) Meta() Meta { return p.Metadata }

// Ready reports whether the conditions say so, and if not, why.
func Ready(conditions []Condition) (bool, string) {
	for _, c := range conditions {
		if c.Type == "Ready" {
			if c.Status == "True" {
				return true, ""
			}
			if c.Message != "" {
				return false, c.Message
			}
			return false, c.Reason
		}
	}
	return false, "no status yet"
}

// EndpointSlice is the part of an EndpointSlice (discovery.k8s.io/v1) that callers use.
type EndpointSlice struct {
	Metadata  Meta       `json:"metadata"`
	Endpoints []Endpoint `json:"endpoints"`
	Ports     []struct {
		Name     string `json:"name"`
		Port     int    `json:"port"`
		Protocol string `json:"protocol"`
	} `json:"ports"`
}

// Endpoint is one endpoint of a service.
type Endpoint struct {
	Addresses  []string `json:"addresses"`
	NodeName   string   `json:"nodeName"`
	Conditions struct {
		// Without a value, an endpoint is ready.
		Ready   *bool `json:"ready"`
		Serving *bool `json:"serving"`
	} `json:"conditions"`
	TargetRef *struct {
		Kind      string `json:"kind"`
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
		UID       string `json:"uid"`
	} `json:"targetRef"`
}

// Ready reports whether the endpoint takes connections.
func (e Endpoint) Ready() bool { return e.Conditions.Ready == nil || *e.Conditions.Ready }

// Serving reports whether the endpoint takes connections, although it may be about to end.
func (e Endpoint) Serving() bool {
	if e.Conditions.Serving == nil {
		return e.Ready()
	}
	return *e.Conditions.Serving
}

// Meta returns the slice's metadata.
func (s EndpointSlice) Meta() Meta { return s.Metadata }
