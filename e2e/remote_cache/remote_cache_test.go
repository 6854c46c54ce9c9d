// Package remotecache tests building with a cache that a team shares: bazel-remote, built from
// source, with TLS and passwords.
package remotecache

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/dind-cluster/dind-cluster/e2e/elsewhere"
	"github.com/dind-cluster/dind-cluster/internal/repeated"
)

var (
	source  = flag.String("source", "", "a file in the top folder of the workspace")
	program = flag.String("bazel-remote", "", "the server")
	edit    = flag.String("edit", "", "a source file of the targets, to be changed")
	targets repeated.Strings
	outputs repeated.Strings
)

const (
	// timeout is less than Bazel's, so that nothing is left.
	timeout = 50 * time.Minute
	// needs is how much disk a build and the cache take, in bytes.
	needs = 8 << 30
)

// joining is the mnemonic of the actions whose outputs are not to travel: they join what is in the
// cache already.
const joining = "ImageArchive"

func TestMain(m *testing.M) {
	// rules_go's own handler would end the test at once, and leave a build.
	signal.Reset(syscall.SIGTERM)
	flag.Var(&targets, "target", "a target to build; repeat")
	flag.Var(&outputs, "output", "an output of the targets, below bazel-bin; repeat")
	flag.Parse()
	os.Exit(m.Run())
}

// TestRemoteCache fills a cache by a build, and builds the same at another place with nothing but
// that cache.
func TestRemoteCache(t *testing.T) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("the builds take more than %s", timeout))
	defer cancel()
	if *source == "" || len(targets) == 0 {
		t.Fatal("nothing to build: this test runs under Bazel")
	}
	s := start(t)
	first := newBuild(t, "remote-cache-fill", s.options()+s.credentials())
	cold := first.run(ctx, "fill the empty cache", "--config=remote-cache-write")
	first.require(func(sp spawn) string {
		if sp.CacheHit {
			return "was in the cache already"
		}
		return ""
	})
	want := first.digests()
	first.close()
	full := s.stored(t)
	if full.actions == 0 || full.contents == 0 {
		t.Fatalf("the build left nothing in the cache: %+v", full)
	}
	t.Logf("in the cache: %d actions, %d files, %d MiB on disk", full.actions, full.contents, full.bytes>>20)

	// Another machine's build: it reads without a password, and has no right to write.
	second := newBuild(t, "remote-cache-read", s.options())
	warm := second.run(ctx, "build with the full cache", "--config=remote-cache")
	joined := 0
	second.require(func(sp spawn) string {
		switch {
		case sp.Mnemonic == joining && sp.RemoteCacheable:
			return "would travel, and is as large as all layers together"
		case sp.Mnemonic == joining:
			joined++
		case sp.Runner != "remote cache hit":
			return "was not in the cache"
		}
		return ""
	})
	if joined == 0 {
		t.Errorf("no %s among the actions: nothing shows that joined images stay out of the cache", joining)
	}
	for path, digest := range second.digests() {
		if want[path] != digest {
			t.Errorf("%s: sha256:%s from the cache, not sha256:%s", path, digest, want[path])
		}
	}
	t.Logf("whole build: %.1f s without the cache, %.1f s with it", cold.Seconds(), warm.Seconds())

	// A build that may not write succeeds as well, and nothing of it gets into the cache: neither
	// when it does not try …
	second.change(1)
	second.run(ctx, "build something new without writing", "--config=remote-cache")
	second.someNew()
	if now := s.stored(t); now != full {
		t.Errorf("a reader wrote to the cache: %+v, before %+v", now, full)
	}
	// … nor when it does.
	second.change(2)
	second.run(ctx, "build something new, writing without a password", "--config=remote-cache-write")
	second.someNew()
	if now := s.stored(t); now != full {
		t.Errorf("a build without a password wrote to the cache: %+v, before %+v", now, full)
	}
	// A cache that is away only makes a build slower.
	s.stop()
	second.change(3)
	second.run(ctx, "build something new without a server", "--config=remote-cache")
	second.someNew()
}

// build is a place to build in, and the processes of its last build.
type build struct {
	t      *testing.T
	place  *elsewhere.Place
	closed bool
	spawns []spawn
}

// spawn is a process that Bazel ran for an action, or did not have to, since a cache had its
// outputs: SpawnExec in Bazel's src/main/protobuf/spawn.proto, as its execution log has it.
type spawn struct {
	TargetLabel, Mnemonic string
	Runner                string // linux-sandbox, remote cache hit …
	CacheHit              bool
	RemoteCacheable       bool // whether its outputs may be in a shared cache
}

// newBuild makes a place to build in, with options for Bazel as people have them in user.bazelrc.
func newBuild(t *testing.T, name, options string) *build {
	t.Helper()
	workspace, err := filepath.EvalSymlinks(filepath.Join("..", *source))
	if err != nil {
		t.Fatal(err)
	}
	logs := os.Getenv("TEST_UNDECLARED_OUTPUTS_DIR")
	if logs == "" {
		logs = t.TempDir()
	}
	place, err := elsewhere.New(elsewhere.Options{Source: filepath.Dir(workspace), Name: name, Log: logs, Free: needs})
	if err != nil {
		t.Fatal(err)
	}
	b := &build{t: t, place: place}
	t.Cleanup(b.close)
	f, err := os.OpenFile(filepath.Join(place.Workspace, "user.bazelrc"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString("\n" + options)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *build) close() {
	if b.closed {
		return
	}
	b.closed = true
	if err := b.place.Close(); err != nil {
		b.t.Errorf("removing a build: %v", err)
	}
}

// run builds the targets with no cache but the one that the options name. It returns how long that
// took.
func (b *build) run(ctx context.Context, what string, options ...string) time.Duration {
	b.t.Helper()
	log := filepath.Join(b.place.Dir, "execution.json")
	args := slices.Concat([]string{"--disk_cache=", "--remote_executor=",
		"--execution_log_json_file=" + log, "--noexecution_log_sort"}, options, targets)
	start := time.Now()
	if err := b.place.Bazel(ctx, nil, "build", args...); err != nil {
		b.t.Fatalf("%s: %v", what, err)
	}
	took := time.Since(start)
	f, err := os.Open(log)
	if err != nil {
		b.t.Fatal(err)
	}
	defer f.Close()
	b.spawns = nil
	runners := map[string]int{}
	for d := json.NewDecoder(f); ; {
		var s spawn
		if err := d.Decode(&s); err == io.EOF {
			break
		} else if err != nil {
			b.t.Fatalf("reading the execution log: %v", err)
		}
		b.spawns = append(b.spawns, s)
		runners[s.Runner]++
	}
	b.t.Logf("%s: %.1f s, processes %v", what, took.Seconds(), runners)
	return took
}

// require reports the processes of the last build in which check finds something wrong.
func (b *build) require(check func(spawn) string) {
	b.t.Helper()
	if len(b.spawns) == 0 {
		b.t.Fatal("the build did nothing")
	}
	for _, s := range b.spawns {
		if wrong := check(s); wrong != "" {
			b.t.Errorf("%s of %s (%s): %s", s.Mnemonic, s.TargetLabel, s.Runner, wrong)
		}
	}
}

// someNew checks that the last build ran something other than what is run each time.
func (b *build) someNew() {
	b.t.Helper()
	if !slices.ContainsFunc(b.spawns, func(s spawn) bool { return !s.CacheHit && s.Mnemonic != joining }) {
		b.t.Errorf("nothing was built anew: %v", b.spawns)
	}
}

// digests returns the outputs' SHA-256 digests, in hexadecimal.
func (b *build) digests() map[string]string {
	b.t.Helper()
	sums := map[string]string{}
	for _, o := range outputs {
		f, err := os.Open(filepath.Join(b.place.Workspace, "bazel-bin", o))
		if err != nil {
			b.t.Fatal(err)
		}
		h := sha256.New()
		_, err = io.Copy(h, f)
		f.Close()
		if err != nil {
			b.t.Fatal(err)
		}
		sums[o] = fmt.Sprintf("%x", h.Sum(nil))
	}
	return sums
}

// change edits a source file of the place.
func (b *build) change(n int) {
	b.t.Helper()
	path := filepath.Join(b.place.Workspace, *edit)
	text, err := os.ReadFile(path)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(path, fmt.Appendf(text, "Edit %d.\n", n), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// user and password may write to the cache.
const user, password = "ci", "correct horse"

// server is a bazel-remote on the loopback.
type server struct {
	dir    string
	host   string // with its port
	client *http.Client
	cmd    *exec.Cmd
	log    *os.File
}

// start starts a server with an empty cache. It takes a password for writing, and none for reading.
func start(t *testing.T) *server {
	t.Helper()
	s := &server{dir: t.TempDir()}
	t.Cleanup(s.stop)
	sum := sha1.Sum([]byte(password))
	s.write(t, "htpasswd", user+":{SHA}"+base64.StdEncoding.EncodeToString(sum[:])+"\n", 0o600)
	s.write(t, "helper", "#!/bin/sh\ncat >/dev/null\necho '{\"headers\": {\"authorization\": [\"Basic "+
		base64.StdEncoding.EncodeToString([]byte(user+":"+password))+"\"]}}'\n", 0o700)
	pool := s.makeCertificate(t)
	s.client = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "localhost"},
	}}
	var err error
	if s.log, err = os.Create(s.path("log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.log.Close() })
	// bazel-remote does not say which port it got, so it is given one that was free a moment ago.
	for try := 1; ; try++ {
		if err = s.up(); err == nil {
			return s
		}
		if try == 3 {
			text, _ := os.ReadFile(s.path("log"))
			t.Fatalf("starting the server: %v\n%s", err, text)
		}
	}
}

func (s *server) path(name string) string { return filepath.Join(s.dir, name) }

func (s *server) write(t *testing.T, name, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(s.path(name), []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func (s *server) makeCertificate(t *testing.T) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})
	s.write(t, "cert.pem", string(text), 0o644)
	s.write(t, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})), 0o600)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	return pool
}

// up starts the process, and waits until it answers.
func (s *server) up() error {
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.host = listener.Addr().String()
	listener.Close()
	s.cmd = exec.Command(*program,
		"--dir="+s.path("cache"), "--max_size=20",
		"--http_address="+s.host, "--grpc_address=none",
		"--tls_cert_file="+s.path("cert.pem"), "--tls_key_file="+s.path("key.pem"),
		"--htpasswd_file="+s.path("htpasswd"), "--allow_unauthenticated_reads",
		"--access_log_level=none")
	s.cmd.Env = []string{"HOME=" + s.dir}
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() { s.cmd.Wait(); close(ended) }()
	deadline := time.After(30 * time.Second)
	for {
		err := s.status()
		if err == nil {
			return nil
		}
		select {
		case <-ended:
			return errors.New("it ended")
		case <-deadline:
			s.stop()
			return fmt.Errorf("it does not answer: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *server) stop() {
	if s.cmd != nil && s.cmd.Process != nil {
		s.cmd.Process.Kill()
		s.cmd = nil
	}
}

// options are the lines of user.bazelrc for a reader.
func (s *server) options() string {
	_, port, _ := net.SplitHostPort(s.host)
	return "build:remote --remote_cache=https://localhost:" + port + "\nbuild:remote --tls_certificate=" + s.path("cert.pem") + "\n"
}

// credentials are the further lines for a writer.
func (s *server) credentials() string {
	return "build:remote-cache-write --credential_helper=localhost=" + s.path("helper") + "\n"
}

// status asks the server for its status.
func (s *server) status() error {
	response, err := s.client.Get("https://" + s.host + "/status")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	return nil
}

// stored is what is in the cache.
type stored struct {
	actions, contents int
	bytes             int64
}

func (s *server) stored(t *testing.T) (now stored) {
	t.Helper()
	for kind, n := range map[string]*int{"ac.v2": &now.actions, "cas.v2": &now.contents} {
		err := filepath.WalkDir(filepath.Join(s.path("cache"), kind), func(_ string, d os.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			info, err := d.Info()
			if err == nil {
				*n++
				now.bytes += info.Size()
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return now
}
