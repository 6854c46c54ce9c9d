// Package registrytest is a registry in this process, for tests: go-containerregistry's, with blobs
// that belong to one repository each, mounts, basic and token authentication, and faults on
// request.
package registrytest

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/dind-cluster/dind-cluster/image/imagetest"
)

// User and Password are what a registry with authentication takes.
const User, Password = "someone", "s3cret:/ü"

// Options of a registry.
type Options struct {
	NoMounts  bool
	Referrers bool
	TLS       bool
	// Basic and Token are two ways to ask for User and Password.
	Basic, Token bool
	// Fault may answer a request instead of the registry; it returns whether it did.
	Fault func(http.ResponseWriter, *http.Request) bool
}

// Server is a running registry.
type Server struct {
	*httptest.Server
	Host    string
	options Options
	inner   http.Handler

	mu       sync.Mutex
	stores   map[string]store // by repository
	requests []string
	fault    func(http.ResponseWriter, *http.Request) bool
}

// New starts a registry, which ends with the test.
func New(t testing.TB, o Options) *Server {
	t.Helper()
	s := &Server{options: o, stores: map[string]store{}, fault: o.Fault}
	quiet := log.New(io.Discard, "", 0)
	s.inner = registry.New(registry.WithBlobHandler((*blobs)(s)), registry.WithReferrersSupport(o.Referrers), registry.Logger(quiet))
	s.Server = httptest.NewUnstartedServer(s)
	s.Server.Config.ErrorLog = quiet
	if o.TLS {
		s.Server.StartTLS()
	} else {
		s.Server.Start()
	}
	t.Cleanup(func() {
		s.Server.CloseClientConnections()
		s.Server.Close()
	})
	u, err := url.Parse(s.Server.URL)
	if err != nil {
		t.Fatal(err)
	}
	s.Host = u.Host
	return s
}

// SetFault replaces the fault. Nil is none.
func (s *Server) SetFault(f func(http.ResponseWriter, *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// Requests returns the requests since the last call, as METHOD PATH?QUERY without an upload's
// number.
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.requests
	s.requests = nil
	return r
}

// Writes returns the requests since the last call that change something.
func (s *Server) Writes() []string {
	return slices.DeleteFunc(s.Requests(), func(r string) bool {
		return strings.HasPrefix(r, "GET ") || strings.HasPrefix(r, "HEAD ")
	})
}

// Lose makes the registry lose a blob of a repository.
func (s *Server) Lose(t testing.TB, repository string, digest v1.Hash) {
	t.Helper()
	if err := s.store(repository).Delete(t.Context(), repository, digest); err != nil {
		t.Fatal(err)
	}
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	fault := s.fault
	s.requests = append(s.requests, describe(r))
	s.mu.Unlock()
	if fault != nil && fault(w, r) {
		return
	}
	if r.URL.Path == "/token" {
		s.token(w, r)
		return
	}
	if !s.authorized(w, r) {
		return
	}
	if s.mount(w, r) {
		return
	}
	if r.Method == http.MethodPut {
		// go-containerregistry's registry takes a manifest that was cut off on its way for a whole
		// one.
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	s.inner.ServeHTTP(w, r)
}

func describe(r *http.Request) string {
	path := r.URL.Path
	if before, _, found := strings.Cut(path, "/uploads/"); found {
		path = before + "/uploads/"
	}
	if r.URL.RawQuery != "" {
		path += "?" + r.URL.RawQuery
	}
	return r.Method + " " + path
}

// mount links a blob from one repository into another.
func (s *Server) mount(w http.ResponseWriter, r *http.Request) bool {
	repository, upload := strings.CutSuffix(strings.TrimPrefix(r.URL.Path, "/v2/"), "/blobs/uploads/")
	digest, err := v1.NewHash(r.URL.Query().Get("mount"))
	from := r.URL.Query().Get("from")
	if r.Method != http.MethodPost || !upload || err != nil || s.options.NoMounts || !s.allowed(r, from, "pull") {
		return false
	}
	content, err := s.store(from).Get(r.Context(), from, digest)
	if err != nil || s.store(repository).Put(r.Context(), repository, digest, content) != nil {
		return false
	}
	w.Header().Set("Location", "/v2/"+repository+"/blobs/"+digest.String())
	w.WriteHeader(http.StatusCreated)
	return true
}

// authorized answers a request without permission.
func (s *Server) authorized(w http.ResponseWriter, r *http.Request) bool {
	challenge := ""
	switch {
	case s.options.Basic:
		if user, password, ok := r.BasicAuth(); ok && user == User && password == Password {
			return true
		}
		challenge = `Basic realm="test"`
	case s.options.Token:
		action := "pull"
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			action = "push"
		}
		repository := strings.TrimPrefix(r.URL.Path, "/v2/")
		for _, part := range []string{"/blobs/", "/manifests/", "/tags/", "/referrers/"} {
			repository, _, _ = strings.Cut(repository, part)
		}
		if s.allowed(r, repository, action) {
			return true
		}
		challenge = fmt.Sprintf(`Bearer realm="%s/token",service="test"`, s.URL)
	default:
		return true
	}
	w.Header().Set("WWW-Authenticate", challenge)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusUnauthorized)
	io.WriteString(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
	return false
}

// token answers a request with the right password with what it asks for. A token is the list of its
// scopes.
func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	if user, password, ok := r.BasicAuth(); !ok || user != User || password != Password {
		http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"wrong user name or password"}]}`, http.StatusUnauthorized)
		return
	}
	text, err := json.Marshal(r.URL.Query()["scope"])
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	json.NewEncoder(w).Encode(map[string]string{"token": base64.RawURLEncoding.EncodeToString(text)})
}

// allowed reports whether a request's token is for an action in a repository.
func (s *Server) allowed(r *http.Request, repository, action string) bool {
	if !s.options.Token {
		return true
	}
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	text, err := base64.RawURLEncoding.DecodeString(token)
	var scopes []string
	if !ok || err != nil || json.Unmarshal(text, &scopes) != nil {
		return false
	}
	if repository == "" { // of the registry as a whole
		return true
	}
	return slices.ContainsFunc(scopes, func(scope string) bool {
		actions, found := strings.CutPrefix(scope, "repository:"+repository+":")
		return found && slices.Contains(strings.Split(actions, ","), action)
	})
}

// store holds the blobs of one repository.
type store interface {
	registry.BlobHandler
	registry.BlobStatHandler
	registry.BlobPutHandler
	registry.BlobDeleteHandler
}

func (s *Server) store(repository string) store {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stores[repository] == nil {
		s.stores[repository] = registry.NewInMemoryBlobHandler().(store)
	}
	return s.stores[repository]
}

// blobs are go-containerregistry's view of the blobs.
type blobs Server

// Get implements registry.BlobHandler.
func (b *blobs) Get(ctx context.Context, repository string, digest v1.Hash) (io.ReadCloser, error) {
	return (*Server)(b).store(repository).Get(ctx, repository, digest)
}

// Stat implements registry.BlobStatHandler.
func (b *blobs) Stat(ctx context.Context, repository string, digest v1.Hash) (int64, error) {
	return (*Server)(b).store(repository).Stat(ctx, repository, digest)
}

// Put implements registry.BlobPutHandler. For an upload go-containerregistry's repository is one
// below the real one: its address up to /uploads.
func (b *blobs) Put(ctx context.Context, repository string, digest v1.Hash, r io.ReadCloser) error {
	repository = strings.TrimSuffix(repository, "/blobs")
	return (*Server)(b).store(repository).Put(ctx, repository, digest, r)
}

// CheckTags pulls everything that the tags of all repositories point at, and returns the tags with
// their digests, as REPOSITORY:TAG. It fails the test for each that is not complete.
func (s *Server) CheckTags(t testing.TB, options ...remote.Option) map[string]v1.Hash {
	t.Helper()
	reg, err := name.NewRegistry(s.Host)
	if err != nil {
		t.Fatal(err)
	}
	options = append(options, remote.WithTransport(s.Client().Transport))
	repositories, err := remote.Catalog(t.Context(), reg, options...)
	if err != nil {
		t.Fatal(err)
	}
	tags := map[string]v1.Hash{}
	for _, repository := range repositories {
		list, err := remote.List(reg.Repo(repository), options...)
		if err != nil {
			t.Fatal(err)
		}
		for _, tag := range list {
			d, err := remote.Get(reg.Repo(repository).Tag(tag), options...)
			if err != nil {
				t.Errorf("%s:%s: %v", repository, tag, err)
				continue
			}
			tags[repository+":"+tag] = d.Digest
			if err := complete(d); err != nil {
				t.Errorf("%s:%s is not complete: %v", repository, tag, err)
			}
		}
	}
	return tags
}

func complete(d *remote.Descriptor) error {
	if d.MediaType.IsIndex() {
		index, err := d.ImageIndex()
		if err != nil {
			return err
		}
		return imagetest.ValidateIndex(index)
	}
	img, err := d.Image()
	if err != nil {
		return err
	}
	return imagetest.Validate(img)
}
