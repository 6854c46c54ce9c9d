package loadbalancer

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dind-cluster/dind-cluster/internal/kubeapi"
	"github.com/dind-cluster/dind-cluster/internal/kubeconfig"
)

// server is as much of an API server as services need: it lists, watches and patches them.
type server struct {
	mu       sync.Mutex
	services map[string]Service
	version  int
	events   []string
	changed  chan struct{} // closed at each change
}

func (s *server) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

// put adds or changes a service.
func (s *server) put(one Service) {
	s.change(func() {
		s.version++
		one.Metadata.ResourceVersion = fmt.Sprint(s.version)
		s.services[one.key()] = one
	})
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case r.Method == http.MethodGet && r.URL.Query().Get("watch") != "":
		s.watch(w, r)
	case r.Method == http.MethodGet && r.URL.Path == "/api/v1/services":
		s.mu.Lock()
		defer s.mu.Unlock()
		var list struct {
			Metadata struct {
				ResourceVersion string `json:"resourceVersion"`
			} `json:"metadata"`
			Items []Service `json:"items"`
		}
		for _, one := range s.services {
			if r.URL.Query().Get("fieldSelector") == "" || one.Spec.Type == "LoadBalancer" {
				list.Items = append(list.Items, one)
			}
		}
		json.NewEncoder(w).Encode(list)
	case r.Method == http.MethodGet && len(parts) == 6:
		s.mu.Lock()
		defer s.mu.Unlock()
		one, ok := s.services[parts[3]+"/"+parts[5]]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		json.NewEncoder(w).Encode(one)
	case r.Method == http.MethodPatch && parts[4] == "events":
		var e struct{ Type, Reason, Message string }
		json.NewDecoder(r.Body).Decode(&e)
		s.change(func() { s.events = append(s.events, e.Type+" "+e.Reason+" "+e.Message) })
		fmt.Fprint(w, "{}")
	case r.Method == http.MethodPatch && parts[4] == "services":
		var p struct {
			Metadata struct {
				UID        string
				Finalizers []string
				Delete     []string `json:"$deleteFromPrimitiveList/finalizers"`
			}
			Status *struct {
				LoadBalancer struct{ Ingress []Ingress }
			}
		}
		json.NewDecoder(r.Body).Decode(&p)
		key := parts[3] + "/" + parts[5]
		s.mu.Lock()
		one, ok := s.services[key]
		s.mu.Unlock()
		if !ok || one.Metadata.UID != p.Metadata.UID || (p.Status != nil) != (len(parts) == 7) {
			w.WriteHeader(http.StatusConflict)
			return
		}
		one.Metadata.Finalizers = slices.DeleteFunc(slices.Concat(one.Metadata.Finalizers, p.Metadata.Finalizers), func(f string) bool { return slices.Contains(p.Metadata.Delete, f) })
		if p.Status != nil {
			one.Status.LoadBalancer.Ingress = p.Status.LoadBalancer.Ingress
		}
		if one.Metadata.DeletionTimestamp != nil && len(one.Metadata.Finalizers) == 0 {
			s.change(func() { delete(s.services, key) })
		} else {
			s.put(one)
		}
		fmt.Fprint(w, "{}")
	default:
		http.Error(w, r.Method+" "+r.URL.String(), http.StatusNotImplemented)
	}
}

func (s *server) watch(w http.ResponseWriter, r *http.Request) {
	sent := map[string]Service{}
	for {
		s.mu.Lock()
		now, changed := maps.Clone(s.services), s.changed
		s.mu.Unlock()
		maps.DeleteFunc(now, func(_ string, one Service) bool { return one.Spec.Type != "LoadBalancer" })
		for key, one := range sent {
			if _, ok := now[key]; !ok {
				json.NewEncoder(w).Encode(map[string]any{"type": "DELETED", "object": one})
				delete(sent, key)
			}
		}
		for key, one := range now {
			if have, ok := sent[key]; !ok || have.Metadata.ResourceVersion != one.Metadata.ResourceVersion {
				json.NewEncoder(w).Encode(map[string]any{"type": "MODIFIED", "object": one})
				sent[key] = one
			}
		}
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
			return
		case <-changed:
		}
	}
}

// TestController follows services from their making to their removal, over a restart of the
// controller.
func TestController(t *testing.T) {
	s := &server{services: map[string]Service{}, changed: make(chan struct{})}
	web := httptest.NewTLSServer(s)
	defer web.Close()
	api, err := kubeapi.New(kubeconfig.Config{Server: web.URL, CA: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw})})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	routed := map[netip.Addr]netip.Addr{}
	start := func() (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		mu.Lock()
		clear(routed) // as a restart of the container does
		mu.Unlock()
		c := &Controller{
			API: api, Subnets: subnets[:1], Printf: t.Logf,
			Route: func(_ context.Context, routes map[netip.Addr]netip.Addr, gone []netip.Addr) error {
				mu.Lock()
				defer mu.Unlock()
				maps.Copy(routed, routes)
				for _, a := range gone {
					delete(routed, a)
				}
				return nil
			},
			FollowNodes: func(ctx context.Context, _ func(map[string]bool)) { <-ctx.Done() },
		}
		c.SetNodes(map[string]kubeapi.Node{"w1": node("w1", "10.250.0.3", true, false)})
		done := make(chan struct{})
		go func() { defer close(done); c.Run(ctx) }()
		return func() { cancel(); <-done }
	}
	// state describes a service and its route.
	state := func(name string) string {
		s.mu.Lock()
		one, ok := s.services["default/"+name]
		s.mu.Unlock()
		if !ok {
			return "gone"
		}
		own, _ := one.addresses(subnets)
		text := list(own)
		mu.Lock()
		defer mu.Unlock()
		for _, a := range own {
			text += " via " + routed[a].String()
		}
		if slices.Contains(one.Metadata.Finalizers, Finalizer) {
			text += " finalizer"
		}
		return text
	}
	wait := func(what string, want map[string]string) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			got := map[string]string{}
			for name := range want {
				got[name] = state(name)
			}
			if maps.Equal(got, want) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: got %q, want %q", what, got, want)
			}
		}
	}
	const one, two = "10.251.0.1 via 10.250.0.3 finalizer", "10.251.0.2 via 10.250.0.3 finalizer"
	stop := start()
	s.put(service("a", 1))
	wait("the first", map[string]string{"a": one})
	s.put(service("b", 2))
	s.put(service("c", 3))
	wait("a third is too much", map[string]string{"a": one, "b": two, "c": ""})
	stop()
	s.change(func() { // meanwhile
		b := s.services["default/b"]
		b.Spec.Type = "ClusterIP"
		s.services["default/b"] = b
	})
	stop = start()
	wait("another type, and its address for the next", map[string]string{"a": one, "b": "", "c": two})
	remove := func(name string) {
		s.mu.Lock()
		gone := s.services["default/"+name]
		s.mu.Unlock()
		now := time.Now()
		gone.Metadata.DeletionTimestamp = &now
		s.put(gone)
	}
	remove("a")
	wait("removal", map[string]string{"a": "gone", "c": two})
	s.mu.Lock()
	c := s.services["default/c"]
	s.mu.Unlock()
	c.Spec.Type = "NodePort"
	s.put(c)
	wait("another type", map[string]string{"c": ""})
	s.put(service("d", 4))
	wait("what was given back is there again", map[string]string{"d": one})
	stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	events := strings.Join(s.events, "\n")
	for _, want := range []string{
		"Normal EnsuredLoadBalancer Ensured load balancer: 10.251.0.1",
		"Warning SyncLoadBalancerFailed Error syncing load balancer: all IPv4 addresses of this cluster's load balancer are taken",
	} {
		if !strings.Contains(events, want) {
			t.Errorf("no event %q in\n%s", want, events)
		}
	}
	if n := strings.Count(events, "Normal"); n != 4 {
		t.Errorf("%d services got an address, want 4, each with one event:\n%s", n, events)
	}
}
