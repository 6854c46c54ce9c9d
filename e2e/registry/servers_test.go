// Package registry tests publishing with real registries: distribution, built from source, with TLS
// and a password, and Debian's docker-registry, with neither.
package registry

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"flag"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/dind-cluster/dind-cluster/internal/repeated"
)

// Where Bazel has put the programs and images: below the test's directory, and for the images below
// the one above it.
var (
	publisher    = flag.String("publisher", "", "the publisher")
	distribution = flag.String("distribution", "", "distribution's registry")
	debianRoot   = flag.String("debian-root", "", "tar archive of a Debian root with docker-registry and skopeo")
	images, docs repeated.Strings
)

// smallDiskVariable makes the test program put a small file system at a path and become another
// program.
const smallDiskVariable = "REGISTRY_TEST_SMALL_DISK"

func TestMain(m *testing.M) {
	if path := os.Getenv(smallDiskVariable); path != "" {
		err := onSmallDisk(path, os.Args[1:])
		fmt.Fprintln(os.Stderr, "small disk:", err)
		os.Exit(1)
	}
	flag.Var(&images, "image", "description of an image's files; repeat")
	flag.Var(&docs, "sbom", "NAME=FILE: an image's SBOM; repeat")
	flag.Parse()
	status := m.Run()
	if unpacked != "" {
		os.RemoveAll(unpacked)
	}
	os.Exit(status)
}

// onSmallDisk runs in a mount namespace of its own.
func onSmallDisk(path string, args []string) error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := syscall.Mount("tmpfs", path, "tmpfs", 0, "size=20m"); err != nil {
		return fmt.Errorf("mount a tmpfs: %w", err)
	}
	os.Unsetenv(smallDiskVariable)
	return syscall.Exec(args[0], args, os.Environ())
}

// User and password that registries with authentication take, and the line of their htpasswd file.
const (
	user, password = "someone", "correct horse"
	htpasswd       = "someone:$2a$05$SCAg.hsN3gwrVvKpI1gRyeYZWN0owgJbwEyqW8rkeBnnq93fOoIUe\n"
)

// commit is what images are pushed as.
const commit = "0123456789abcdef0123456789abcdef01234567"

// kind is how a registry is started.
type kind struct {
	debian    bool // Debian's docker-registry, else distribution's
	secure    bool // TLS and a password
	readOnly  bool
	smallDisk bool
}

// server is a registry in a process of its own, on this machine's loopback.
type server struct {
	kind
	dir  string // of everything it has
	host string // with its port
	cmd  *exec.Cmd
	out  *output
}

// start starts a registry, which ends with the test.
func start(t *testing.T, k kind) *server {
	t.Helper()
	s := &server{kind: k, dir: t.TempDir(), host: "127.0.0.1:0"}
	for _, dir := range []string{"data", "home"} {
		if err := os.Mkdir(filepath.Join(s.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s.write(t, "status", "STABLE_COMMIT "+commit+"\n")
	if k.secure {
		s.write(t, "htpasswd", htpasswd)
		s.makeCertificate(t)
	}
	s.up(t)
	t.Cleanup(s.kill)
	return s
}

func (s *server) path(name string) string { return filepath.Join(s.dir, name) }

func (s *server) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(s.path(name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

var listening = regexp.MustCompile(`listening on (127\.0\.0\.1:[0-9]+)`)

// up starts the process, at the address that it had before.
func (s *server) up(t *testing.T) {
	t.Helper()
	config := `version: 0.1
log: {level: info, accesslog: {disabled: true}}
storage:
  filesystem: {rootdirectory: ` + s.path("data") + `}
  maintenance: {readonly: {enabled: ` + fmt.Sprint(s.readOnly) + `}}
http:
  addr: ` + s.host + `
  secret: the-same-after-a-restart
`
	if s.secure {
		config += "  tls: {certificate: " + s.path("cert.pem") + ", key: " + s.path("key.pem") + "}\n" +
			"auth: {htpasswd: {realm: test, path: " + s.path("htpasswd") + "}}\n"
	}
	s.write(t, "config.yml", config)
	args := []string{program(t, *distribution)}
	if s.debian {
		args = debianProgram(t, "docker-registry")
	}
	args = append(args, "serve", s.path("config.yml"))
	if s.smallDisk {
		args = append([]string{"/proc/self/exe"}, args...)
	}
	s.cmd = exec.Command(args[0], args[1:]...)
	s.cmd.Env = []string{"OTEL_TRACES_EXPORTER=none", "HOME=" + s.path("home")}
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if s.smallDisk {
		s.cmd.Env = append(s.cmd.Env, smallDiskVariable+"="+s.path("data"))
		s.cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNS
		if os.Getuid() != 0 {
			s.cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
			s.cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
			s.cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
		}
	}
	s.out = &output{found: make(chan string, 1)}
	s.cmd.Stdout, s.cmd.Stderr = s.out, s.out
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case s.host = <-s.out.found:
	case <-time.After(time.Minute):
		s.kill()
		t.Fatalf("the registry does not start:\n%s", s.out)
	}
}

func (s *server) kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	s.cmd = nil
}

// output keeps what a registry writes, and finds the address in it.
type output struct {
	mu    sync.Mutex
	all   bytes.Buffer
	found chan string
	told  bool
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all.Write(p)
	if o.told {
		return len(p), nil
	}
	if m := listening.FindSubmatch(o.all.Bytes()); m != nil && bytes.HasSuffix(p, []byte("\n")) {
		o.told = true
		o.found <- string(m[1])
	}
	return len(p), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var last []string
	lines := bufio.NewScanner(bytes.NewReader(o.all.Bytes()))
	for lines.Scan() {
		last = append(last, lines.Text())
	}
	return strings.Join(last[max(0, len(last)-30):], "\n")
}

// makeCertificate makes an authority, in ca.pem, and a certificate for 127.0.0.1.
func (s *server) makeCertificate(t *testing.T) {
	t.Helper()
	sign := func(c, parent *x509.Certificate, of, by *ecdsa.PrivateKey) []byte {
		t.Helper()
		c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, c, parent, of.Public(), by)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	key := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	caKey, ownKey := key(), key()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	own := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "test registry"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.MarshalECPrivateKey(ownKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"ca.pem":   {Type: "CERTIFICATE", Bytes: sign(ca, ca, caKey, caKey)},
		"cert.pem": {Type: "CERTIFICATE", Bytes: sign(own, ca, ownKey, caKey)},
		"key.pem":  {Type: "EC PRIVATE KEY", Bytes: der},
	} {
		s.write(t, name, string(pem.EncodeToMemory(block)))
	}
}

// remote are the options for go-containerregistry to read from the registry.
func (s *server) remote(ctx context.Context, t *testing.T) []remote.Option {
	t.Helper()
	options := []remote.Option{remote.WithContext(ctx)}
	if !s.secure {
		return options
	}
	ca, err := os.ReadFile(s.path("ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		t.Fatal("no certificate in ca.pem")
	}
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	t.Cleanup(tr.CloseIdleConnections)
	return append(options, remote.WithTransport(tr), remote.WithAuth(&authn.Basic{Username: user, Password: password}))
}

// dockerConfig makes a directory with Docker's configuration, which has the password.
func (s *server) dockerConfig(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	text := `{"auths":{}}`
	if s.secure {
		text = `{"auths":{"` + s.host + `":{"auth":"` + base64.StdEncoding.EncodeToString([]byte(user+":"+password)) + `"}}}`
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// program is a program's absolute path.
func program(t *testing.T, path string) string {
	t.Helper()
	abs, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return abs
}

// unpacked is the Debian root's directory, from its first use on.
var unpacked string

var unpackRoot = sync.OnceValue(func() (err error) {
	if unpacked, err = os.MkdirTemp(os.Getenv("TEST_TMPDIR"), "root"); err != nil {
		return err
	}
	if out, err := exec.Command("tar", "-xf", *debianRoot, "-C", unpacked).CombinedOutput(); err != nil {
		return fmt.Errorf("unpack %s: %w\n%s", *debianRoot, err, out)
	}
	return nil
})

// debianProgram is the beginning of the command line of a program in the Debian root, which runs
// with its own libraries.
func debianProgram(t *testing.T, name string) []string {
	t.Helper()
	if err := unpackRoot(); err != nil {
		t.Fatal(err)
	}
	return []string{
		filepath.Join(unpacked, "usr/lib64/ld-linux-x86-64.so.2"), "--library-path", filepath.Join(unpacked, "usr/lib/x86_64-linux-gnu"),
		filepath.Join(unpacked, "usr/bin", name),
	}
}

// pushed is what a push says.
type pushed struct {
	err      error
	took     time.Duration
	stdout   string
	stderr   string
	uploaded string // blobs
	bytes    string
	mounted  string
}

var summary = regexp.MustCompile(`: ([0-9]+) blobs uploaded, ([0-9]+) bytes; ([0-9]+) mounted`)

// pushCommand is the command line that pushes the images whose names are given, or all.
func (s *server) pushCommand(ctx context.Context, t *testing.T, names []string, args ...string) *exec.Cmd {
	t.Helper()
	line := []string{"--registry", s.host + "/team", "--root", "..", "--status", s.path("status")}
	if s.secure {
		line = append(line, "--ca-file", s.path("ca.pem"))
	}
	wanted := func(name string) bool {
		for _, n := range names {
			if n == name {
				return true
			}
		}
		return len(names) == 0
	}
	for _, i := range images {
		if name := strings.TrimSuffix(filepath.Base(i), ".json"); wanted(name) {
			line = append(line, "--image", i)
		} else {
			line = append(line, "--sibling", name)
		}
	}
	for _, d := range docs {
		line = append(line, "--sbom-file", d)
	}
	cmd := exec.CommandContext(ctx, program(t, *publisher), append(line, args...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.path("home"), "DOCKER_CONFIG=" + s.dockerConfig(t)}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

func (s *server) push(ctx context.Context, t *testing.T, names []string, args ...string) pushed {
	t.Helper()
	cmd := s.pushCommand(ctx, t, names, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	begin := time.Now()
	err := cmd.Run()
	p := pushed{err: err, took: time.Since(begin), stdout: stdout.String(), stderr: stderr.String()}
	if m := summary.FindStringSubmatch(p.stderr); m != nil {
		p.uploaded, p.bytes, p.mounted = m[1], m[2], m[3]
	}
	return p
}

// mustPush is a push that goes well.
func (s *server) mustPush(ctx context.Context, t *testing.T, names []string, args ...string) pushed {
	t.Helper()
	p := s.push(ctx, t, names, args...)
	if p.err != nil {
		t.Fatalf("push: %v\n%s\nThe registry:\n%s", p.err, p.stderr, s.out)
	}
	t.Logf("pushed in %.2f s: %s blobs, %s bytes uploaded; %s mounted", p.took.Seconds(), p.uploaded, p.bytes, p.mounted)
	return p
}

// published is one line of what a push prints.
type published struct {
	image  string // dind-node
	repo   name.Repository
	digest v1.Hash
	tags   []string
}

func parse(t *testing.T, stdout string) (all []published) {
	t.Helper()
	for line := range strings.Lines(stdout) {
		fields := strings.Fields(line)
		ref, err := name.NewDigest(fields[0])
		if err != nil {
			t.Fatalf("a push prints %q: %v", line, err)
		}
		digest, err := v1.NewHash(ref.DigestStr())
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, published{image: filepath.Base(ref.Context().RepositoryStr()), repo: ref.Context(), digest: digest, tags: fields[1:]})
	}
	return all
}

// skopeo runs skopeo. It gets nothing of this machine's configuration.
func (s *server) skopeo(ctx context.Context, t *testing.T, args ...string) string {
	t.Helper()
	line := append(debianProgram(t, "skopeo"), "--insecure-policy", "--tmpdir", t.TempDir(), "--registries.d", t.TempDir(), args[0])
	certificates := t.TempDir()
	tlsFlag, certFlag := "--tls-verify", "--cert-dir"
	if args[0] == "copy" {
		tlsFlag, certFlag = "--src-tls-verify", "--src-cert-dir"
	}
	line = append(line, fmt.Sprintf("%s=%v", tlsFlag, s.secure))
	if s.secure {
		ca, err := os.ReadFile(s.path("ca.pem"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(certificates, "ca.crt"), ca, 0o600); err != nil {
			t.Fatal(err)
		}
		line = append(line, certFlag, certificates)
	}
	line = append(line, "--authfile", filepath.Join(s.dockerConfig(t), "config.json"))
	cmd := exec.CommandContext(ctx, line[0], append(line[1:], args[1:]...)...)
	cmd.Env = []string{"HOME=" + s.path("home"), "XDG_RUNTIME_DIR=" + s.path("home"), "CONTAINERS_REGISTRIES_CONF=/dev/null"}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("skopeo %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out)
}
