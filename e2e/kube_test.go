package e2e

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/cluster/host"
	"github.com/dind-cluster/dind-cluster/image/imagetest"
	"github.com/dind-cluster/dind-cluster/internal/pki"
	"github.com/dind-cluster/dind-cluster/tools/publisher/registrytest"
)

// kubeCluster has everything that can be said of Kubernetes' components, registries, manifests and images, for a test of each. Words in
// capitals stand for what the test knows.
const kubeCluster = `
apiVersion: dind-cluster.github.io/v1alpha1
kind: Cluster
nodes: [{role: control-plane}, {role: worker}]
kubernetes:
  logging: {format: json, verbosity: 1}
  apiServer: {extraArgs: {event-ttl: 2h0m0s}, logging: {verbosity: 2}}
  controllerManager: {extraArgs: [{name: node-monitor-period, value: 4s}]}
  kubelet: {extraArgs: {max-pods: 60}}
  admission:
    enablePlugins: [DenyServiceExternalIPs]
    configuration: |
      apiVersion: apiserver.config.k8s.io/v1
      kind: AdmissionConfiguration
      plugins:
      - name: PodSecurity
        configuration:
          apiVersion: pod-security.admission.config.k8s.io/v1
          kind: PodSecurityConfiguration
          defaults: {enforce: baseline, enforce-version: latest}
          exemptions: {namespaces: [kube-system]}
  audit: {enabled: true}
  tracing: {endpoint: "COLLECTOR"}
  emulatedVersion: "EMULATED"
  encryptionAlgorithm: ECDSA-P384
etcd: {extraArgs: {snapshot-count: 5000}}
registries:
  registry.example: {mirrors: ["https://PRIVATE"]}
  PRIVATE:
    caCertificates: PRIVATE-CA
    clientCertificate: CLIENT-CERT
    clientKey: CLIENT-KEY
    username: USERNAME
    password: PASSWORD
  other.example: {mirrors: ["https://nowhere.example:1", "https://TRUSTED"]}
  INSECURE: {insecure: true}
  PLAIN: {plainHTTP: true}
additionalCACertificates: [TRUSTED-CA]
manifests:
- name: things
  content: |
    apiVersion: example.org/v1
    kind: Thing
    metadata: {name: one, namespace: things}
    spec: {size: 3}
    ---
    apiVersion: apiextensions.k8s.io/v1
    kind: CustomResourceDefinition
    metadata: {name: things.example.org}
    spec:
      group: example.org
      scope: Namespaced
      names: {plural: things, singular: thing, kind: Thing}
      versions:
      - name: v1
        served: true
        storage: true
        schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {size: {type: integer}}}}}}
    ---
    {apiVersion: v1, kind: Namespace, metadata: {name: things}}
- hostPath: MANIFESTS
images: [ARCHIVE, NAMED]
start: {waitFor: [manifests]}
`

// TestKube has one cluster with all of kubeCluster.
func TestKube(t *testing.T) {
	ctx, m := newMachine(t)
	network, gateway := m.network(ctx, t)
	app := m.apps(ctx, t)
	dir := t.TempDir()
	archive, manifests := filepath.Join(dir, "app.tar"), filepath.Join(dir, "manifests")
	named := m.run + "/named:1"
	for file, images := range map[string]map[string]v1.Image{
		archive: {"archive.example/app:1": app("archive")}, filepath.Join(dir, "named.tar"): {named: app("named")},
	} {
		if err := os.WriteFile(file, imagetest.Save(t, images), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.launcher.Docker.Do(ctx, "load an image", "load", "--quiet", "--input", filepath.Join(dir, "named.tar")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := cleanup(t)
		defer cancel()
		if err := m.launcher.Docker.Do(ctx, "remove an image", "rmi", named); err != nil {
			t.Error(err)
		}
	})
	if err := os.Mkdir(manifests, 0o755); err != nil {
		t.Fatal(err)
	}
	writeManifest := func(name, text string) {
		if err := os.WriteFile(filepath.Join(manifests, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	writeManifest("a.yaml", "{apiVersion: v1, kind: ConfigMap, metadata: {name: first}, data: {is: there}}")

	// Four registries, each of which wants something else of those who come.
	known, err := pki.NewCA("clients", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	client, err := known.NewClient("nodes", nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	serve := func(label string, o registrytest.Options, secure bool, clients []byte) (registry *registrytest.Server, host, certificate string) {
		registry = registrytest.New(t, o)
		push(ctx, t, registry, app(label))
		host, certificate = serveAt(t, gateway, registry, secure, clients)
		return registry, host, certificate
	}
	private, privateHost, privateCA := serve("private", registrytest.Options{Basic: true}, true, known.Cert)
	_, trustedHost, trustedCA := serve("trusted", registrytest.Options{}, true, nil)
	_, insecureHost, _ := serve("insecure", registrytest.Options{}, true, nil)
	_, plainHost, _ := serve("plain", registrytest.Options{}, false, nil)
	traces := listenForTraces(t, gateway)

	o := m.options(t, "kube", 0)
	o.RunArgs = []string{"--network", network}
	quote := strconv.Quote
	o.Config = &host.ConfigFile{Name: "kube.yaml", Data: []byte(strings.NewReplacer(
		"COLLECTOR", traces.address, "EMULATED", m.before(ctx, t),
		"PRIVATE-CA", quote(privateCA), "CLIENT-CERT", quote(string(client.Cert)), "CLIENT-KEY", quote(string(client.Key)), "PRIVATE", privateHost,
		"USERNAME", registrytest.User, "PASSWORD", quote(registrytest.Password),
		"TRUSTED-CA", quote(trustedCA), "TRUSTED", trustedHost, "INSECURE", insecureHost, "PLAIN", plainHost,
		"MANIFESTS", manifests, "ARCHIVE", archive, "NAMED", named,
	).Replace(kubeCluster))}
	b := m.create(ctx, t, o)

	step := t.Run
	step("flags", func(t *testing.T) { testFlags(ctx, t, b) })
	step("logs", func(t *testing.T) { testFormat(ctx, t, b) })
	step("admission", func(t *testing.T) { testAdmission(ctx, t, b) })
	step("audit", func(t *testing.T) { testAudit(ctx, t, b) })
	step("tracing", func(t *testing.T) {
		select {
		case <-traces.came:
		case <-time.After(b.patience * 30 * time.Second):
			t.Error("nobody has sent traces")
		}
	})
	step("manifests", func(t *testing.T) {
		if got := b.kubectl(ctx, t, "get", "--namespace=things", "thing/one", "--output=jsonpath={.spec.size}"); got != "3" {
			t.Errorf("its size is %q", got)
		}
		if got := b.kubectl(ctx, t, "get", "configmap/first", "--output=jsonpath={.data.is}"); got != "there" {
			t.Errorf("the ConfigMap says %q", got)
		}
	})
	step("images", func(t *testing.T) {
		pods := []struct{ name, image, policy, node string }{
			{"mirror", "registry.example/app:1", "Always", "worker1"},
			{"trusted", "other.example/app:1", "Always", "worker1"},
			{"insecure", insecureHost + "/app:1", "Always", "worker1"},
			{"plain", plainHost + "/app:1", "Always", "worker1"},
			{"archive", "archive.example/app:1", "Never", "worker1"},
			{"named", named, "Never", "control-plane"},
		}
		for _, p := range pods {
			overrides := fmt.Sprintf(`{"spec": {"nodeName": %q, "tolerations": [{"operator": "Exists"}]}}`, p.node)
			b.kubectl(ctx, t, "run", p.name, "--image="+p.image, "--image-pull-policy="+p.policy, "--restart=Never", "--overrides="+overrides)
		}
		for _, p := range pods {
			if _, err := b.launcher.Docker.Exec(ctx, b.name, "kubectl", "wait", "pod/"+p.name, "--for=jsonpath={.status.phase}=Succeeded",
				fmt.Sprintf("--timeout=%v", b.patience*30*time.Second)); err != nil {
				t.Errorf("%s: %v\n%s", p.image, err, b.kubectl(ctx, t, "describe", "pod", p.name))
			}
		}
		if asked := private.Requests(); !slices.ContainsFunc(asked, func(r string) bool { return strings.HasPrefix(r, "GET /v2/app/manifests/") }) {
			t.Errorf("the mirror was asked %q", asked)
		}
	})
	step("secrets", func(t *testing.T) {
		shown := b.exec(ctx, t, "runner", "config")
		if !strings.Contains(shown, "password: (hidden)") || !strings.Contains(shown, "username: "+registrytest.User) {
			t.Error("runner config does not show that there is a password")
		}
		for where, text := range map[string]string{"runner config": shown, "docker logs": b.log(ctx, t), "runner logs": b.exec(ctx, t, "runner", "logs")} {
			for _, secret := range []string{registrytest.Password, strings.Split(string(client.Key), "\n")[1]} {
				if strings.Contains(text, secret) {
					t.Errorf("%s shows %q", where, secret)
				}
			}
		}
		if got := b.inNode(ctx, t, "find", "/etc/containerd", "/etc/kubernetes/apiserver", "-type", "f", "-perm", "/077"); got != "" {
			t.Errorf("others may read %s", got)
		}
	})
	step("start with the same manifests", func(t *testing.T) {
		b.kubectl(ctx, t, "delete", "configmap/first")
		b.exec(ctx, t, "systemctl", "restart", "dind-cluster.service")
		b.waitFor(ctx, t, "a start with the same manifests", func() error {
			if !strings.Contains(b.log(ctx, t), "applying manifests: as at a start before") {
				return errors.New("the log does not say that they were applied before")
			}
			return nil
		})
		if _, err := b.launcher.Docker.Exec(ctx, b.name, "kubectl", "get", "configmap/first"); err == nil {
			t.Error("what was deleted is there again")
		}
	})
	step("restart with other manifests", func(t *testing.T) {
		// Without waiting for them, a mistake leaves the cluster running, and unhealthy.
		writeManifest("a.yaml", "{apiVersion: v1, kind: ConfigMap, metadata: {name: second}}\n---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: third}, dada: {}}")
		config := bytes.Replace(o.Config.Data, []byte("start: {waitFor: [manifests]}"), []byte("start: {waitFor: []}"), 1)
		if _, err := b.launcher.Docker.ExecInput(ctx, b.name, bytes.NewReader(config), "sh", "-c", "cat > /etc/dind-cluster/config.yaml"); err != nil {
			t.Fatal(err)
		}
		if err := b.launcher.Docker.Stop(ctx, b.name, 30*time.Second); err != nil {
			t.Fatal(err)
		}
		if err := b.launcher.Docker.Start(ctx, b.name); err != nil {
			t.Fatal(err)
		}
		const want = "not all is there that was asked for: applying manifests: "
		health := ""
		for deadline := time.Now().Add(b.patience * time.Minute); !strings.Contains(health, want); time.Sleep(100 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("runner health says %q", health)
			}
			health = ""
			if _, err := b.launcher.Docker.Exec(ctx, b.name, "runner", "health"); err != nil {
				health = err.Error()
			}
		}
		if !strings.Contains(health, "a.yaml: document 2: ConfigMap third: ") || !strings.Contains(health, "dada") {
			t.Errorf("runner health says %q", health)
		}
		if _, err := b.launcher.Docker.Exec(ctx, b.name, "runner", "health", "--of=api"); err != nil {
			t.Error(err)
		}
		b.kubectl(ctx, t, "get", "configmap/second")
	})
}

// apps returns a function that makes images whose program, the runner of the image under test, ends at once. Each has nothing in
// common with the others.
func (m *machine) apps(ctx context.Context, t *testing.T) func(label string) v1.Image {
	t.Helper()
	ref, err := m.image.Send(ctx)
	if err != nil {
		t.Fatal(err)
	}
	program, err := m.launcher.Docker.Output(ctx, "read the runner", "run", "--rm", "--name", m.run+"-program", "--entrypoint", "cat", ref, "/usr/bin/runner")
	if err != nil {
		t.Fatal(err)
	}
	return func(label string) v1.Image {
		var archive bytes.Buffer
		w := tar.NewWriter(&archive)
		for _, file := range []struct {
			name string
			data []byte
		}{{"label", []byte(label)}, {"app", program}} {
			if err := w.WriteHeader(&tar.Header{Name: file.name, Mode: 0o755, Size: int64(len(file.data))}); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(file.data); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive.Bytes())), nil })
		if err != nil {
			t.Fatal(err)
		}
		img, err := mutate.AppendLayers(empty.Image, layer)
		if err != nil {
			t.Fatal(err)
		}
		config, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		config = config.DeepCopy()
		config.OS, config.Architecture, config.Config = "linux", runtime.GOARCH, v1.Config{Entrypoint: []string{"/app", "version"}}
		if img, err = mutate.ConfigFile(img, config); err != nil {
			t.Fatal(err)
		}
		return img
	}
}

// before returns the minor version of Kubernetes before that of the image under test.
func (m *machine) before(ctx context.Context, t *testing.T) string {
	t.Helper()
	ref, err := m.image.Send(ctx)
	if err != nil {
		t.Fatal(err)
	}
	out, err := m.launcher.Docker.Output(ctx, "read the version of Kubernetes", "run", "--rm", "--name", m.run+"-version", "--entrypoint", "kubectl", ref,
		"version", "--client", "--output=json")
	if err != nil {
		t.Fatal(err)
	}
	var version struct{ ClientVersion struct{ GitVersion string } }
	decode(t, string(out), &version)
	minor := 0
	if _, err := fmt.Sscanf(version.ClientVersion.GitVersion, "v1.%d.", &minor); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return fmt.Sprintf("1.%d", minor-1)
}

// push sends an image to a registry, as app:1.
func push(ctx context.Context, t *testing.T, registry *registrytest.Server, img v1.Image) {
	t.Helper()
	ref, err := name.ParseReference(registry.Host + "/app:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img, remote.WithContext(ctx), remote.WithAuth(&authn.Basic{Username: registrytest.User, Password: registrytest.Password})); err != nil {
		t.Fatal(err)
	}
	registry.Requests()
}

// serveAt serves something at an address of the Docker host, perhaps with a certificate for it that nobody knows, and for none but
// clients of an authority.
func serveAt(t *testing.T, address string, handler http.Handler, secure bool, clients []byte) (host, certificate string) {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(handler)
	server.Listener.Close()
	server.Listener = listener
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	if !secure {
		server.Start()
		return listener.Addr().String(), ""
	}
	pair, err := pki.NewSelfSigned("registry", []net.IP{net.ParseIP(address)}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	certified, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certified}}
	if clients != nil {
		server.TLS.ClientAuth, server.TLS.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		server.TLS.ClientCAs.AppendCertsFromPEM(clients)
	}
	server.StartTLS()
	return listener.Addr().String(), string(pair.Cert)
}

// traces is where components send their traces.
type traces struct {
	address string
	came    chan struct{}
}

// listenForTraces waits for a client that speaks HTTP/2, as gRPC is.
func listenForTraces(t *testing.T, address string) traces {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	out := traces{listener.Addr().String(), make(chan struct{})}
	go func() {
		came := false
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
			line, _ := bufio.NewReader(conn).ReadString('\n')
			conn.Close()
			if line == "PRI * HTTP/2.0\r\n" && !came {
				came = true
				close(out.came)
			}
		}
	}()
	return out
}

func testFlags(ctx context.Context, t *testing.T, b *box) {
	for process, wants := range map[string][]string{
		"kube-apiserver":          {"--event-ttl=2h0m0s", "--v=2", "--enable-admission-plugins=NodeRestriction,DenyServiceExternalIPs"},
		"kube-controller-manager": {"--node-monitor-period=4s", "--v=1", "--logging-format=json"},
		"kube-scheduler":          {"--v=1"},
		"etcd":                    {"--snapshot-count=5000", "--enable-distributed-tracing=true"},
		"kubelet":                 {"--max-pods=60"},
	} {
		line := b.inNode(ctx, t, "sh", "-c", `tr '\0' ' ' < /proc/$(pidof `+process+`)/cmdline`)
		for _, want := range wants {
			if !strings.Contains(line, want+" ") {
				t.Errorf("%s was started as %s, want %s", process, line, want)
			}
		}
	}
	var version struct {
		ServerVersion struct{ Minor, EmulationMinor string }
	}
	decode(t, b.kubectl(ctx, t, "version", "--output=json"), &version)
	var minor, emulated int
	_, err1 := fmt.Sscan(version.ServerVersion.Minor, &minor)
	_, err2 := fmt.Sscan(version.ServerVersion.EmulationMinor, &emulated)
	if errors.Join(err1, err2) != nil || emulated != minor-1 {
		t.Errorf("the API server has the version %+v", version)
	}
	for _, cert := range []string{"ca.crt", "apiserver.crt"} {
		if text := b.inNode(ctx, t, "openssl", "x509", "-noout", "-text", "-in", "/etc/kubernetes/pki/"+cert); !strings.Contains(text, "(384 bit)") {
			t.Errorf("%s is\n%s", cert, text)
		}
	}
}

// testFormat reads a line of JSON in the log of each component.
func testFormat(ctx context.Context, t *testing.T, b *box) {
	check := func(component, log string) {
		for line := range strings.Lines(log) {
			var entry struct{ TS float64 }
			if json.Unmarshal([]byte(line), &entry) == nil && entry.TS > 0 {
				return
			}
		}
		t.Errorf("%s has no JSON in its log:\n%s", component, log)
	}
	for _, component := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler"} {
		check(component, b.kubectl(ctx, t, "logs", "--namespace=kube-system", component+"-control-plane", "--tail=50"))
	}
	check("kube-proxy", b.kubectl(ctx, t, "logs", "--namespace=kube-system", "--selector=k8s-app=kube-proxy", "--tail=50"))
	check("kubelet", b.exec(ctx, t, "docker", "exec", "worker1", "journalctl", "--unit=kubelet", "--output=cat", "--lines=100"))
}

func testAdmission(ctx context.Context, t *testing.T, b *box) {
	for what, test := range map[string]struct{ object, want string }{
		"plugin":        {"{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {ports: [{port: 1}], externalIPs: [192.0.2.1]}}", "Use of external IPs is denied by admission control"},
		"configuration": {"{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {hostNetwork: true, containers: [{name: c, image: i}]}}", `violates PodSecurity "baseline:latest"`},
	} {
		if _, err := b.launcher.Docker.ExecInput(ctx, b.name, strings.NewReader(test.object), "kubectl", "create", "--filename=-"); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", what, err, test.want)
		}
	}
}

// testAudit looks for a request in the audit log, in the node and among the logs.
func testAudit(ctx context.Context, t *testing.T, b *box) {
	b.kubectl(ctx, t, "create", "configmap", "audited")
	has := func(log string) bool {
		for line := range strings.Lines(log) {
			var event struct {
				Kind, Verb string
				ObjectRef  struct{ Resource, Name string }
			}
			if err := json.Unmarshal([]byte(line), &event); err != nil || event.Kind != "Event" {
				t.Errorf("%v in %s", err, line)
				return false
			}
			if event.ObjectRef.Resource == "leases" {
				t.Errorf("there is %s, which the policy leaves out", line)
			}
			if event.Verb == "create" && event.ObjectRef.Name == "audited" {
				return true
			}
		}
		return false
	}
	if !has(b.inNode(ctx, t, "cat", "/var/log/kubernetes/kube-apiserver-audit.log")) {
		t.Error("the request is not in the log")
	}
	files := tar.NewReader(strings.NewReader(b.exec(ctx, t, "runner", "logs")))
	for {
		header, err := files.Next()
		if err != nil {
			t.Fatalf("runner logs: %v before the audit log", err)
		}
		if header.Name == "control-plane/kubernetes/kube-apiserver-audit.log" {
			log, err := io.ReadAll(files)
			if err != nil {
				t.Fatal(err)
			}
			if !has(string(log)) {
				t.Error("the request is not in the log that runner logs has")
			}
			return
		}
	}
}

// TestKubeAlgorithms has a cluster by each algorithm of its keys. It takes minutes.
func TestKubeAlgorithms(t *testing.T) {
	ctx, m := newMachine(t)
	bits := map[string]string{"ECDSA-P256": "(256 bit)", "ECDSA-P384": "(384 bit)", "RSA-2048": "(2048 bit)", "RSA-3072": "(3072 bit)", "RSA-4096": "(4096 bit)"}
	for _, algorithm := range v1alpha1.EncryptionAlgorithms {
		t.Run(algorithm, func(t *testing.T) {
			o := m.options(t, strings.ToLower(algorithm), 1)
			o.Config = &host.ConfigFile{Name: "kube.yaml", Data: fmt.Appendf(nil,
				"apiVersion: dind-cluster.github.io/v1alpha1\nkind: Cluster\nkubernetes: {encryptionAlgorithm: %s}\n", algorithm)}
			b := m.create(ctx, t, o)
			// Of kubeadm, of the runner, and what signs tokens: with one of them a pod reaches the API server.
			for _, file := range []string{"ca.crt", "apiserver.crt", "etcd/ca.crt", "front-proxy-client.crt"} {
				if text := b.inNode(ctx, t, "openssl", "x509", "-noout", "-text", "-in", "/etc/kubernetes/pki/"+file); !strings.Contains(text, bits[algorithm]) {
					t.Errorf("%s is\n%s", file, text)
				}
			}
			if text := b.inNode(ctx, t, "openssl", "pkey", "-pubin", "-noout", "-text", "-in", "/etc/kubernetes/pki/sa.pub"); !strings.Contains(text, bits[algorithm]) {
				t.Errorf("sa.pub is\n%s", text)
			}
			token := strings.TrimSpace(b.kubectl(ctx, t, "create", "token", "default"))
			if who := b.kubectl(ctx, t, "--token="+token, "--kubeconfig=/dev/null", "--server=https://127.0.0.1:6443", "--insecure-skip-tls-verify", "auth", "whoami", "--output=jsonpath={.status.userInfo.username}"); who != "system:serviceaccount:default:default" {
				t.Errorf("the token is of %q", who)
			}
			m.remove(t, b.name)
		})
	}
}
