package cli

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/dind-cluster/dind-cluster/image"
	"github.com/dind-cluster/dind-cluster/image/imagetest"
	"github.com/dind-cluster/dind-cluster/internal/cli"
	"github.com/dind-cluster/dind-cluster/tools/publisher/registry"
	"github.com/dind-cluster/dind-cluster/tools/publisher/registrytest"
)

// programVariable makes the test program the publisher, for tests that need a process of its own.
const programVariable = "PUBLISHER_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(programVariable) != "" {
		cli.Exit(func(ctx context.Context) int { return Main(ctx, os.Args[1:], os.Stdout, os.Stderr) })
	}
	// No credentials of the user's own take part.
	for _, name := range []string{registry.UsernameVariable, registry.PasswordVariable, "DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME",
		"BUILD_WORKSPACE_DIRECTORY", "BUILD_WORKING_DIRECTORY", argsVariable} {
		os.Unsetenv(name)
	}
	home, err := os.MkdirTemp("", "publisher")
	if err != nil {
		panic(err)
	}
	os.Setenv("HOME", home)
	status := m.Run()
	os.RemoveAll(home)
	os.Exit(status)
}

// describe writes the description of an image's files.
func describe(t testing.TB, files *image.Files) string {
	t.Helper()
	text, err := json.Marshal(files)
	if err != nil {
		t.Fatal(err)
	}
	return writeFile(t, "image.json", string(text))
}

func writeFile(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// family are the arguments for two images, one on the other, with SBOMs.
func family(t testing.TB, layer string) []string {
	t.Helper()
	base := imagetest.New(t, imagetest.Spec{Name: "base:trixie", Layers: []string{"debian"}})
	node := imagetest.New(t, imagetest.Spec{Name: "node:v1.37.2", Base: base, Layers: []string{layer}})
	sbom := writeFile(t, "spdx.json", `{"spdxVersion":"SPDX-2.3"}`)
	return []string{"--image", describe(t, base), "--image", describe(t, node), "--sbom-file", "node=" + sbom, "--sibling", "cluster"}
}

func start(t testing.TB, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	status = Main(t.Context(), args, &out, &errs)
	return status, out.String(), errs.String()
}

func TestUsage(t *testing.T) {
	images := family(t, "x")
	for _, c := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"--help"}, 0, "--registry"},
		{nil, statusUsage, "--registry registry.example.com/team"},
		{[]string{"--registry", ""}, statusUsage, "no registry"},
		{[]string{"--registry", "team"}, statusUsage, "docker.io/team"},
		{[]string{"--registry", "localhost:1/Team"}, statusUsage, "lowercase"},
		{[]string{"--registry", "me:hunter2@localhost:1/team"}, statusUsage, "docker login"},
		{[]string{"--registry", "localhost:1", "--tag", "-x"}, statusUsage, `--tag: "-x" is not a tag`},
		{[]string{"--registry", "localhost:1", "--tag", "a", "--tag", "a"}, statusUsage, "twice"},
		{[]string{"--registry", "localhost:1", "--tag", ""}, statusUsage, `"" is not a tag`},
		{[]string{"--registry", "localhost:1", "--timeout", "0"}, statusUsage, "--timeout"},
		{[]string{"--registry", "localhost:1", "--timeout", "soon"}, statusUsage, `"soon" for "--timeout"`},
		{[]string{"--registry", "localhost:1", "--jobs", "0"}, statusUsage, "--jobs"},
		{[]string{"--registry", "localhost:1", "--frobnicate"}, statusUsage, "unknown flag: --frobnicate"},
		{[]string{"--registry", "localhost:1", "now"}, statusUsage, `unexpected argument "now"`},
		{[]string{"--registry", "localhost:1", "--sbom-file", "x"}, statusUsage, "NAME=FILE"},
		{[]string{"--registry", "localhost:1", "--sbom-file", "node=/no/such/file"}, statusError, "/no/such/file"},
		{[]string{"--registry", "localhost:1", "--ca-file", "/no/such/file"}, statusError, "/no/such/file"},
		{[]string{"--registry", "localhost:1", "--ca-file", "/dev/null"}, statusError, "PEM"},
		{[]string{"--registry", "localhost:1", "--digest-file", "/no/such/folder/file"}, statusError, "/no/such/folder"},
		{[]string{"--registry", "localhost:1", "--digest-file", "/dev"}, statusError, "/dev is not a file"},
		{[]string{"--registry", "localhost:1", "--image", "/no/such/image"}, statusError, "/no/such/image"},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			status, stdout, stderr := start(t, append(images[:len(images):len(images)], c.args...)...)
			if status != c.status || !strings.Contains(stdout+stderr, c.want) {
				t.Errorf("status %d, want %d; %q, want %q in it", status, c.status, stdout+stderr, c.want)
			}
			if strings.Contains(stderr, "hunter2") {
				t.Errorf("it shows the password: %s", stderr)
			}
			if status == statusUsage && !strings.Contains(stderr, "--help") {
				t.Errorf("no hint at --help: %s", stderr)
			}
		})
	}
	if status, _, stderr := start(t, "--registry", "localhost:1"); status != statusUsage || !strings.Contains(stderr, "bazel run //images:push") {
		t.Errorf("no image: status %d, %s", status, stderr)
	}
}

// commit is the tests' checkout's.
const commit = "0123456789abcdef0123456789abcdef01234567"

// TestPush is the way of `bazel run`: arguments from the rule, a commit, a working directory.
func TestPush(t *testing.T) {
	s := registrytest.New(t, registrytest.Options{Referrers: true})
	status := writeFile(t, "status", "BUILD_USER me\nSTABLE_COMMIT "+commit+"\n")
	first, err := json.Marshal(append(family(t, "x"), "--target", "//images:push", "--status", status))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(argsVariable, string(first))
	t.Setenv("BUILD_WORKSPACE_DIRECTORY", t.TempDir())
	t.Setenv("BUILD_WORKING_DIRECTORY", t.TempDir())
	args := []string{"--registry", s.Host + "/team", "--digest-file", "digests"}

	exit, stdout, stderr := start(t, append(args, "--dry-run")...)
	if exit != 0 || !strings.Contains(stdout, "tag v1.37.2: new") || !strings.Contains(stderr, "nothing was changed") {
		t.Fatalf("dry run: status %d\n%s%s", exit, stdout, stderr)
	}
	if writes := s.Writes(); len(writes) > 0 {
		t.Errorf("a dry run writes %q", writes)
	}
	if files, err := os.ReadDir(os.Getenv("BUILD_WORKING_DIRECTORY")); err != nil || len(files) > 0 {
		t.Errorf("a dry run leaves %v, %v", files, err)
	}

	exit, stdout, stderr = start(t, args...)
	if exit != 0 {
		t.Fatalf("status %d\n%s", exit, stderr)
	}
	want := regexp.MustCompile(`^` + regexp.QuoteMeta(s.Host) + `/team/base@sha256:[0-9a-f]{64} trixie trixie-` + commit[:12] + `
` + regexp.QuoteMeta(s.Host) + `/team/node@sha256:[0-9a-f]{64} v1\.37\.2 v1\.37\.2-` + commit[:12] + `
$`)
	if !want.MatchString(stdout) {
		t.Errorf("stdout is %q, want %s", stdout, want)
	}
	content, err := os.ReadFile(filepath.Join(os.Getenv("BUILD_WORKING_DIRECTORY"), "digests"))
	if err != nil || string(content) != stdout {
		t.Errorf("digest file has %q, want %q: %v", content, stdout, err)
	}
	tags := s.CheckTags(t)
	if len(tags) != 4 {
		t.Errorf("tags are %v", tags)
	}
	for _, line := range strings.Split(strings.TrimSpace(stdout), "\n") {
		fields := strings.Fields(line)
		name, digest, _ := strings.Cut(strings.TrimPrefix(fields[0], s.Host+"/"), "@")
		for _, tag := range fields[1:] {
			if tags[name+":"+tag].String() != digest {
				t.Errorf("%s:%s is %v, want %s", name, tag, tags[name+":"+tag], digest)
			}
		}
	}
	s.Requests()

	stdout0 := stdout
	exit, again, stderr := start(t, args...)
	if exit != 0 || again != stdout {
		t.Errorf("again: status %d, %q\n%s", exit, again, stderr)
	}
	if writes := s.Writes(); len(writes) > 0 {
		t.Errorf("the second push writes %q", writes)
	}

	if _, stdout, _ := start(t, append(args, "--tag", "a", "--tag", "b")...); stdout != strings.NewReplacer(
		" trixie trixie-"+commit[:12], " a b", " v1.37.2 v1.37.2-"+commit[:12], " a b").Replace(stdout0) {
		t.Errorf("with own tags it says %q, and %q without", stdout, stdout0)
	}
	stamped := digests(stdout0)
	if err := os.WriteFile(status, []byte("STABLE_COMMIT "+commit+"-dirty\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, stdout, _ := start(t, args...); !strings.HasSuffix(stdout, " v1.37.2 v1.37.2-"+commit[:12]+"-dirty\n") || slices.Equal(digests(stdout), stamped) {
		t.Errorf("a changed checkout gives %q, an unchanged one %q", stdout, stdout0)
	}
	if err := os.WriteFile(status, []byte("STABLE_NO_COMMIT fatal: not a git repository\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	exit, without, stderr := start(t, args...)
	if exit != 0 || !strings.HasSuffix(without, " v1.37.2\n") || !strings.Contains(stderr, "No commit in the manifests and tags: fatal: not a git repository") {
		t.Errorf("without a checkout: status %d, %q\n%s", exit, without, stderr)
	}
	if err := os.WriteFile(status, []byte("STABLE_COMMIT "+commit+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, stdout, stderr := start(t, append(args, "--stamp=false")...); stdout != without || strings.Contains(stderr, "commit") {
		t.Errorf("--stamp=false gives %q, no checkout %q\n%s", stdout, without, stderr)
	}
	s.CheckTags(t)
}

// digests are those of NAME@DIGEST TAG….
func digests(stdout string) (all []string) {
	for line := range strings.Lines(stdout) {
		_, digest, _ := strings.Cut(strings.Fields(line)[0], "@")
		all = append(all, digest)
	}
	return all
}

// TestStamped looks at what was pushed: the commit and the pushed base's digest in the manifest,
// the pushed image's digest in the SBOM. An image says the same whether it is pushed with its base
// or alone.
func TestStamped(t *testing.T) {
	base := imagetest.New(t, imagetest.Spec{Name: "base:trixie", Layers: []string{"debian"}})
	node := imagetest.New(t, imagetest.Spec{Name: "node:v1.37.2", Base: base, Layers: []string{"x"}})
	built, err := image.Open(node)
	if err != nil {
		t.Fatal(err)
	}
	digest, err := built.Digest()
	if err != nil {
		t.Fatal(err)
	}
	sbom := writeFile(t, "spdx.json", `{"spdxVersion":"SPDX-2.3","documentNamespace":"https://example.com/sha256-`+digest.Hex+`"}`)
	args := []string{"--image", describe(t, node), "--sbom-file", "node=" + sbom, "--base-manifest", base.Manifest,
		"--status", writeFile(t, "status", "STABLE_COMMIT "+commit+"\n")}
	var lines []string
	for _, more := range [][]string{nil, {"--image", describe(t, base)}} {
		s := registrytest.New(t, registrytest.Options{Referrers: true})
		exit, stdout, stderr := start(t, append(append(args, more...), "--registry", s.Host)...)
		if exit != 0 {
			t.Fatalf("status %d\n%s", exit, stderr)
		}
		line, _, _ := strings.Cut(stdout, "\n")
		lines = append(lines, strings.TrimPrefix(line, s.Host))
		ref, err := name.NewDigest(strings.Fields(line)[0])
		if err != nil {
			t.Fatal(err)
		}
		img, err := remote.Image(ref)
		if err != nil {
			t.Fatal(err)
		}
		m, err := img.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		if m.Annotations["org.opencontainers.image.revision"] != commit || m.Annotations["org.opencontainers.image.base.name"] != "base:trixie" {
			t.Errorf("annotations are %q", m.Annotations)
		}
		if more != nil {
			pushed, err := remote.Head(ref.Context().Registry.Repo("base").Tag("trixie"))
			if err != nil || m.Annotations["org.opencontainers.image.base.digest"] != pushed.Digest.String() {
				t.Errorf("base is %q, pushed %v, %v", m.Annotations["org.opencontainers.image.base.digest"], pushed, err)
			}
		}
		index, err := remote.Referrers(ref)
		if err != nil {
			t.Fatal(err)
		}
		list, err := index.IndexManifest()
		if err != nil || len(list.Manifests) != 1 {
			t.Fatalf("referrers are %+v, %v", list, err)
		}
		artifact, err := remote.Image(ref.Context().Digest(list.Manifests[0].Digest.String()))
		if err != nil {
			t.Fatal(err)
		}
		layers, err := artifact.Layers()
		if err != nil {
			t.Fatal(err)
		}
		content, err := layers[0].Compressed()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(content)
		if _, want, _ := strings.Cut(ref.DigestStr(), ":"); err != nil || !strings.Contains(string(text), "sha256-"+want) {
			t.Errorf("the SBOM of %s is %s, %v", ref, text, err)
		}
	}
	if lines[0] != lines[1] {
		t.Errorf("alone the image is %s, with its base %s", lines[0], lines[1])
	}
	if exit, _, stderr := start(t, append(args, "--registry", "localhost:1", "--base-manifest", "/no/such/file")...); exit != statusError || !strings.Contains(stderr, "/no/such/file") {
		t.Errorf("no manifest of the base: status %d, %s", exit, stderr)
	}
}

// TestWithoutSBOM leaves the SBOMs out.
func TestWithoutSBOM(t *testing.T) {
	s := registrytest.New(t, registrytest.Options{})
	if status, _, stderr := start(t, append(family(t, "x"), "--registry", s.Host, "--sbom=false")...); status != 0 {
		t.Fatal(stderr)
	}
	if tags := s.CheckTags(t); len(tags) != 2 {
		t.Errorf("tags are %v", tags)
	}
}

// TestTrouble meets registries that do not take the images.
func TestTrouble(t *testing.T) {
	plain := registrytest.New(t, registrytest.Options{})
	basic := registrytest.New(t, registrytest.Options{Basic: true})
	token := registrytest.New(t, registrytest.Options{Token: true})
	secure := registrytest.New(t, registrytest.Options{TLS: true})
	readOnly := registrytest.New(t, registrytest.Options{Fault: func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			return false
		}
		w.WriteHeader(http.StatusMethodNotAllowed)
		return true
	}})
	broken := registrytest.New(t, registrytest.Options{Fault: func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusInternalServerError)
		return true
	}})
	slow := registrytest.New(t, registrytest.Options{Fault: func(_ http.ResponseWriter, r *http.Request) bool {
		return r.Method == http.MethodPatch && hang(r)
	}})
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	none := closed.Addr().String()
	closed.Close()

	const wrong = "hunter2"
	wrongConfig := func(host string) string {
		return `{"auths":{"` + host + `":{"auth":"` + base64.StdEncoding.EncodeToString([]byte("someone:"+wrong)) + `"}}}`
	}
	for name, c := range map[string]struct {
		registry string
		args     []string
		env      map[string]string
		config   string // of Docker
		want     []string
		atMost   time.Duration
	}{
		"no such host":         {registry: "registry.invalid/team", want: []string{"registry.invalid does not resolve", "--registry"}, atMost: 15 * time.Second},
		"no server":            {registry: none, want: []string{"refuses connections"}, atMost: 5 * time.Second},
		"no credentials":       {registry: basic.Host, want: []string{"wants credentials: 401", "docker login " + basic.Host, registry.PasswordVariable}},
		"no credentials here":  {registry: basic.Host, args: []string{"--dry-run"}, want: []string{"wants credentials: 401"}},
		"no token":             {registry: token.Host, want: []string{"wants credentials: 401"}},
		"wrong password":       {registry: basic.Host, env: map[string]string{registry.UsernameVariable: "someone", registry.PasswordVariable: wrong}, want: []string{"wrong user name or password: 401", "They are from " + registry.UsernameVariable}},
		"wrong, for a token":   {registry: token.Host, env: map[string]string{registry.UsernameVariable: "someone", registry.PasswordVariable: wrong}, want: []string{"wrong user name or password: 401"}},
		"wrong, from Docker":   {registry: basic.Host, config: wrongConfig(basic.Host), want: []string{"wrong user name or password: 401", "Docker's configuration"}},
		"half the credentials": {registry: basic.Host, env: map[string]string{registry.UsernameVariable: "someone"}, want: []string{registry.PasswordVariable + " is not"}},
		"helper missing":       {registry: basic.Host, config: `{"credsStore":"nowhere"}`, want: []string{"credentials for " + basic.Host, "docker-credential-nowhere"}},
		"broken config":        {registry: basic.Host, config: `{`, want: []string{"credentials for " + basic.Host, "config.json"}},
		"plain where TLS is":   {registry: plain.Host, args: []string{"--ca-file", pemFile(t, secure)}, want: []string{"speaks plain HTTP"}},
		"read-only":            {registry: readOnly.Host, want: []string{"read-only: 405"}},
		"broken":               {registry: broken.Host, want: []string{"keeps failing: 500"}, atMost: 30 * time.Second},
		"slow":                 {registry: slow.Host, args: []string{"--timeout", "1s"}, want: []string{"not finished within 1s", "--timeout"}, atMost: 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			for k, v := range c.env {
				t.Setenv(k, v)
			}
			if c.config != "" {
				t.Setenv("DOCKER_CONFIG", filepath.Dir(writeFile(t, "config.json", c.config)))
			}
			folder := t.TempDir()
			begin := time.Now()
			status, stdout, stderr := start(t, append(append(family(t, "x"), "--registry", c.registry, "--digest-file", filepath.Join(folder, "digests")), c.args...)...)
			took := time.Since(begin)
			if status != statusError || stdout != "" {
				t.Errorf("status %d, want %d; stdout %q", status, statusError, stdout)
			}
			for _, want := range c.want {
				if !strings.Contains(stderr, want) {
					t.Errorf("no %q in %s", want, stderr)
				}
			}
			if strings.Contains(stderr, wrong) || strings.Contains(stderr, base64.StdEncoding.EncodeToString([]byte("someone:"+wrong))) {
				t.Errorf("it shows the password: %s", stderr)
			}
			if c.atMost > 0 && took > c.atMost {
				t.Errorf("it took %v", took)
			}
			if files, err := os.ReadDir(folder); err != nil || len(files) > 0 {
				t.Errorf("it leaves %v, %v", files, err)
			}
		})
	}
	for _, s := range []*registrytest.Server{plain, readOnly, slow} {
		if tags := s.CheckTags(t); len(tags) > 0 {
			t.Errorf("tags were written: %v", tags)
		}
	}
}

// hang takes a request and never answers. The server notices that the client has gone only after
// the body.
func hang(r *http.Request) bool {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
	return true
}

func port(s *registrytest.Server) string {
	_, port, _ := net.SplitHostPort(s.Host)
	return port
}

// pemFile is a registry's certificate, which it has signed itself.
func pemFile(t *testing.T, s *registrytest.Server) string {
	t.Helper()
	return writeFile(t, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
}

func TestTLS(t *testing.T) {
	s := registrytest.New(t, registrytest.Options{TLS: true})
	status, _, stderr := start(t, append(family(t, "x"), "--registry", s.Host)...)
	if status != statusError || !strings.Contains(stderr, "certificate is not trusted") || !strings.Contains(stderr, "--ca-file") {
		t.Errorf("unknown authority: status %d, %s", status, stderr)
	}
	// Not a certificate for this name.
	status, _, stderr = start(t, append(family(t, "x"), "--registry", "localhost:"+port(s), "--ca-file", pemFile(t, s))...)
	if status != statusError || !strings.Contains(stderr, "certificate is not trusted") {
		t.Errorf("another name: status %d, %s", status, stderr)
	}
	if status, _, stderr = start(t, append(family(t, "x"), "--registry", s.Host, "--ca-file", pemFile(t, s))...); status != 0 {
		t.Errorf("status %d, %s", status, stderr)
	}
}

// TestCredentials pushes with credentials from everywhere they can be.
func TestCredentials(t *testing.T) {
	auth := base64.StdEncoding.EncodeToString([]byte(registrytest.User + ":" + registrytest.Password))
	for name, o := range map[string]registrytest.Options{"basic": {Basic: true}, "token": {Token: true, TLS: true}} {
		t.Run(name, func(t *testing.T) {
			push := func(t *testing.T) {
				t.Helper()
				s := registrytest.New(t, o)
				args := append(family(t, "x"), "--registry", s.Host+"/team")
				if o.TLS {
					args = append(args, "--ca-file", pemFile(t, s))
				}
				if config := os.Getenv("DOCKER_CONFIG"); config != "" {
					text, err := os.ReadFile(filepath.Join(config, "config.json"))
					if err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(filepath.Join(config, "config.json"), bytes.ReplaceAll(text, []byte("HOST"), []byte(s.Host)), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				status, _, stderr := start(t, args...)
				if status != 0 {
					t.Errorf("status %d, %s", status, stderr)
				}
				if strings.Contains(stderr, registrytest.Password) || strings.Contains(stderr, auth) {
					t.Errorf("it shows the password: %s", stderr)
				}
			}
			t.Run("environment", func(t *testing.T) {
				t.Setenv(registry.UsernameVariable, registrytest.User)
				t.Setenv(registry.PasswordVariable, registrytest.Password)
				push(t)
			})
			t.Run("docker config", func(t *testing.T) {
				t.Setenv("DOCKER_CONFIG", filepath.Dir(writeFile(t, "config.json", `{"auths":{"HOST":{"auth":"`+auth+`"}}}`)))
				push(t)
			})
			t.Run("environment before docker config", func(t *testing.T) {
				t.Setenv("DOCKER_CONFIG", filepath.Dir(writeFile(t, "config.json", `{"auths":{"HOST":{"auth":"d3Jvbmc6d3Jvbmc="}}}`)))
				t.Setenv(registry.UsernameVariable, registrytest.User)
				t.Setenv(registry.PasswordVariable, registrytest.Password)
				push(t)
			})
			t.Run("credential helper", func(t *testing.T) {
				dir := t.TempDir()
				answer, err := json.Marshal(map[string]string{"Username": registrytest.User, "Secret": registrytest.Password})
				if err != nil {
					t.Fatal(err)
				}
				script := fmt.Sprintf("#!/bin/sh\ncat >/dev/null\necho asked >>%s/asked\ncat <<'END'\n%s\nEND\n", dir, answer)
				if err := os.WriteFile(filepath.Join(dir, "docker-credential-test"), []byte(script), 0o755); err != nil {
					t.Fatal(err)
				}
				t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
				t.Setenv("DOCKER_CONFIG", filepath.Dir(writeFile(t, "config.json", `{"credHelpers":{"HOST":"test"}}`)))
				push(t)
				asked, err := os.ReadFile(filepath.Join(dir, "asked"))
				if err != nil || bytes.Count(asked, []byte("\n")) != 1 {
					t.Errorf("the helper was asked %d times, %v; want once for all images", bytes.Count(asked, []byte("\n")), err)
				}
			})
		})
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := registrytest.New(t, registrytest.Options{Fault: func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPatch {
			return false
		}
		cancel()
		return hang(r)
	}})
	folder := t.TempDir()
	var out, errs bytes.Buffer
	status := Main(ctx, append(family(t, "x"), "--registry", s.Host, "--digest-file", filepath.Join(folder, "d")), &out, &errs)
	if status != statusInterrupted || !strings.Contains(errs.String(), "interrupted") || !strings.Contains(errs.String(), "No tag was written") {
		t.Errorf("status %d, %s", status, errs.String())
	}
	if files, err := os.ReadDir(folder); err != nil || len(files) > 0 {
		t.Errorf("it leaves %v, %v", files, err)
	}
	if tags := s.CheckTags(t); len(tags) > 0 {
		t.Errorf("tags were written: %v", tags)
	}
}
