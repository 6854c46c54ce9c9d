package kubeapi

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dind-cluster/dind-cluster/internal/kubeconfig"
	"github.com/dind-cluster/dind-cluster/internal/pki"
)

func serve(t *testing.T, handler http.HandlerFunc) *Client {
	t.Helper()
	authority, err := pki.NewCA("test", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	user, err := authority.NewClient("me", nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(handler)
	server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	server.StartTLS()
	t.Cleanup(server.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	c, err := New(kubeconfig.Config{Server: server.URL, CA: ca, Cert: user.Cert, Key: user.Key})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestGetAndPatch(t *testing.T) {
	var patch string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.TLS.PeerCertificates[0].Subject.CommonName != "me" {
			http.Error(w, `{"kind":"Status","message":"who are you"}`, http.StatusUnauthorized)
			return
		}
		switch {
		case r.URL.Path != "/api/v1/nodes/n":
			http.Error(w, `{"kind":"Status","message":"nodes \"x\" not found"}`, http.StatusNotFound)
		case r.Method == http.MethodPatch:
			body, _ := io.ReadAll(r.Body)
			patch = r.Header.Get("Content-Type") + " " + r.URL.RawQuery + string(body)
			fmt.Fprint(w, "{}")
		default:
			fmt.Fprint(w, `{"metadata":{"name":"n"},"spec":{"podCIDR":"10.0.0.0/24"}}`)
		}
	})
	var node Node
	if err := c.Get(t.Context(), "/api/v1/nodes/n", &node); err != nil || node.Spec.PodCIDR != "10.0.0.0/24" {
		t.Errorf("got %+v, %v", node, err)
	}
	err := c.Get(t.Context(), "/api/v1/nodes/x", &node)
	var status *StatusError
	if !errors.As(err, &status) || status.Code != 404 || status.Message != `nodes "x" not found` {
		t.Errorf("got %v", err)
	}
	if err := c.Patch(t.Context(), "/api/v1/nodes/n", map[string]int{"a": 1}); err != nil || patch != `application/strategic-merge-patch+json {"a":1}` {
		t.Errorf("got %v, patch %q", err, patch)
	}
	if err := c.Apply(t.Context(), "/api/v1/nodes/n", "me & you", map[string]int{"a": 2}); err != nil || patch != `application/apply-patch+yaml force=true&fieldManager=me+%26+you{"a":2}` {
		t.Errorf("got %v, patch %q", err, patch)
	}
}

func TestDelete(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method != http.MethodDelete:
			http.Error(w, "", http.StatusMethodNotAllowed)
		case r.URL.Path == "/api/v1/nodes/gone":
			http.Error(w, "not found", http.StatusNotFound)
		case r.URL.Path == "/api/v1/nodes/kept":
			http.Error(w, "forbidden", http.StatusForbidden)
		}
	})
	for name, want := range map[string]bool{"there": true, "gone": true, "kept": false} {
		if err := c.Delete(t.Context(), "/api/v1/nodes/"+name); (err == nil) != want {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestWaitFor(t *testing.T) {
	var calls atomic.Int32
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) < 3 {
			http.Error(w, "etcd not ready", http.StatusInternalServerError)
		}
	})
	if err := c.WaitFor(t.Context(), "/readyz"); err != nil || calls.Load() != 3 {
		t.Errorf("got %v after %d calls", err, calls.Load())
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	calls.Store(0)
	c = serve(t, func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) == 3 {
			cancel()
		}
		http.Error(w, "etcd not ready", http.StatusInternalServerError)
	})
	err := c.WaitFor(ctx, "/readyz")
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "etcd not ready") {
		t.Errorf("got %v", err)
	}
}

func TestApplyUntil(t *testing.T) {
	var calls atomic.Int32
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) < 3 {
			http.Error(w, "not yet", http.StatusForbidden)
		}
	})
	if err := c.ApplyUntil(t.Context(), "/api/v1/nodes/n", "me", map[string]int{"a": 1}); err != nil || calls.Load() != 3 {
		t.Errorf("got %v after %d calls", err, calls.Load())
	}
}

func TestWaitForServer(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "etcd not ready", http.StatusInternalServerError)
	})
	if err := c.WaitForServer(t.Context()); err != nil {
		t.Error(err)
	}
	c.server = "https://127.0.0.1:1"
	ctx, cancel := context.WithTimeout(t.Context(), 120*time.Millisecond)
	defer cancel()
	if err := c.WaitForServer(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "last answer to GET https://127.0.0.1:1/livez: ") {
		t.Errorf("got %v", err)
	}
}

func TestFollow(t *testing.T) {
	node := func(name, ready string) string {
		return fmt.Sprintf(`{"metadata":{"name":%q},"status":{"conditions":[{"type":"Ready","status":%q,"message":"not yet"}]}}`, name, ready)
	}
	var lists atomic.Int32
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("watch") == "" {
			switch lists.Add(1) {
			case 1: // The server is not there yet.
				http.Error(w, "no", http.StatusServiceUnavailable)
			default:
				fmt.Fprintf(w, `{"metadata":{"resourceVersion":"7"},"items":[%s,%s]}`, node("a", "False"), node("gone", "True"))
			}
			return
		}
		if r.URL.Query().Get("resourceVersion") != "7" {
			t.Errorf("watch from %s", r.URL)
		}
		if lists.Load() == 2 { // The watch breaks; the next list starts again.
			fmt.Fprint(w, `{"type":"ERROR","object":{"code":410}}`)
			return
		}
		fmt.Fprintf(w, `{"type":"ADDED","object":%s}{"type":"DELETED","object":%s}{"type":"MODIFIED","object":%s}`, node("b", "True"), node("gone", "True"), node("a", "True"))
	})
	var calls int
	err := Follow(t.Context(), c, "/api/v1/nodes", func(nodes map[string]Node) bool {
		calls++
		ready := 0
		for _, n := range nodes {
			if ok, why := Ready(n.Status.Conditions); ok {
				ready++
			} else if why != "not yet" {
				t.Errorf("got reason %q", why)
			}
		}
		_, gone := nodes["gone"]
		return !gone && ready == 2
	})
	if err != nil || calls != 5 {
		t.Errorf("got %v after %d calls", err, calls)
	}
}
