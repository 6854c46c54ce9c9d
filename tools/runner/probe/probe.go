// Package probe finds out whether services work where it is called.
package probe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/dind-cluster/dind-cluster/tools/runner/plan"
)

// Name is the name that every cluster's DNS knows.
const Name = "kubernetes.default.svc.cluster.local."

const (
	// try bounds one question. A question whose packet is lost is not answered at all.
	try = 2 * time.Second
	// pause is the time between two questions. There is no event to wait for, and no reason to wait for the answer to an
	// earlier question before the next one.
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
	ask := func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, try)
		defer cancel()
		addresses, err := resolver.LookupHost(ctx, Name)
		if err == nil && !slices.Contains(addresses, want) {
			err = fmt.Errorf("%s is %v, want %s", Name, addresses, want)
		}
		return err
	}
	questions, cancel := context.WithCancel(ctx)
	defer cancel()
	// Room for all questions that can be open, so that none of them waits for somebody to listen.
	answers := make(chan error, try/pause+2)
	next := time.NewTicker(pause)
	defer next.Stop()
	var last error
	for open := 0; ; {
		if open < cap(answers) {
			open++
			go func() { answers <- ask(questions) }()
		}
		for waiting := true; waiting; {
			select {
			case err := <-answers:
				open--
				if err == nil {
					return nil
				}
				// That there was no answer in time tells less than any answer.
				if late := net.Error(nil); last == nil || !errors.As(err, &late) || !late.Timeout() {
					last = err
				}
			case <-next.C:
				waiting = false
			case <-ctx.Done():
				return fmt.Errorf("%w; last answer of the DNS service: %w", context.Cause(ctx), cmp.Or(last, errors.New("none")))
			}
		}
	}
}
