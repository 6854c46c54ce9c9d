package kubeadm

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"sigs.k8s.io/yaml"
)

// FilesDir is the directory, in a control plane and in its API server's pod, with the files that
// flags of the API server name: those of Files.
const FilesDir = "/etc/kubernetes/apiserver"

// AuditDir is the directory with the audit log, in a control plane and in its API server's pod.
const AuditDir = "/var/log/kubernetes"

const (
	admissionFile = "admission.yaml"
	auditFile     = "audit-policy.yaml"
	tracingFile   = "tracing.yaml"
)

// defaultPolicy is the audit policy of those who want just some: who did what to which object, but not what the components ask
// for all the time.
const defaultPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  nonResourceURLs: ["/healthz*", "/livez*", "/readyz*", "/version", "/openapi/*"]
- level: None
  resources:
  - group: coordination.k8s.io
    resources: [leases]
  - group: ""
    resources: [events]
  - group: events.k8s.io
    resources: [events]
- level: Metadata
`

// Files returns what belongs into FilesDir, by name. Files may hold secrets.
func Files(k v1alpha1.Kubernetes) (map[string][]byte, error) {
	files := map[string][]byte{}
	if k.Admission.Configuration != "" {
		files[admissionFile] = []byte(k.Admission.Configuration)
	}
	if k.Audit.On() {
		files[auditFile] = []byte(k.Audit.Policy)
		if k.Audit.Policy == "" {
			files[auditFile] = []byte(defaultPolicy)
		}
	}
	if k.Tracing.Endpoint != "" {
		text, err := yaml.Marshal(object{
			"apiVersion":             "apiserver.config.k8s.io/v1",
			"kind":                   "TracingConfiguration",
			"endpoint":               k.Tracing.Endpoint,
			"samplingRatePerMillion": k.Tracing.Rate(),
		})
		if err != nil {
			return nil, fmt.Errorf("writing the tracing configuration: %w", err)
		}
		files[tracingFile] = text
	}
	return files, nil
}

// nodeRestriction is the admission plugin that kubeadm enables.
const nodeRestriction = "NodeRestriction"

// apiServerArgs are the flags that name Files, and those of admission plugins.
func apiServerArgs(in Input) []arg {
	k := in.Topology.Kubernetes
	var args []arg
	if a := k.Admission; len(a.EnablePlugins) > 0 {
		plugins := slices.Clone(a.EnablePlugins)
		// kubeadm's own value, which this takes the place of
		// (https://github.com/kubernetes/kubernetes/blob/v1.37.2/cmd/kubeadm/app/phases/controlplane/manifests.go).
		if !slices.Contains(slices.Concat(plugins, a.DisablePlugins), nodeRestriction) {
			plugins = append([]string{nodeRestriction}, plugins...)
		}
		args = append(args, arg{"enable-admission-plugins", strings.Join(plugins, ",")})
	}
	if disable := k.Admission.DisablePlugins; len(disable) > 0 {
		args = append(args, arg{"disable-admission-plugins", strings.Join(disable, ",")})
	}
	if k.Admission.Configuration != "" {
		args = append(args, arg{"admission-control-config-file", FilesDir + "/" + admissionFile})
	}
	if k.Audit.On() {
		args = append(args,
			arg{"audit-policy-file", FilesDir + "/" + auditFile},
			arg{"audit-log-path", AuditDir + "/kube-apiserver-audit.log"},
			arg{"audit-log-maxsize", "100"}, // MB
			arg{"audit-log-maxbackup", "2"})
	}
	if k.Tracing.Endpoint != "" {
		args = append(args, arg{"tracing-config-file", FilesDir + "/" + tracingFile})
	}
	if k.EmulationForwardCompatible {
		args = append(args, arg{"emulation-forward-compatible", "true"})
	}
	return args
}

// mountFiles gives the API server's pod the directories that apiServerArgs names. It is no extraVolumes, which a patch of a user's
// would replace.
func mountFiles(in Input, container, spec object) {
	k := in.Topology.Kubernetes
	var mounts, volumes []object
	add := func(name, path, kind string, readOnly bool) {
		mounts = append(mounts, object{"name": name, "mountPath": path, "readOnly": readOnly})
		volumes = append(volumes, object{"name": name, "hostPath": object{"path": path, "type": kind}})
	}
	if k.Admission.Configuration != "" || k.Audit.On() || k.Tracing.Endpoint != "" {
		add("apiserver-files", FilesDir, "Directory", true)
	}
	if k.Audit.On() {
		add("audit-log", AuditDir, "DirectoryOrCreate", false)
	}
	if len(mounts) > 0 {
		container["volumeMounts"], spec["volumes"] = mounts, volumes
	}
}

// etcdArgs are flags of etcd.
func etcdArgs(in Input) []arg {
	var args []arg
	if !in.Topology.EtcdSync {
		args = append(args, arg{"unsafe-no-fsync", "true"})
	}
	if t := in.Topology.Kubernetes.Tracing; t.Endpoint != "" {
		args = append(args,
			arg{"enable-distributed-tracing", "true"},
			arg{"distributed-tracing-address", t.Endpoint},
			arg{"distributed-tracing-sampling-rate", strconv.Itoa(t.Rate())})
	}
	return mergeArgs(args, in.Topology.EtcdArgs)
}

// componentArgs returns the flags of a component of the control plane: ours, those that all of them have, and a user's.
func componentArgs(in Input, c v1alpha1.Component, args []arg) []arg {
	k := in.Topology.Kubernetes
	log := k.Logging.For(c.Logging)
	if log.Verbosity != nil {
		args = append(args, arg{"v", strconv.Itoa(*log.Verbosity)})
	}
	if log.Format != "" {
		args = append(args, arg{"logging-format", log.Format})
	}
	if k.EmulatedVersion != "" {
		args = append(args, arg{"emulated-version", k.EmulatedVersion})
	}
	return mergeArgs(args, c.ExtraArgs)
}

// mergeArgs adds a user's flags to ours, in place of those of the same name.
func mergeArgs(args []arg, extra v1alpha1.ExtraArgs) []arg {
	args = slices.DeleteFunc(args, func(a arg) bool {
		return slices.ContainsFunc(extra, func(e v1alpha1.ExtraArg) bool { return e.Name == a.Name })
	})
	for _, e := range extra {
		args = append(args, arg(e))
	}
	return args
}

// withLogging adds the logging to the configuration of components that take it there.
func withLogging(in Input, own v1alpha1.Logging, config object) object {
	log := in.Topology.Kubernetes.Logging.For(own)
	if log == (v1alpha1.Logging{}) {
		return config
	}
	logging := object{}
	if log.Format != "" {
		logging["format"] = log.Format
	}
	if log.Verbosity != nil {
		logging["verbosity"] = *log.Verbosity
	}
	config["logging"] = logging
	return config
}
