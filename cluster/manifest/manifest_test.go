package manifest

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dind-cluster/dind-cluster/internal/kubeapi"
	"github.com/dind-cluster/dind-cluster/internal/kubeconfig"
)

// server is as much of an API server as Apply talks to: kinds appear some time after their definition, objects need their
// namespace.
type server struct {
	mu      sync.Mutex
	applied []string
	objects map[string]string
	// defined is when a definition was applied, and established how long its kind takes to be served.
	defined     time.Time
	established time.Duration
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fail := func(code int, message string) {
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(map[string]any{"kind": "Status", "message": message})
	}
	served := !s.defined.IsZero() && time.Since(s.defined) > s.established
	switch path := r.URL.Path; {
	case r.Method == http.MethodGet && path == "/api/v1":
		fmt.Fprint(w, `{"resources":[{"name":"namespaces","kind":"Namespace"},{"name":"pods/status","kind":"Pod","namespaced":true},
			{"name":"configmaps","kind":"ConfigMap","namespaced":true}]}`)
	case r.Method == http.MethodGet && path == "/apis/apiextensions.k8s.io/v1":
		fmt.Fprint(w, `{"resources":[{"name":"customresourcedefinitions","kind":"CustomResourceDefinition"}]}`)
	case r.Method == http.MethodGet && path == "/apis/example.org/v1" && served:
		fmt.Fprint(w, `{"resources":[{"name":"things","kind":"Thing","namespaced":true}]}`)
	case r.Method == http.MethodGet:
		fail(http.StatusNotFound, "the server could not find the requested resource")
	case r.Method != http.MethodPatch || r.URL.Query().Get("fieldManager") != "dind-cluster" || r.Header.Get("Content-Type") != "application/apply-patch+yaml":
		fail(http.StatusBadRequest, "no apply: "+r.Method+" "+r.URL.String())
	case strings.HasPrefix(path, "/api/v1/namespaces/own/") && s.objects["/api/v1/namespaces/own"] == "":
		fail(http.StatusNotFound, `namespaces "own" not found`)
	default:
		body, _ := io.ReadAll(r.Body)
		switch {
		case strings.Contains(string(body), "wrong"):
			fail(http.StatusUnprocessableEntity, "ConfigMap is invalid")
			return
		case strings.Contains(string(body), "untyped"):
			fail(http.StatusInternalServerError, "failed to create typed patch object (/x; /v1, Kind=ConfigMap): .untyped: field not declared in schema")
			return
		}
		if strings.Contains(path, "customresourcedefinitions") {
			s.defined = time.Now()
		}
		s.applied = append(s.applied, path)
		s.objects[path] = string(body)
		fmt.Fprint(w, "{}")
	}
}

func serve(t *testing.T, s *server) *kubeapi.Client {
	t.Helper()
	s.objects = map[string]string{}
	listener := httptest.NewTLSServer(s)
	t.Cleanup(listener.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: listener.Certificate().Raw})
	api, err := kubeapi.New(kubeconfig.Config{Server: listener.URL, CA: ca})
	if err != nil {
		t.Fatal(err)
	}
	return api
}

const things = `# what it is
apiVersion: example.org/v1
kind: Thing
metadata: {name: one}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.example.org}
spec: {large: 9007199254740993}
---
# nothing but a comment
---
kind: List
apiVersion: v1
items:
- {apiVersion: v1, kind: ConfigMap, metadata: {name: early, namespace: own}}
- {apiVersion: v1, kind: Namespace, metadata: {name: own}}
`

// Kinds and namespaces may come after what needs them, and late.
func TestApply(t *testing.T) {
	documents, err := Parse("things.yaml", things)
	if err != nil || len(documents) != 4 {
		t.Fatalf("got %v, %v", documents, err)
	}
	s := &server{established: 300 * time.Millisecond}
	if err := Apply(t.Context(), serve(t, s), documents); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/things.example.org", "/api/v1/namespaces/own",
		"/api/v1/namespaces/own/configmaps/early", "/apis/example.org/v1/namespaces/default/things/one",
	}
	if !slices.Equal(s.applied, want) {
		t.Errorf("got %q, want %q", s.applied, want)
	}
	if got := s.objects[want[0]]; !strings.Contains(got, `"large":9007199254740993`) {
		t.Errorf("the number is not as it was written: %s", got)
	}
}

// One error for each object, at once where another try would not help, and what can be applied is.
func TestApplyErrors(t *testing.T) {
	documents, err := Parse("x.yaml", `
{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {is: wrong}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: b}, untyped: 1}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: c}}
`)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{}
	api := serve(t, s)
	err = Apply(t.Context(), api, documents)
	want := "x.yaml: document 1: ConfigMap a: the API server answers 422 Unprocessable Entity: ConfigMap is invalid\n" +
		"x.yaml: document 2: ConfigMap b: the API server answers 500 Internal Server Error: failed to create typed patch object (/x; /v1, Kind=ConfigMap): .untyped: field not declared in schema"
	if err == nil || err.Error() != want || len(s.applied) != 1 {
		t.Errorf("got %v, applied %q", err, s.applied)
	}

	documents, err = Parse("y.yaml", `
{apiVersion: v1, kind: Pod, metadata: {name: p}}
---
{apiVersion: example.org/v1, kind: Thing, metadata: {name: t}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: own}}
`)
	if err != nil {
		t.Fatal(err)
	}
	enough := errors.New("that was long enough")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 300*time.Millisecond, enough)
	defer cancel()
	err = Apply(ctx, api, documents)
	want = `y.yaml: document 1: Pod p: that was long enough: the API server has no Pod in v1
y.yaml: document 2: Thing t: that was long enough: the API server does not have example.org/v1
y.yaml: document 3: ConfigMap own/c: that was long enough: the API server answers 404 Not Found: namespaces "own" not found`
	if err == nil || err.Error() != want || !errors.Is(err, enough) {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestParseErrors(t *testing.T) {
	_, err := Parse("m.yaml", `
a: [
---
- a
---
kind: Pod
---
{apiVersion: v1, kind: Pod, metadata: {generateName: a-}}
---
{apiVersion: v1, kind: PodList, items: [{kind: Pod}]}
---
{apiVersion: v1, kind: Pod, kind: Pod, metadata: {name: a}}
`)
	if err == nil {
		t.Fatal("no error")
	}
	lines := strings.Split(err.Error(), "\n")
	for i, want := range []string{
		"m.yaml: document 1: not YAML: ", "m.yaml: document 2: no Kubernetes object: ", "m.yaml: document 3: no Kubernetes object: want apiVersion and kind",
		"m.yaml: document 4: Pod has no metadata.name", "m.yaml: document 5: items[0]: no Kubernetes object: want apiVersion and kind", "m.yaml: document 6: not YAML: ",
	} {
		if !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, want) }) {
			t.Errorf("%d: got\n%v\nwant %q", i, err, want)
		}
	}
}
