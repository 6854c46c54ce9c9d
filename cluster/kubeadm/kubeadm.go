// Package kubeadm writes the configuration files (kubeadm.k8s.io/v1beta4) with which kubeadm makes
// a node of the cluster.
package kubeadm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/cluster/component"
	"github.com/dind-cluster/dind-cluster/cluster/topology"
	"github.com/dind-cluster/dind-cluster/internal/pki"
	"sigs.k8s.io/yaml"
)

// criSocket is where containerd listens.
const criSocket = "unix:///run/containerd/containerd.sock"

// Input has all that the files depend on.
type Input struct {
	Topology topology.Topology
	Node     topology.Node
	// Timeout bounds the whole start of the cluster.
	Timeout time.Duration
	// KubernetesVersion is the version of the kubeadm that will read the file, such as v1.37.2.
	KubernetesVersion string
	// CgroupV1 reports whether the host has cgroup v1, which the kubelet refuses by default
	// (FailCgroupV1 in
	// https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/kubelet/apis/config/types.go).
	CgroupV1 bool
	// ResolvConf is the file that pods' resolv.conf is made from.
	ResolvConf string
	// DiscoveryFile is the kubeconfig with which a worker joins: it leads to the API server, as the
	// node's kubelet.
	DiscoveryFile string
	// PatchesDir is the directory with the files of Patches.
	PatchesDir string
}

// The phases of `kubeadm init`, in the order in which kubeadm runs them, that are left out of one
// part of it or the other.
//
// kubeadm runs one phase after the other, and the phase wait-control-plane waits for the whole
// control plane before any that creates objects. But those need only the API server, and workers
// can join as soon as upload-config and bootstrap-token have run.
var (
	// FilesPhases make the control plane's files.
	FilesPhases = []string{"certs", "kubeconfig", "etcd", "control-plane"}
	// KubeletPhases start the kubelet. Until it looks for static pods it takes as long as
	// FilesPhases take.
	KubeletPhases = []string{"kubelet-start"}
	// JoinPhases create the objects that `kubeadm join` reads.
	JoinPhases = []string{"upload-config", "bootstrap-token"}
	// otherPhases are run on their own, replaced by code of ours, or not needed.
	otherPhases = []string{"preflight", "wait-control-plane", "upload-certs", "mark-control-plane", "kubelet-finalize", "addon", "show-join-command"}

	// Quiet is the flag of `kubeadm init` that keeps the phase bootstrap-token from printing the
	// token.
	Quiet = "--skip-token-print"
	// BootstrapTokens is the API path of the list of the cluster's bootstrap tokens.
	BootstrapTokens = "/api/v1/namespaces/kube-system/secrets?fieldSelector=type%3Dbootstrap.kubernetes.io%2Ftoken"
)

// Skip returns the value of kubeadm's flag --skip-phases that leaves only the given phases.
func Skip(all ...string) string {
	var skip []string
	for _, list := range [][]string{FilesPhases, KubeletPhases, JoinPhases, otherPhases} {
		for _, phase := range list {
			if !slices.Contains(all, phase) {
				skip = append(skip, phase)
			}
		}
	}
	return strings.Join(skip, ",")
}

// AdminsBinding is the name of the ClusterRoleBinding of Admins.
const AdminsBinding = "kubeadm:cluster-admins"

// Admins returns the ClusterRoleBinding that makes the user of admin.conf an administrator, as
// kubeadm creates it when there is none (EnsureAdminClusterRoleBindingImpl in
// https://github.com/kubernetes/kubernetes/blob/v1.37.2/cmd/kubeadm/app/phases/kubeconfig/kubeconfig.go).
func Admins() map[string]any {
	return object{
		"apiVersion": "rbac.authorization.k8s.io/v1",
		"kind":       "ClusterRoleBinding",
		"metadata":   object{"name": AdminsBinding},
		"roleRef":    object{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
		"subjects":   []object{{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": AdminsBinding}},
	}
}

// PriorityClasses returns, by API path, the priority classes that static pods and add-ons have. The
// API server makes the same (SystemPriorityClasses in
// https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/apis/scheduling/v1/helpers.go), a
// second after it has begun to serve.
func PriorityClasses() map[string]map[string]any {
	classes := map[string]map[string]any{}
	for name, class := range map[string]object{
		"system-node-critical": {
			"value":       2000001000,
			"description": "Used for system critical pods that must not be moved from their current node.",
		},
		"system-cluster-critical": {
			"value":       2000000000,
			"description": "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
		},
	} {
		class["apiVersion"], class["kind"], class["metadata"] = "scheduling.k8s.io/v1", "PriorityClass", object{"name": name}
		classes["/apis/scheduling.k8s.io/v1/priorityclasses/"+name] = class
	}
	return classes
}

type object map[string]any

// arg is a command line flag as v1beta4 writes it.
type arg struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Init writes the file for `kubeadm init`.
func Init(in Input) ([]byte, error) {
	lifetime := pki.Lifetime.String()
	etcd := object{}
	if args := etcdArgs(in); len(args) > 0 {
		etcd["extraArgs"] = args
	}
	return documents(in,
		object{
			"apiVersion": "kubeadm.k8s.io/v1beta4",
			"kind":       "InitConfiguration",
			// Nodes join without a token. kubeadm makes one in any case. It is never printed, the
			// runner deletes it at once, and if the runner dies before, the token expires soon.
			"bootstrapTokens":  []object{{"ttl": "10m0s", "usages": []string{"authentication"}}},
			"localAPIEndpoint": localAPIEndpoint(in),
			"nodeRegistration": nodeRegistration(in),
			"timeouts":         timeouts(in.Timeout),
			"patches":          object{"directory": in.PatchesDir},
			// The checks are for machines that people set up. A node's is always the same, and the
			// top-level container checks the host.
			"skipPhases": []string{"preflight"},
		},
		object{
			"apiVersion":           "kubeadm.k8s.io/v1beta4",
			"kind":                 "ClusterConfiguration",
			"clusterName":          "dind-cluster",
			"kubernetesVersion":    in.KubernetesVersion,
			"controlPlaneEndpoint": in.Topology.Endpoint.String(),
			"encryptionAlgorithm":  in.Topology.Kubernetes.EncryptionAlgorithm,
			// kubeadm's certificates are not renewed. With its default, a year, a cluster that was
			// stopped for longer would not come back.
			"certificateValidityPeriod":   lifetime,
			"caCertificateValidityPeriod": lifetime,
			"etcd":                        object{"local": etcd},
			"networking": object{
				"podSubnet":     list(in.Topology.Networks.Pods),
				"serviceSubnet": list(in.Topology.Networks.Services),
				"dnsDomain":     "cluster.local",
			},
			"apiServer": apiServer(in),
			"controllerManager": object{"extraArgs": componentArgs(in, in.Topology.Kubernetes.ControllerManager, append([]arg{
				// Each node's pod addresses follow from its slot; the runner writes them into the
				// Node objects.
				{"allocate-node-cidrs", "false"},
				// The signer cuts this to the remaining lifetime of the authority's own certificate
				// (https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/controller/certificates/authority/policies.go).
				{"cluster-signing-duration", lifetime},
				// Before it does anything it requests an account and a token for each of its forty
				// controllers, which at the default rate of 20 requests a second takes five
				// seconds.
				{"kube-api-qps", "200"},
				{"kube-api-burst", "400"},
			}, slices.Concat(servingArgs("kube-controller-manager"), electionArgs(in), gateArgs(in))...))},
			"scheduler": object{"extraArgs": componentArgs(in, in.Topology.Kubernetes.Scheduler,
				slices.Concat(servingArgs("kube-scheduler"), electionArgs(in), gateArgs(in)))},
		},
		kubeletConfiguration(in),
		withLogging(in, in.Topology.Kubernetes.KubeProxy.Logging, withGates(in, object{
			"apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
			"kind":       "KubeProxyConfiguration",
			"mode":       in.Topology.ProxyMode,
			// With the default of a second
			// (https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/proxy/apis/config/v1alpha1/defaults.go),
			// CoreDNS would be ready before it is reachable. A sync of a small cluster's rules
			// takes some ten milliseconds.
			"iptables": object{"minSyncPeriod": "100ms"},
			"nftables": object{"minSyncPeriod": "100ms"},
			// The size of the connection tracking table is the host's: leave it alone. Time-outs
			// are per network namespace (nf_conntrack_tcp_timeout_* in
			// https://github.com/torvalds/linux/blob/v6.12/net/netfilter/nf_conntrack_standalone.c),
			// so upstream's hold.
			"conntrack": object{"maxPerCore": 0},
		})),
	)
}

func apiServer(in Input) object {
	out := object{"certSANs": append([]string{"localhost", "127.0.0.1", in.Topology.Networks.Gateway().String()}, in.Topology.APISANs...)}
	args := gateArgs(in)
	if config := in.Topology.RuntimeConfig; len(config) > 0 {
		args = append(args, arg{"runtime-config", pairs(config)})
	}
	args = componentArgs(in, in.Topology.Kubernetes.APIServer, append(args, apiServerArgs(in)...))
	if len(args) > 0 {
		out["extraArgs"] = args
	}
	return out
}

// gateArgs are the feature gates of components that take them as a flag.
func gateArgs(in Input) []arg {
	if len(in.Topology.FeatureGates) == 0 {
		return nil
	}
	return []arg{{"feature-gates", pairs(in.Topology.FeatureGates)}}
}

// withGates adds the feature gates to the configuration of components that take them there.
func withGates(in Input, config object) object {
	if len(in.Topology.FeatureGates) > 0 {
		config["featureGates"] = in.Topology.FeatureGates
	}
	return config
}

// pairs writes key=value,…, sorted.
func pairs[V any](m map[string]V) string {
	var out []string
	for _, key := range slices.Sorted(maps.Keys(m)) {
		out = append(out, fmt.Sprintf("%s=%v", key, m[key]))
	}
	return strings.Join(out, ",")
}

// Join writes the file for `kubeadm join`.
func Join(in Input) ([]byte, error) {
	join := object{
		"apiVersion":       "kubeadm.k8s.io/v1beta4",
		"kind":             "JoinConfiguration",
		"discovery":        object{"file": object{"kubeConfigPath": in.DiscoveryFile}},
		"nodeRegistration": nodeRegistration(in),
		"timeouts":         timeouts(in.Timeout),
		"patches":          object{"directory": in.PatchesDir},
		"skipPhases":       []string{"preflight"},
	}
	if in.Node.Role == topology.ControlPlane {
		join["controlPlane"] = object{"localAPIEndpoint": localAPIEndpoint(in)}
	}
	return documents(in, join)
}

func localAPIEndpoint(in Input) object {
	return object{"advertiseAddress": in.Node.IPs[0].String(), "bindPort": v1alpha1.APIServerPort}
}

// Patches returns, by file name, patches for kubeadm's static pods, kubelet configuration and
// CoreDNS, for components that have to start within a time limit.
//
// kubeadm's probes run every ten seconds, which suits a cluster that runs for months. Here people
// wait for the start.
//
// The controller manager and the scheduler start only when the API server is ready: requests that
// come too early fail and are retried only after seconds, and the controller manager even exits
// after ten (CreateControllerContext in
// https://github.com/kubernetes/kubernetes/blob/v1.37.2/cmd/kube-controller-manager/app/controllermanager.go).
// The runner, mounted under their names in the first directory of PATH, waits in their place and
// then becomes them. An init container would be simpler, but the kubelet takes a second to see that
// one has ended, and with another command kubeadm would not recognize the pod.
//
// The kubelet restarts a component that has not started within the cluster's own time limit, never
// earlier.
func Patches(in Input) (map[string][]byte, error) {
	files := map[string][]byte{}
	add := func(name string, patch any) error {
		text, err := yaml.Marshal(patch)
		if err != nil {
			return fmt.Errorf("writing the patch %s: %w", name, err)
		}
		files[name] = text
		return nil
	}
	if err := kubeletPatches(in.Node.Patches, files); err != nil {
		return nil, err
	}
	if in.Node.Role != topology.ControlPlane {
		return files, nil
	}
	for _, c := range component.Which(component.StaticPod) {
		name := c.Name
		container := object{
			"name":         name,
			"startupProbe": object{"initialDelaySeconds": 0, "periodSeconds": 1, "failureThreshold": startupTries(in.Timeout)},
		}
		spec := object{"containers": []object{container}}
		if name == "kube-apiserver" {
			mountFiles(in, container, spec)
		}
		if c.Waits {
			serving := servingDir(name)
			container["volumeMounts"] = []object{
				{"name": "runner", "mountPath": "/usr/local/sbin/" + name, "readOnly": true},
				{"name": "serving", "mountPath": serving, "readOnly": true},
			}
			spec["volumes"] = []object{
				{"name": "runner", "hostPath": object{"path": "/usr/bin/runner", "type": "File"}},
				{"name": "serving", "hostPath": object{"path": serving, "type": "Directory"}},
			}
		}
		if err := add(name+"+strategic.yaml", object{"spec": spec}); err != nil {
			return nil, err
		}
	}
	// A component that exited, for want of disk space for example, is back soon after it can run
	// again, and not only after the five minutes to which the kubelet's back-off grows
	// (https://kep.k8s.io/4603). This is for control planes alone: the other nodes have users'
	// pods.
	if err := add("kubeletconfiguration+merge.yaml", object{"crashLoopBackOff": object{"maxContainerRestartPeriod": "5s"}}); err != nil {
		return nil, err
	}
	err := add("corednsdeployment+strategic.yaml", object{"spec": object{"template": object{"spec": object{"containers": []object{{
		"name":           "coredns",
		"readinessProbe": object{"periodSeconds": 1},
	}}}}}})
	return files, err
}

// kubeletPatches adds what a user wants different for one node's kubelet: the configuration that kubeadm uploads is for all
// nodes, a patch for one.
func kubeletPatches(patches topology.Patches, files map[string][]byte) error {
	merge, err := v1alpha1.MergePatches(patches.Merge, kubeletAPI, kubeletKind)
	if err != nil {
		return err
	}
	// kubeadm takes them in the order of their names
	// (https://github.com/kubernetes/kubernetes/blob/v1.37.2/cmd/kubeadm/app/util/patches/patches.go).
	add := func(format, patch string) {
		files[fmt.Sprintf("kubeletconfiguration%06d+%s.yaml", len(files), format)] = []byte(patch)
	}
	for _, text := range merge {
		add("merge", text)
	}
	for _, p := range v1alpha1.JSONPatches(patches.JSON6902, kubeletAPI, kubeletKind) {
		add("json", p.Patch)
	}
	return nil
}

// startupTries returns how often the startup probe, which runs once a second, may fail: for as long
// as the user gave the whole cluster, and no shorter than kubeadm itself waits, four minutes.
func startupTries(limit time.Duration) int {
	return int(max(4*time.Minute, limit).Round(time.Second) / time.Second)
}

// electionArgs returns the flags of a controller that has no second instance to elect a leader with.
// Without leader election it starts at once, also after a restart, when the lease of its predecessor
// has not expired yet.
func electionArgs(in Input) []arg {
	if in.Topology.Balanced() {
		return nil
	}
	return []arg{{"leader-elect", "false"}}
}

// servingDir returns the directory, in the node and in the pod, with the serving certificate of one
// component.
func servingDir(component string) string { return "/etc/kubernetes/serving/" + component }

const servingCert, servingKey = "tls.crt", "tls.key"

// servingArgs returns the flags that give a component its serving certificate, so that it need not
// make one when it starts.
func servingArgs(component string) []arg {
	return []arg{
		{"tls-cert-file", servingDir(component) + "/" + servingCert},
		{"tls-private-key-file", servingDir(component) + "/" + servingKey},
	}
}

// WriteServing makes the serving certificates that Init names, below root, which is / except in
// tests.
func WriteServing(root string, now time.Time) error {
	for _, c := range component.All {
		if !c.Waits {
			continue
		}
		// The components listen on 127.0.0.1 only.
		pair, err := pki.NewSelfSigned("localhost", []net.IP{net.IPv4(127, 0, 0, 1)}, now)
		if err != nil {
			return err
		}
		dir := filepath.Join(root, servingDir(c.Name))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		for name, data := range map[string][]byte{servingCert: pair.Cert, servingKey: pair.Key} {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
				return fmt.Errorf("writing the certificate of %s: %w", c.Name, err)
			}
		}
	}
	return nil
}

func nodeRegistration(in Input) object {
	return object{
		"name":      in.Node.Name,
		"criSocket": criSocket,
		"kubeletExtraArgs": mergeArgs([]arg{
			{"node-ip", list(in.Node.IPs)},
		}, in.Topology.Kubernetes.Kubelet.ExtraArgs),
	}
}

// timeouts gives each of kubeadm's waits the time limit of the whole start. One API call, which
// kubeadm repeats until it succeeds, gets a fifth of that, as kubeadm's minute is a fifth of the
// default limit: the first call waits for the API server's start, and on a slow machine a minute is
// too short for that.
func timeouts(d time.Duration) object {
	t := d.String()
	call := max(time.Minute, d/5)
	return object{
		"controlPlaneComponentHealthCheck": t,
		"discovery":                        t,
		"kubeletHealthCheck":               t,
		"kubernetesAPICall":                call.String(),
		"tlsBootstrap":                     t,
	}
}

const kubeletAPI, kubeletKind = "kubelet.config.k8s.io/v1beta1", "KubeletConfiguration"

func kubeletConfiguration(in Input) object {
	config := withLogging(in, in.Topology.Kubernetes.Kubelet.Logging, withGates(in, object{
		"apiVersion":   kubeletAPI,
		"kind":         kubeletKind,
		"cgroupDriver": "systemd",
		"failSwapOn":   false,
		"resolvConf":   in.ResolvConf,
		// The nodes share the host's disk, which may well be nearly full, so thresholds are not
		// shares of its size. But etcd, which writes its log in files of 64 MB, must not run out of
		// space, so pods that fill the disk are evicted before. Images are not collected until
		// then, and those that came with the node never: they are pinned. Inodes are a share and
		// not a number, since a file system without a fixed number of them (Btrfs) reports 0 of 0
		// as free.
		"imageGCHighThresholdPercent": 100,
		"imageGCLowThresholdPercent":  99,
		"evictionHard": object{
			"memory.available":   "100Mi",
			"nodefs.available":   "300Mi",
			"nodefs.inodesFree":  "0.1%",
			"imagefs.available":  "300Mi",
			"imagefs.inodesFree": "0.1%",
		},
	}))
	if tracing := in.Topology.Kubernetes.Tracing; tracing.Endpoint != "" {
		config["tracing"] = object{"endpoint": tracing.Endpoint, "samplingRatePerMillion": tracing.Rate()}
	}
	if in.CgroupV1 {
		config["failCgroupV1"] = false
	}
	return config
}

// list joins addresses or subnets, one per IP family, as kubeadm and the kubelet read them.
func list[T fmt.Stringer](all []T) string {
	var texts []string
	for _, a := range all {
		texts = append(texts, a.String())
	}
	return strings.Join(texts, ",")
}

// documents writes the objects of a configuration file, as the user's patches have them.
func documents(in Input, docs ...object) ([]byte, error) {
	var out bytes.Buffer
	for i, doc := range docs {
		text, err := json.Marshal(doc)
		if err != nil {
			return nil, fmt.Errorf("writing kubeadm's configuration: %w", err)
		}
		patches := []topology.Patches{in.Topology.Patches}
		if doc["kind"] != kubeletKind { // that of all nodes: see kubeletPatches
			patches = append(patches, in.Node.Patches)
		}
		for _, p := range patches {
			if text, err = v1alpha1.Patch(text, p.Merge, p.JSON6902); err != nil {
				return nil, fmt.Errorf("writing kubeadm's configuration: %w", err)
			}
		}
		if text, err = yaml.JSONToYAML(text); err != nil {
			return nil, fmt.Errorf("writing kubeadm's configuration: %w", err)
		}
		if i > 0 {
			out.WriteString("---\n")
		}
		out.Write(text)
	}
	return out.Bytes(), nil
}
