// Package probe finds out whether services work where it is called.
package probe

import (
	"context"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/dind-cluster/dind-cluster/tools/runner/plan"
)

// Name is the name that every cluster's DNS knows.
const Name = "kubernetes.default.svc.cluster.local."

const (
	// try bounds one question, and pause is the time between two. There is no event to wait for.
	try   = 500 * time.Millisecond
	pause = 50 * time.Millisecond
)

// DNS asks the cluster's DNS service for a name in the cluster until it knows it or ctx ends.
func DNS(ctx context.Context, p plan.Cluster) error {
	return lookup(ctx, net.JoinHostPort(p.DNSService().String(), "53"), p.KubernetesService().String())
}

func lookup(ctx context.Context, server, want string) error {
	resolver := &net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, server)
		},
	}
	var last error
	for {
		once, cancel := context.WithTimeout(ctx, try)
		addresses, err := resolver.LookupHost(once, Name)
		cancel()
		if err == nil && !slices.Contains(addresses, want) {
			err = fmt.Errorf("%s is %v, want %s", Name, addresses, want)
		}
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; last answer of the DNS service: %w", context.Cause(ctx), last)
		case <-time.After(pause):
		}
	}
}
