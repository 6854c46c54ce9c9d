package v1alpha1

// Kubernetes has settings of Kubernetes' own components.
type Kubernetes struct {
	// Logging is that of all components, unless they have their own.
	Logging Logging `json:"logging,omitzero"`
	// APIServer is kube-apiserver.
	APIServer Component `json:"apiServer,omitzero"`
	// ControllerManager is kube-controller-manager.
	ControllerManager Component `json:"controllerManager,omitzero"`
	// Scheduler is kube-scheduler.
	Scheduler Component `json:"scheduler,omitzero"`
	// Kubelet is that of all nodes.
	Kubelet Component `json:"kubelet,omitzero"`
	// KubeProxy has no flags: patches of KubeProxyConfiguration have all of its settings.
	KubeProxy KubeProxy `json:"kubeProxy,omitzero"`
	// Admission is about the API server's admission plugins.
	Admission Admission `json:"admission,omitzero"`
	// Audit is the API server's audit log.
	Audit Audit `json:"audit,omitzero"`
	// Tracing is that of the API server, etcd and the kubelets.
	Tracing Tracing `json:"tracing,omitzero"`
	// EmulatedVersion is the minor version of Kubernetes, such as 1.36, whose features and APIs the control plane has: at most three before its own.
	// See https://kep.k8s.io/4330.
	EmulatedVersion string `json:"emulatedVersion,omitempty"`
	// EmulationForwardCompatible has the API server serve, with an emulated version, the stable versions of its APIs that came later, too. Default: false.
	EmulationForwardCompatible bool `json:"emulationForwardCompatible,omitempty"`
	// EncryptionAlgorithm is that of the cluster's keys: ECDSA-P256, ECDSA-P384, RSA-2048, RSA-3072 or RSA-4096. RSA keys take their time to
	// be made. Default: ECDSA-P256.
	EncryptionAlgorithm string `json:"encryptionAlgorithm"`
}

// Component has settings of one component.
type Component struct {
	// ExtraArgs are flags without their dashes: a map, or a list of objects with name and value for flags that may be there several times. They
	// replace those of the same name.
	ExtraArgs ExtraArgs `json:"extraArgs,omitempty"`
	// Logging is the component's own. Default: that of all components.
	Logging Logging `json:"logging,omitzero"`
}

// KubeProxy has settings of kube-proxy.
type KubeProxy struct {
	// Logging is its own. Default: that of all components.
	Logging Logging `json:"logging,omitzero"`
}

// ExtraArgs are flags of a component.
type ExtraArgs []ExtraArg

// ExtraArg is a flag of a component.
type ExtraArg struct {
	// Name is the flag's, without dashes.
	Name string `json:"name"`
	// Value is the flag's.
	Value string `json:"value"`
}

// Logging says how components write their logs.
type Logging struct {
	// Verbosity is how much is logged: 0 to 10. Default: 0, for the kubelet 2 if systemd's unit says so.
	Verbosity *int `json:"verbosity,omitempty"`
	// Format is text or json. Default: text.
	Format string `json:"format,omitempty"`
}

// Admission has the API server's admission plugins.
type Admission struct {
	// EnablePlugins are plugins that are on, besides those that are on by default and NodeRestriction.
	EnablePlugins []string `json:"enablePlugins,omitempty"`
	// DisablePlugins are plugins that are off.
	DisablePlugins []string `json:"disablePlugins,omitempty"`
	// Configuration is an AdmissionConfiguration of apiserver.config.k8s.io/v1, as YAML, with the plugins' own in it.
	Configuration string `json:"configuration,omitempty"`
}

// Audit is the API server's audit log: the file /var/log/kubernetes/kube-apiserver-audit.log of each control plane, of which three of 100 MB are
// kept.
type Audit struct {
	// Enabled reports whether there is one. Default: true if there is a policy.
	Enabled *bool `json:"enabled,omitempty"`
	// Policy is a Policy of audit.k8s.io/v1, as YAML. Default: metadata of all requests but reads of health, versions and events, and leases.
	Policy string `json:"policy,omitempty"`
}

// Tracing says where traces go (OpenTelemetry).
type Tracing struct {
	// Endpoint is host:port of a collector (OTLP over gRPC without TLS), as the nodes reach it. Default: none, and no traces.
	Endpoint string `json:"endpoint,omitempty"`
	// SamplingRatePerMillion is how many of a million requests are traced: 0 to 1000000. Default: 1000000.
	SamplingRatePerMillion *int `json:"samplingRatePerMillion,omitempty"`
}

// Registry says how the nodes' containerd reaches a registry. It becomes a file /etc/containerd/certs.d/REGISTRY/hosts.toml.
type Registry struct {
	// Mirrors are URLs that are tried before the registry itself, one after the other. For how one of them is reached there is an
	// entry for its own host.
	Mirrors []string `json:"mirrors,omitempty"`
	// Insecure leaves the registry's certificate unchecked. Default: false.
	Insecure bool `json:"insecure,omitempty"`
	// PlainHTTP reaches the registry without TLS. Default: false.
	PlainHTTP bool `json:"plainHTTP,omitempty"`
	// CACertificates are those of the authorities that the registry's certificate may be of, besides the usual ones: PEM.
	CACertificates string `json:"caCertificates,omitempty"`
	// ClientCertificate and ClientKey are what the registry knows the nodes by: PEM.
	ClientCertificate string `json:"clientCertificate,omitempty"`
	ClientKey         string `json:"clientKey,omitempty"`
	// Username and Password are for the registry. A pod's imagePullSecrets come first.
	Username string `json:"username,omitempty"`
	Password string `json:"password,omitempty"`
}

// Manifest has Kubernetes objects: a content or a path.
type Manifest struct {
	// Name is what messages call it. Default: its number.
	Name string `json:"name,omitempty"`
	// Content is the file: YAML, of any number of documents.
	Content string `json:"content,omitempty"`
	// HostPath is, in place of the content, a file of the Docker host, or a directory with files *.yaml, *.yml and *.json. With plain Docker, the
	// cluster's container must have it at the same path below /host.
	HostPath string `json:"hostPath,omitempty"`
}
