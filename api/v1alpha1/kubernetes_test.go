package v1alpha1

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/dind-cluster/dind-cluster/internal/pki"
	"github.com/dind-cluster/dind-cluster/internal/strictyaml"
)

func number(n int) *int { return &n }

// authority returns a certificate and its key.
func authority(t *testing.T) (cert, key string) {
	t.Helper()
	ca, err := pki.NewCA("registry", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return string(ca.Cert), string(ca.Key)
}

func TestKubernetes(t *testing.T) {
	cert, key := authority(t)
	other, _ := authority(t)
	no := false
	for name, test := range map[string]struct {
		change func(*Cluster)
		// want are the mistakes, as field: part of the text.
		want []string
	}{
		"everything": {func(c *Cluster) {
			c.Kubernetes = Kubernetes{
				Logging:   Logging{Verbosity: number(4), Format: "json"},
				APIServer: Component{ExtraArgs: ExtraArgs{{"service-account-issuer", "a"}, {"service-account-issuer", "b"}}, Logging: Logging{Verbosity: number(10)}},
				Admission: Admission{
					EnablePlugins: []string{"AlwaysPullImages"}, DisablePlugins: []string{"NodeRestriction"},
					Configuration: "{apiVersion: apiserver.config.k8s.io/v1, kind: AdmissionConfiguration, plugins: [{name: PodSecurity, configuration: {kind: X}}]}",
				},
				Audit:                      Audit{Policy: "{apiVersion: audit.k8s.io/v1, kind: Policy, rules: [{level: Metadata}]}"},
				Tracing:                    Tracing{Endpoint: "10.250.0.1:4317", SamplingRatePerMillion: number(10)},
				EmulatedVersion:            "1.36",
				EmulationForwardCompatible: true, EncryptionAlgorithm: "RSA-3072",
			}
			c.Etcd.ExtraArgs = ExtraArgs{{"log-level", "debug"}}
			c.Registries = map[string]Registry{
				"*": {Mirrors: []string{"https://cache.example/v2/all"}}, "docker.io": {Mirrors: []string{"http://a:5000", "https://b"}, Username: "a", Password: "b"},
				"b": {CACertificates: cert + other, ClientCertificate: cert, ClientKey: key}, "c:80": {PlainHTTP: true}, "d": {Insecure: true},
			}
			c.AdditionalCACertificates = []string{cert, cert + other}
			c.Manifests = []Manifest{{Content: "{apiVersion: v1, kind: Namespace, metadata: {name: a}}"}, {HostPath: "/srv/manifests"}}
			c.Images = []string{"/srv/x.tar"}
			c.Start.WaitFor = []string{"images", "manifests"}
		}, nil},
		"flags": {func(c *Cluster) {
			c.Kubernetes.APIServer.ExtraArgs = ExtraArgs{{"--v", "4"}, {"", ""}, {"secure-port", "1"}, {"service-cluster-ip-range", "x"}, {"x", "a\nb"}}
			c.Kubernetes.Kubelet.ExtraArgs = ExtraArgs{{"hostname-override", "x"}}
			c.Etcd.ExtraArgs = ExtraArgs{{"data-dir", "/x"}}
		}, []string{
			"kubernetes.apiServer.extraArgs.--v: want the flag without dashes, v",
			`kubernetes.apiServer.extraArgs[""]: want the name of a flag`,
			"kubernetes.apiServer.extraArgs.secure-port: with another value the cluster does not come up: the nodes expect the API server there",
			"kubernetes.apiServer.extraArgs.service-cluster-ip-range: with another value the cluster does not come up: set networking.serviceSubnet",
			"kubernetes.apiServer.extraArgs.x: want a single line",
			"kubernetes.kubelet.extraArgs.hostname-override: ", "etcd.extraArgs.data-dir: ",
		}},
		"logging": {func(c *Cluster) {
			c.Kubernetes.Logging = Logging{Verbosity: number(11), Format: "xml"}
			c.Kubernetes.KubeProxy.Logging.Verbosity = number(-1)
		}, []string{"kubernetes.logging.verbosity: 11: want a whole number from 0 to 10", `kubernetes.logging.format: "xml": want text or json`, "kubernetes.kubeProxy.logging.verbosity: -1"}},
		"admission": {func(c *Cluster) {
			c.Kubernetes.Admission = Admission{EnablePlugins: []string{"AlwaysPullImage", "Mine", "Priority"}, DisablePlugins: []string{"Priority"}, Configuration: "kind: Policy"}
		}, []string{
			`enablePlugins[0]: "AlwaysPullImage": no such admission plugin: did you mean AlwaysPullImages?`, `enablePlugins[1]: "Mine": no such admission plugin: there are AlwaysAdmit,`,
			`disablePlugins[0]: "Priority" is in enablePlugins, too`, `admission.configuration: kind: "Policy": want AdmissionConfiguration`,
		}},
		"a file of the API server's": {func(c *Cluster) {
			c.Kubernetes.Admission.Configuration = "{apiVersion: apiserver.config.k8s.io/v1, kind: AdmissionConfiguration, plugins: [{name: EventRateLimit, path: /x}]}"
		}, []string{"kubernetes.admission.configuration: plugins[0].path: /x is no file"}},
		"audit": {func(c *Cluster) { c.Kubernetes.Audit = Audit{Enabled: &no, Policy: "a: ["} }, []string{"kubernetes.audit.enabled: false, and", "kubernetes.audit.policy: not YAML"}},
		"tracing": {func(c *Cluster) {
			c.Kubernetes.Tracing = Tracing{Endpoint: "http://a:4317/", SamplingRatePerMillion: number(2_000_000)}
		}, []string{"kubernetes.tracing.endpoint: ", "kubernetes.tracing.samplingRatePerMillion: 2000000: want"}},
		"tracing to nowhere": {func(c *Cluster) { c.Kubernetes.Tracing = Tracing{SamplingRatePerMillion: number(1)} }, []string{"samplingRatePerMillion: there is no kubernetes.tracing.endpoint"}},
		"versions": {func(c *Cluster) {
			c.Kubernetes.EmulatedVersion, c.Kubernetes.EncryptionAlgorithm = "v1.36.1", "DSA"
		}, []string{`kubernetes.emulatedVersion: "v1.36.1": want a minor version`, `kubernetes.encryptionAlgorithm: "DSA": want ECDSA-P256 or`}},
		"compatible to nothing": {func(c *Cluster) { c.Kubernetes.EmulationForwardCompatible = true }, []string{"emulationForwardCompatible: there is no kubernetes.emulatedVersion"}},
		"registries": {func(c *Cluster) {
			c.Registries = map[string]Registry{
				"https://a": {Mirrors: []string{"a:5000", "https://u:secret@b"}}, "b": {PlainHTTP: true, Insecure: true}, "c": {Insecure: true, CACertificates: cert},
				"d": {ClientKey: key}, "e": {ClientCertificate: other, ClientKey: key}, "f": {Username: "a"}, "*": {Username: "a", Password: "b"},
				"g": {CACertificates: "secret"}, "h": {CACertificates: key},
			}
		}, []string{
			`registries["https://a"]: "https://a": want a registry such as docker.io`, `registries["https://a"].mirrors[0]: "a:5000": want a URL`, `registries["https://a"].mirrors[1]: want it without user and password`,
			"registries.b.plainHTTP: ", "registries.c.insecure: ", "registries.d.clientCertificate: want clientCertificate and clientKey", "registries.e.clientCertificate: with clientKey: ",
			"registries.f.username: want username and password", `registries["*"]: all other registries cannot`,
			"registries.g.caCertificates: want certificates as PEM", "registries.h.caCertificates: EC PRIVATE KEY: want certificates",
		}},
		"names": {func(c *Cluster) {
			c.Images, c.Start.WaitFor = []string{"registry.example:5000/a/b:c@sha256:0", "/a.tar"}, []string{"manifests", "images"}
		}, []string{"start.waitFor[1]: registry.example:5000/a/b:c@sha256:0 comes from the local Docker"}},
		"content": {func(c *Cluster) {
			c.AdditionalCACertificates = []string{"", "x"}
			c.Manifests = []Manifest{{}, {Content: "a: b\n---\n{apiVersion: v1, kind: Pod}"}, {Content: "x", HostPath: "/x"}, {HostPath: "x"}}
			c.Images = []string{"/srv/../x", "a b"}
			c.Start.WaitFor = []string{"image"}
		}, []string{
			"additionalCACertificates[0]: is empty", "additionalCACertificates[1]: want certificates as PEM", "manifests[0].content: there is nothing in it",
			"manifests[1].content: document 1: no Kubernetes object: want apiVersion and kind", "manifests[1].content: document 2: Pod has no metadata.name",
			"manifests[2].content: there is a hostPath, too", `manifests[3].hostPath: "x": want an absolute path`,
			`images[0]: "/srv/../x": want it in its shortest form`, `images[1]: "a b": want the name of an image`, `start.waitFor[0]: "image": want images or manifests`,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			c := Default()
			test.change(&c)
			got := split(c.Validate())
			if len(got) != len(test.want) {
				t.Errorf("got %d mistakes, want %d:\n%v", len(got), len(test.want), errors.Join(got...))
			}
			for _, want := range test.want {
				found := false
				for _, err := range got {
					var e *strictyaml.Error
					found = found || errors.As(err, &e) && strings.Contains(err.Error(), want)
				}
				if !found {
					t.Errorf("got\n%v\nwant %q", errors.Join(got...), want)
				}
			}
			if text := errors.Join(got...); text != nil && strings.Contains(text.Error(), "secret") {
				t.Errorf("a password is in the error: %v", text)
			}
		})
	}
}

// A mirror is reached as its own entry says.
func TestRegistries(t *testing.T) {
	all := map[string]Registry{
		"docker.io":    {Mirrors: []string{"https://cache:5000/v2/hub", "http://plain:5000"}, Username: "me", Password: "pass"},
		"cache:5000":   {CACertificates: "the authority", ClientCertificate: "cert", ClientKey: "key"},
		"plain:5000":   {PlainHTTP: true},
		"self:443":     {Insecure: true},
		"private.test": {Username: "you", Password: "word"},
	}
	config, files, err := PatchContainerd([]byte("version = 4\n"), []string{
		"[plugins.\"io.containerd.cri.v1.images\".registry.mirrors.\"self:443\"]\nendpoint = [\"https://cache:5000\"]",
	}, all)
	if err != nil {
		t.Fatal(err)
	}
	const tls = "ca = \"/etc/containerd/certs.d/cache:5000/ca.pem\"\nclient = [[\"/etc/containerd/certs.d/cache:5000/client.pem\", \"/etc/containerd/certs.d/cache:5000/client-key.pem\"]]\n"
	for path, want := range map[string]string{
		"docker.io/hosts.toml":      "[host.\"https://cache:5000/v2/hub\"]\noverride_path = true\n" + tls + "[host.\"http://plain:5000\"]\n",
		"cache:5000/hosts.toml":     tls,
		"cache:5000/ca.pem":         "the authority",
		"cache:5000/client.pem":     "cert",
		"cache:5000/client-key.pem": "key",
		"plain:5000/hosts.toml":     "server = \"http://plain:5000\"\n",
		"self:443/hosts.toml":       "skip_verify = true\n[host.\"https://cache:5000\"]\n" + tls,
	} {
		if got := string(files[path]); got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", path, got, want)
		}
		delete(files, path)
	}
	if len(files) > 0 {
		t.Errorf("there is more: %q", files)
	}
	for _, want := range []string{
		"[plugins.'io.containerd.cri.v1.images'.registry.configs.'registry-1.docker.io'.auth]\npassword = 'pass'\nusername = 'me'\n",
		"[plugins.'io.containerd.cri.v1.images'.registry.configs.'private.test'.auth]\npassword = 'word'\nusername = 'you'\n",
	} {
		if !strings.Contains(string(config), want) {
			t.Errorf("got\n%s\nwant\n%s", config, want)
		}
	}
}

func TestHide(t *testing.T) {
	c := Default()
	c.Registries = map[string]Registry{"a": {Username: "me", Password: "secret", ClientKey: "secret"}, "b": {}}
	shown := c.Hide()
	if r := shown.Registries["a"]; r.Username != "me" || r.Password != "(hidden)" || r.ClientKey != "(hidden)" || shown.Registries["b"].Password != "" {
		t.Errorf("got %+v", shown.Registries)
	}
	if c.Registries["a"].Password != "secret" {
		t.Error("the cluster itself has lost it")
	}
}
