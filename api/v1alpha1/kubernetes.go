package v1alpha1

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/dind-cluster/dind-cluster/internal/nearest"
	"github.com/dind-cluster/dind-cluster/internal/strictyaml"
	"sigs.k8s.io/yaml"
)

// LogFormats and EncryptionAlgorithms are what Logging.Format and Kubernetes.EncryptionAlgorithm may be.
var (
	LogFormats           = []string{"text", "json"}
	EncryptionAlgorithms = []string{"ECDSA-P256", "ECDSA-P384", "RSA-2048", "RSA-3072", "RSA-4096"}
)

// For returns the logging of a component, which has what it says itself and otherwise what is said for all.
func (l Logging) For(component Logging) Logging {
	if component.Verbosity != nil {
		l.Verbosity = component.Verbosity
	}
	if component.Format != "" {
		l.Format = component.Format
	}
	return l
}

// On reports whether there is an audit log.
func (a Audit) On() bool { return a.Enabled == nil && a.Policy != "" || a.Enabled != nil && *a.Enabled }

// Rate is how many of a million requests are traced.
func (t Tracing) Rate() int {
	if t.SamplingRatePerMillion != nil {
		return *t.SamplingRatePerMillion
	}
	return 1_000_000
}

// ownArgs are the flags without whose values no cluster comes up, by component, with what to do instead.
var ownArgs = map[string]map[string]string{
	"kubernetes.apiServer": {
		"advertise-address":          "it is the node's address",
		"client-ca-file":             "it is the cluster's authority",
		"etcd-cafile":                "it belongs to the cluster's own etcd",
		"etcd-certfile":              "it belongs to the cluster's own etcd",
		"etcd-keyfile":               "it belongs to the cluster's own etcd",
		"etcd-servers":               "it belongs to the cluster's own etcd",
		"kubelet-client-certificate": "it is of the cluster's authority",
		"kubelet-client-key":         "it belongs to kubelet-client-certificate",
		"secure-port":                "the nodes expect the API server there: networking.apiServerPort is the Docker host's",
		"service-cluster-ip-range":   "set networking.serviceSubnet",
		"tls-cert-file":              "it is of the cluster's authority: networking.apiServerSANs has further names",
		"tls-private-key-file":       "it belongs to tls-cert-file",
	},
	"kubernetes.controllerManager": {
		"allocate-node-cidrs":      "each node's pods have the addresses that follow from networking.podSubnet",
		"kubeconfig":               "it is how the component reaches the API server",
		"secure-port":              "its probes are there",
		"service-cluster-ip-range": "set networking.serviceSubnet",
	},
	"kubernetes.scheduler": {
		"kubeconfig":  "it is how the component reaches the API server",
		"secure-port": "its probes are there",
	},
	"kubernetes.kubelet": {
		"bootstrap-kubeconfig":       "it is how the kubelet gets its certificate",
		"config":                     "patch KubeletConfiguration in kubeadmConfigPatches",
		"container-runtime-endpoint": "it is where the node's containerd is",
		"hostname-override":          "set the node's name",
		"kubeconfig":                 "it is how the kubelet reaches the API server",
	},
	"etcd": {
		"cert-file":                   "it is of the cluster's authority",
		"client-cert-auth":            "the API server has a certificate",
		"data-dir":                    "the node keeps it there",
		"initial-cluster":             "kubeadm knows the members",
		"initial-cluster-state":       "kubeadm knows the members",
		"initial-advertise-peer-urls": "it is the node's address",
		"key-file":                    "it belongs to cert-file",
		"listen-client-urls":          "the API server expects etcd there",
		"listen-metrics-urls":         "its probes are there",
		"listen-peer-urls":            "it is the node's address",
		"name":                        "it is the node's name",
		"trusted-ca-file":             "it is the cluster's authority",
	},
}

var (
	flagName     = regexp.MustCompile(`^[a-zA-Z0-9][-a-zA-Z0-9._]*$`)
	minorVersion = regexp.MustCompile(`^1\.(0|[1-9][0-9]*)$`)
	imageName    = regexp.MustCompile(`^[a-zA-Z0-9][-a-zA-Z0-9._/:@]*$`)
)

func (v *validation) kubernetes(k Kubernetes, etcd Etcd) {
	for _, c := range []struct {
		path string
		args ExtraArgs
		log  Logging
	}{
		{"kubernetes", nil, k.Logging},
		{"kubernetes.apiServer", k.APIServer.ExtraArgs, k.APIServer.Logging},
		{"kubernetes.controllerManager", k.ControllerManager.ExtraArgs, k.ControllerManager.Logging},
		{"kubernetes.scheduler", k.Scheduler.ExtraArgs, k.Scheduler.Logging},
		{"kubernetes.kubelet", k.Kubelet.ExtraArgs, k.Kubelet.Logging},
		{"kubernetes.kubeProxy", nil, k.KubeProxy.Logging},
		{"etcd", etcd.ExtraArgs, Logging{}},
	} {
		for _, a := range c.args {
			field := strictyaml.Join(c.path+".extraArgs", a.Name)
			if bare := strings.TrimLeft(a.Name, "-"); bare != a.Name && flagName.MatchString(bare) {
				v.fail(field, "want the flag without dashes, %s", bare)
			} else if !flagName.MatchString(a.Name) {
				v.fail(field, "want the name of a flag, such as v")
			} else if why := ownArgs[c.path][a.Name]; why != "" {
				v.fail(field, "with another value the cluster does not come up: %s", why)
			}
			if strings.ContainsAny(a.Value, "\x00\n") {
				v.fail(field, "want a single line")
			}
		}
		if n := c.log.Verbosity; n != nil {
			v.check(c.path+".logging.verbosity", *n, Between(*n, 0, 10))
		}
		v.check(c.path+".logging.format", c.log.Format, OneOf(c.log.Format, append([]string{""}, LogFormats...)...))
	}
	v.admission(k.Admission)
	if k.Audit.Policy != "" {
		if k.Audit.Enabled != nil && !*k.Audit.Enabled {
			v.fail("kubernetes.audit.enabled", "false, and there is a policy: leave one of them out")
		}
		if err := checkObject(k.Audit.Policy, "audit.k8s.io/v1", "Policy"); err != nil {
			v.fail("kubernetes.audit.policy", "%v", err)
		}
	}
	v.tracing(k.Tracing)
	if k.EmulatedVersion != "" && !minorVersion.MatchString(k.EmulatedVersion) {
		v.fail("kubernetes.emulatedVersion", "%q: want a minor version of Kubernetes, such as 1.36", k.EmulatedVersion)
	}
	if k.EmulationForwardCompatible && k.EmulatedVersion == "" {
		v.fail("kubernetes.emulationForwardCompatible", "there is no kubernetes.emulatedVersion: want both or neither")
	}
	v.check("kubernetes.encryptionAlgorithm", k.EncryptionAlgorithm, OneOf(k.EncryptionAlgorithm, EncryptionAlgorithms...))
}

func (v *validation) tracing(t Tracing) {
	switch host, port, err := net.SplitHostPort(t.Endpoint); {
	case t.Endpoint == "":
		if t.SamplingRatePerMillion != nil {
			v.fail("kubernetes.tracing.samplingRatePerMillion", "there is no kubernetes.tracing.endpoint: want both or neither")
		}
	case err != nil || host == "" || strings.Contains(t.Endpoint, "/"):
		v.fail("kubernetes.tracing.endpoint", "%q: want host:port of a collector, such as 10.250.0.1:4317", t.Endpoint)
	default:
		if n, err := strconv.Atoi(port); err != nil || Between(n, 1, 65535) != nil {
			v.fail("kubernetes.tracing.endpoint", "%q: want a port from 1 to 65535", t.Endpoint)
		}
	}
	v.check("kubernetes.tracing.samplingRatePerMillion", t.Rate(), Between(t.Rate(), 0, 1_000_000))
}

// AdmissionPlugins are the API server's (AllOrderedPlugins in
// https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/kubeapiserver/options/plugins.go), sorted.
var AdmissionPlugins = []string{
	"AlwaysAdmit", "AlwaysDeny", "AlwaysPullImages", "CertificateApproval", "CertificateSigning", "CertificateSubjectRestriction",
	"ClusterTrustBundleAttest", "DefaultIngressClass", "DefaultStorageClass", "DefaultTolerationSeconds", "DenyServiceExternalIPs",
	"EventRateLimit", "ExtendedResourceToleration", "ImagePolicyWebhook", "LimitPodHardAntiAffinityTopology", "LimitRanger",
	"MutatingAdmissionPolicy", "MutatingAdmissionWebhook", "NamespaceAutoProvision", "NamespaceExists", "NamespaceLifecycle",
	"NodeDeclaredFeatureValidator", "NodeRestriction", "OwnerReferencesPermissionEnforcement", "PersistentVolumeClaimResize",
	"PodGroupProtection", "PodNodeSelector", "PodResizeValidator", "PodSecurity", "PodTolerationRestriction", "PodTopologyLabels", "Priority",
	"ResourceQuota", "RuntimeClass", "ServiceAccount", "StorageObjectInUseProtection", "TaintNodesByCondition", "ValidatingAdmissionPolicy",
	"ValidatingAdmissionWebhook",
}

func (v *validation) admission(a Admission) {
	check := func(field, name string) {
		switch like := nearest.Of(name, AdmissionPlugins); {
		case slices.Contains(AdmissionPlugins, name):
		case like != "":
			v.fail(field, "%q: no such admission plugin: did you mean %s?", name, like)
		default:
			v.fail(field, "%q: no such admission plugin: there are %s", name, strings.Join(AdmissionPlugins, ", "))
		}
	}
	for i, name := range a.EnablePlugins {
		check(fmt.Sprintf("kubernetes.admission.enablePlugins[%d]", i), name)
	}
	for i, name := range a.DisablePlugins {
		field := fmt.Sprintf("kubernetes.admission.disablePlugins[%d]", i)
		check(field, name)
		if slices.Contains(a.EnablePlugins, name) {
			v.fail(field, "%q is in enablePlugins, too", name)
		}
	}
	if a.Configuration == "" {
		return
	}
	const field = "kubernetes.admission.configuration"
	if err := checkObject(a.Configuration, "apiserver.config.k8s.io/v1", "AdmissionConfiguration"); err != nil {
		v.fail(field, "%v", err)
		return
	}
	var c struct {
		Plugins []struct{ Name, Path string }
	}
	if err := yaml.Unmarshal([]byte(a.Configuration), &c); err != nil {
		v.fail(field, "%v", err)
	}
	for i, p := range c.Plugins {
		check(field, p.Name)
		if p.Path != "" {
			v.fail(field, "plugins[%d].path: %s is no file of the API server's: write what is in it as configuration", i, p.Path)
		}
	}
}

// checkObject reports whether a text is one object of a kind, as YAML.
func checkObject(text, apiVersion, kind string) error {
	doc, err := strictyaml.Parse([]byte(text))
	if err != nil {
		return err
	}
	if is := doc.String("kind"); is != kind {
		return fmt.Errorf("kind: %q: want %s", is, kind)
	}
	if is := doc.String("apiVersion"); is != apiVersion {
		return fmt.Errorf("apiVersion: %q: want %s", is, apiVersion)
	}
	return nil
}

func (v *validation) registries(all map[string]Registry) {
	for _, name := range slices.Sorted(maps.Keys(all)) {
		r, field := all[name], strictyaml.Join("registries", name)
		if _, err := registryDir(name); err != nil {
			v.fail(field, "%v", err)
		}
		for i, m := range r.Mirrors {
			if _, err := mirrorURL(m); err != nil {
				v.fail(fmt.Sprintf("%s.mirrors[%d]", field, i), "%v", err)
			}
		}
		v.pem(field+".caCertificates", r.CACertificates)
		if r.PlainHTTP && (r.Insecure || r.CACertificates != "" || r.ClientCertificate != "") {
			v.fail(field+".plainHTTP", "there are no certificates without TLS: leave out insecure, caCertificates and clientCertificate, or this")
		}
		if r.Insecure && r.CACertificates != "" {
			v.fail(field+".insecure", "the certificate is either checked against caCertificates or not at all: leave one of them out")
		}
		if (r.ClientCertificate == "") != (r.ClientKey == "") {
			v.fail(field+".clientCertificate", "want clientCertificate and clientKey, or neither")
		} else if r.ClientKey != "" {
			// The error may quote nothing of the key, and does not.
			if _, err := tls.X509KeyPair([]byte(r.ClientCertificate), []byte(r.ClientKey)); err != nil {
				v.fail(field+".clientCertificate", "with clientKey: %v", err)
			}
		}
		if (r.Username == "") != (r.Password == "") {
			v.fail(field+".username", "want username and password, or neither")
		}
		if name == "*" && (r.Username != "" || r.PlainHTTP || r.ClientKey != "") {
			v.fail(field, "all other registries cannot have one password, key or way to be reached: name the registry")
		}
	}
}

// pem fails unless a text is empty or has certificates, all of which can be read.
func (v *validation) pem(field, text string) {
	if text == "" {
		return
	}
	if err := checkCertificates(text); err != nil {
		v.fail(field, "%v", err)
	}
}

func checkCertificates(text string) error {
	n := 0
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return fmt.Errorf("%s: want certificates (PEM) alone", block.Type)
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Errorf("certificate %d: %w", n+1, err)
		}
		n++
	}
	if n == 0 {
		return errors.New("want certificates as PEM: -----BEGIN CERTIFICATE----- and so on")
	}
	return nil
}

// mirrorURL reads the URL of a mirror.
func mirrorURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err == nil && u.User != nil {
		return nil, errors.New("want it without user and password, which belong into registries, into the entry for the mirror's own host")
	}
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || strings.ContainsAny(text, "\"\\\n") {
		return nil, fmt.Errorf("%q: want a URL such as http://registry:5000", text)
	}
	return u, nil
}

func (v *validation) content(c Cluster) {
	for i, text := range c.AdditionalCACertificates {
		field := fmt.Sprintf("additionalCACertificates[%d]", i)
		if text == "" {
			v.fail(field, "is empty: want certificates as PEM")
		}
		v.pem(field, text)
	}
	for i, m := range c.Manifests {
		field := fmt.Sprintf("manifests[%d].content", i)
		if m.HostPath != "" {
			if m.Content != "" {
				v.fail(field, "there is a hostPath, too: want one of them")
			}
			v.check(fmt.Sprintf("manifests[%d].hostPath", i), m.HostPath, checkPath(m.HostPath))
			continue
		}
		objects, err := Objects("", m.Content)
		if err == nil && len(objects) == 0 {
			err = errors.New("there is nothing in it: want Kubernetes objects as YAML, or a hostPath")
		}
		for _, e := range split(err) {
			v.fail(field, "%v", e)
		}
	}
	for i, name := range c.Images {
		field := fmt.Sprintf("images[%d]", i)
		if path.IsAbs(name) {
			v.check(field, name, checkPath(name))
		} else if !imageName.MatchString(name) {
			v.fail(field, "%q: want the name of an image, or the absolute path of an archive", name)
		}
	}
	for i, what := range c.Start.WaitFor {
		field := fmt.Sprintf("start.waitFor[%d]", i)
		v.check(field, what, OneOf(what, WaitForImages, WaitForManifests))
		if names := c.ImageNames(); what == WaitForImages && len(names) > 0 {
			v.fail(field, "%s comes from the local Docker, which sends it when the cluster is ready: want paths of archives in images", names[0])
		}
	}
}

// ImageNames returns those of Images that are names.
func (c Cluster) ImageNames() []string { return slices.DeleteFunc(slices.Clone(c.Images), path.IsAbs) }

// ImageFiles returns those of Images that are paths.
func (c Cluster) ImageFiles() []string {
	return slices.DeleteFunc(slices.Clone(c.Images), func(name string) bool { return !path.IsAbs(name) })
}

// split takes apart what was joined.
func split(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var out []error
		for _, e := range joined.Unwrap() {
			out = append(out, split(e)...)
		}
		return out
	}
	if err == nil {
		return nil
	}
	return []error{err}
}

// hidden stands for a secret where a configuration is shown.
const hidden = "(hidden)"

// Hide returns the cluster without its passwords and keys, for people to read.
func (c Cluster) Hide() Cluster {
	c.Registries = maps.Clone(c.Registries)
	for name, r := range c.Registries {
		if r.Password != "" {
			r.Password = hidden
		}
		if r.ClientKey != "" {
			r.ClientKey = hidden
		}
		c.Registries[name] = r
	}
	return c
}

// Object is one object of a file of YAML documents.
type Object struct {
	// Source says where the object is written, for errors.
	Source                            string
	APIVersion, Kind, Namespace, Name string
	// JSON is the object.
	JSON json.RawMessage
}

// String names the object, and where it is written.
func (o Object) String() string {
	name := o.Name
	if o.Namespace != "" {
		name = o.Namespace + "/" + name
	}
	return fmt.Sprintf("%s: %s %s", o.Source, o.Kind, name)
}

// Objects returns the objects in a text of YAML documents, those in lists one by one. The error joins one for each document
// that is no object, with the source and the number of the document in front, from 1.
func Objects(source, text string) ([]Object, error) {
	if source != "" {
		source += ": "
	}
	var out []Object
	var errs []error
	for i, one := range Documents(text) {
		source := fmt.Sprintf("%sdocument %d", source, i+1)
		data, err := yaml.YAMLToJSONStrict([]byte(one))
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: not YAML: %w", source, err))
			continue
		}
		objects, err := parseObject(source, data)
		out, errs = append(out, objects...), append(errs, err)
	}
	return out, errors.Join(errs...)
}

// parseObject returns the objects in one document, which may be a list.
func parseObject(source string, data []byte) ([]Object, error) {
	var object struct {
		APIVersion, Kind string
		Metadata         struct{ Namespace, Name string }
		Items            []json.RawMessage
	}
	if err := json.Unmarshal(data, &object); err != nil {
		return nil, fmt.Errorf("%s: no Kubernetes object: %w", source, err)
	}
	switch {
	case object.APIVersion == "" || object.Kind == "":
		return nil, fmt.Errorf("%s: no Kubernetes object: want apiVersion and kind", source)
	case strings.HasSuffix(object.Kind, "List") && object.Items != nil:
		var out []Object
		var errs []error
		for i, item := range object.Items {
			objects, err := parseObject(fmt.Sprintf("%s: items[%d]", source, i), item)
			out, errs = append(out, objects...), append(errs, err)
		}
		return out, errors.Join(errs...)
	case object.Metadata.Name == "":
		return nil, fmt.Errorf("%s: %s has no metadata.name: want one, since what is applied again has to be found again", source, object.Kind)
	}
	return []Object{{source, object.APIVersion, object.Kind, object.Metadata.Namespace, object.Metadata.Name, data}}, nil
}
