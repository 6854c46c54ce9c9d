// Package loadbalancer gives services of type LoadBalancer an address, and routes it to a node, where kube-proxy translates it
// for whoever uses it. Pods need no route: the kube-proxy of their own node does it.
package loadbalancer

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dind-cluster/dind-cluster/internal/kubeapi"
)

// manager is the name under which the controller writes events.
const manager = "dind-cluster-load-balancer"

// What failed is tried again after a pause, which grows from minPause to maxPause: an admission webhook, say, may refuse a change
// for good.
const (
	minPause = 100 * time.Millisecond
	maxPause = 5 * time.Second
)

// Controller is the load balancer. Its exported fields are set before Run.
type Controller struct {
	API *kubeapi.Client
	// Subnets have the addresses that services get.
	Subnets []netip.Prefix
	// Route routes addresses to nodes, whose own addresses are the values. Without one, an address is unreachable. Those in
	// gone are no longer needed.
	Route func(ctx context.Context, routes map[netip.Addr]netip.Addr, gone []netip.Addr) error
	// FollowNodes calls a function with the names of nodes that do not run, at first and after every change, until ctx ends. It
	// is called when there is the first address to route.
	FollowNodes func(ctx context.Context, f func(down map[string]bool))
	// Printf reports what goes wrong.
	Printf func(format string, args ...any)

	mu       sync.Mutex
	services map[string]Service
	// vanished are services that the watch no longer has: they are gone, or have another type.
	vanished  map[string]bool
	nodes     map[string]kubeapi.Node
	down      map[string]bool
	endpoints map[string]map[string]kubeapi.EndpointSlice
	// wake has an element when something has changed.
	wake chan struct{}

	// What follows belongs to Run.
	following map[string]context.CancelFunc
	given     map[string]*assignment
	routed    map[netip.Addr]netip.Addr
	// told has the last problem of a service, and written the resource version at which it was changed, by its UID.
	told, written map[string]string
}

// change updates what the controller knows.
func (c *Controller) change(f func()) {
	c.mu.Lock()
	f()
	c.mu.Unlock()
	select {
	case c.channel() <- struct{}{}:
	default:
	}
}

func (c *Controller) channel() chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wake == nil {
		c.wake = make(chan struct{}, 1)
	}
	return c.wake
}

// SetNodes tells the controller about the cluster's nodes. It may be called at any time.
func (c *Controller) SetNodes(found map[string]kubeapi.Node) {
	found = maps.Clone(found)
	c.change(func() { c.nodes = found })
}

// selector selects what the controller watches. A service that gets another type vanishes from it.
const selector = "/api/v1/services?fieldSelector=spec.type%3DLoadBalancer"

// Run balances until ctx ends. Without addresses there is nothing to do.
func (c *Controller) Run(ctx context.Context) {
	if len(c.Subnets) == 0 {
		return
	}
	c.following, c.routed = map[string]context.CancelFunc{}, map[netip.Addr]netip.Addr{}
	c.told, c.written = map[string]string{}, map[string]string{}
	// Before the watch there may have been changes of the type.
	var before struct{ Items []Service }
	if c.attempt(ctx, func() error { return c.API.Get(ctx, "/api/v1/services", &before) }) != nil {
		return
	}
	vanished := map[string]bool{}
	for _, s := range before.Items {
		if s.Spec.Type != "LoadBalancer" && slices.Contains(s.Metadata.Finalizers, Finalizer) {
			vanished[s.key()] = true
		}
	}
	c.change(func() { c.vanished = vanished })
	var followers sync.WaitGroup
	defer followers.Wait()
	followers.Go(func() {
		for ctx.Err() == nil {
			_ = kubeapi.Follow(ctx, c.API, selector, func(found map[string]Service) bool {
				found = maps.Clone(found)
				c.change(func() {
					for key := range c.services {
						if _, ok := found[key]; !ok {
							c.vanished[key] = true
						}
					}
					c.services = found
				})
				return false
			})
		}
	})
	watching := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.channel():
		}
		if c.attempt(ctx, func() error { return c.reconcile(ctx, &followers) }) != nil {
			return
		}
		if len(c.routed) > 0 && !watching {
			watching = true
			followers.Go(func() {
				c.FollowNodes(ctx, func(down map[string]bool) {
					down = maps.Clone(down)
					c.change(func() { c.down = down })
				})
			})
		}
	}
}

// attempt repeats f until it succeeds. The error is that of the context.
func (c *Controller) attempt(ctx context.Context, f func() error) error {
	last := ""
	for pause := minPause; ; pause = min(2*pause, maxPause) {
		err := f()
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		if text := err.Error(); text != last {
			c.Printf("balancing services: %v", err)
			last = text
		}
		select {
		case <-ctx.Done():
		case <-c.channel():
		case <-time.After(pause):
		}
	}
}

// reconcile makes everything as it should be.
func (c *Controller) reconcile(ctx context.Context, followers *sync.WaitGroup) error {
	c.mu.Lock()
	services, nodes, down := c.services, c.nodes, c.down
	endpoints := maps.Clone(c.endpoints)
	vanished := slices.Sorted(maps.Keys(c.vanished))
	c.mu.Unlock()
	for _, key := range vanished {
		if err := c.releaseVanished(ctx, key); err != nil {
			return err
		}
		c.mu.Lock()
		delete(c.vanished, key)
		c.mu.Unlock()
	}
	if services == nil || nodes == nil {
		return nil
	}
	given := assign(services, c.Subnets)
	c.followEndpoints(ctx, services, given, followers)
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(services)) {
		s := services[key]
		_, others := s.addresses(c.Subnets)
		ours := c.given[key] != nil // a moment ago
		if given[key] == nil && slices.Contains(s.Metadata.Finalizers, Finalizer) &&
			(s.Spec.LoadBalancerClass == nil || *s.Spec.LoadBalancerClass == Class) && (!others || ours) {
			errs = append(errs, c.release(ctx, s))
		}
	}
	// First the routes, so that an address can be used as soon as it is there.
	want := routes(services, given, nodes, down, endpoints, c.routed)
	changed, gone := map[netip.Addr]netip.Addr{}, []netip.Addr{}
	for a, node := range want {
		if before, ok := c.routed[a]; !ok || before != node {
			changed[a] = node
		}
	}
	for a := range c.routed {
		if _, ok := want[a]; !ok {
			gone = append(gone, a)
		}
	}
	if len(changed)+len(gone) > 0 {
		if err := c.Route(ctx, changed, gone); err != nil {
			return errors.Join(append(errs, err)...)
		}
		c.routed = want
	}
	c.given = given
	for _, key := range slices.Sorted(maps.Keys(given)) {
		errs = append(errs, c.update(ctx, services[key], given[key]))
	}
	for uid := range c.written {
		if !slices.ContainsFunc(slices.Collect(maps.Values(services)), func(s Service) bool { return s.Metadata.UID == uid }) {
			delete(c.written, uid)
			delete(c.told, uid)
		}
	}
	return errors.Join(errs...)
}

// followEndpoints follows the endpoints of the services whose nodes matter.
func (c *Controller) followEndpoints(ctx context.Context, services map[string]Service, given map[string]*assignment, followers *sync.WaitGroup) {
	for key := range given {
		if !services[key].local() || c.following[key] != nil {
			continue
		}
		following, cancel := context.WithCancel(ctx)
		c.following[key] = cancel
		m := services[key].Metadata
		path := fmt.Sprintf("/apis/discovery.k8s.io/v1/namespaces/%s/endpointslices?labelSelector=%s", m.Namespace, url.QueryEscape("kubernetes.io/service-name="+m.Name))
		followers.Go(func() {
			for following.Err() == nil {
				_ = kubeapi.Follow(following, c.API, path, func(found map[string]kubeapi.EndpointSlice) bool {
					found = maps.Clone(found)
					c.change(func() {
						if following.Err() != nil {
							return
						}
						if c.endpoints == nil {
							c.endpoints = map[string]map[string]kubeapi.EndpointSlice{}
						}
						c.endpoints[key] = found
					})
					return false
				})
			}
		})
	}
	for key, cancel := range c.following {
		if given[key] == nil || !services[key].local() {
			cancel()
			delete(c.following, key)
			c.mu.Lock()
			delete(c.endpoints, key)
			c.mu.Unlock()
		}
	}
}

// update writes what a service has got.
func (c *Controller) update(ctx context.Context, s Service, got *assignment) error {
	if c.written[s.Metadata.UID] == s.Metadata.ResourceVersion {
		return nil // the watch will tell of the change
	}
	have, _ := s.addresses(c.Subnets)
	if len(got.addresses) > 0 && !slices.Contains(s.Metadata.Finalizers, Finalizer) {
		// The watch tells of it, and then it gets its addresses: one write for each version of a service.
		return c.patch(ctx, s, "", object{"metadata": object{"uid": s.Metadata.UID, "finalizers": []string{Finalizer}}})
	}
	if !slices.Equal(have, got.addresses) {
		ingress := []Ingress{}
		for _, a := range got.addresses {
			ingress = append(ingress, Ingress{IP: a.String(), IPMode: "VIP"})
		}
		if err := c.setIngress(ctx, s, ingress); err != nil {
			return err
		}
		if len(ingress) > 0 {
			c.tell(ctx, s, "Normal", "EnsuredLoadBalancer", "Ensured load balancer: "+list(got.addresses))
		}
	}
	if got.problem == "" {
		delete(c.told, s.Metadata.UID)
	} else if c.told[s.Metadata.UID] != got.problem {
		c.told[s.Metadata.UID] = got.problem
		c.tell(ctx, s, "Warning", "SyncLoadBalancerFailed", "Error syncing load balancer: "+got.problem)
	}
	return nil
}

// releaseVanished releases a service that has got another type.
func (c *Controller) releaseVanished(ctx context.Context, key string) error {
	var s Service
	namespace, name, _ := strings.Cut(key, "/")
	if err := c.API.Get(ctx, path(namespace, name), &s); kubeapi.NotFound(err) {
		return nil
	} else if err != nil {
		return fmt.Errorf("looking at service %s: %w", key, err)
	}
	if s.Spec.Type == "LoadBalancer" || !slices.Contains(s.Metadata.Finalizers, Finalizer) {
		return nil
	}
	return c.release(ctx, s)
}

// release takes a service's address and finalizer away.
func (c *Controller) release(ctx context.Context, s Service) error {
	if own, others := s.addresses(c.Subnets); len(own) > 0 && !others && s.Metadata.DeletionTimestamp == nil {
		if err := c.setIngress(ctx, s, []Ingress{}); err != nil {
			return err
		}
	}
	return c.patch(ctx, s, "", object{"metadata": object{"uid": s.Metadata.UID, "$deleteFromPrimitiveList/finalizers": []string{Finalizer}}})
}

type object = map[string]any

func (c *Controller) setIngress(ctx context.Context, s Service, ingress []Ingress) error {
	return c.patch(ctx, s, "/status", object{
		"metadata": object{"uid": s.Metadata.UID},
		"status":   object{"loadBalancer": object{"ingress": ingress}},
	})
}

// patch changes a service, if it is still the same one. What becomes of it otherwise the watch says.
func (c *Controller) patch(ctx context.Context, s Service, subresource string, patch object) error {
	err := c.API.Patch(ctx, path(s.Metadata.Namespace, s.Metadata.Name)+subresource, patch)
	if err == nil || kubeapi.NotFound(err) || kubeapi.Conflict(err) {
		c.written[s.Metadata.UID] = s.Metadata.ResourceVersion
		return nil
	}
	return fmt.Errorf("changing service %s: %w", s.key(), err)
}

// tell writes an event of a service. It is for people: one that is lost is no error.
func (c *Controller) tell(ctx context.Context, s Service, kind, reason, message string) {
	h := fnv.New64a()
	fmt.Fprint(h, s.Metadata.UID, reason, message, time.Now().UnixNano())
	m := s.Metadata
	name := fmt.Sprintf("%s.%x", m.Name, h.Sum64())
	now := time.Now().UTC().Format(time.RFC3339)
	err := c.API.Apply(ctx, fmt.Sprintf("/api/v1/namespaces/%s/events/%s", m.Namespace, name), manager, object{
		"apiVersion": "v1", "kind": "Event",
		"metadata":       object{"name": name, "namespace": m.Namespace},
		"involvedObject": object{"apiVersion": "v1", "kind": "Service", "namespace": m.Namespace, "name": m.Name, "uid": m.UID},
		"type":           kind, "reason": reason, "message": message,
		"source":         object{"component": manager},
		"firstTimestamp": now, "lastTimestamp": now, "count": 1,
	})
	if err != nil && ctx.Err() == nil && !kubeapi.NotFound(err) {
		c.Printf("service %s: %s: %s (and writing an event: %v)", s.key(), reason, message, err)
	}
}

func path(namespace, name string) string {
	return fmt.Sprintf("/api/v1/namespaces/%s/services/%s", namespace, name)
}
