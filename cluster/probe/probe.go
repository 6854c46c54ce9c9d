// Package probe finds out whether services and the cluster's DNS work in the network namespace of
// the caller.
package probe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/dind-cluster/dind-cluster/cluster/topology"
)

// Name is the name that every cluster's DNS knows.
const Name = "kubernetes.default.svc.cluster.local."

const (
	// try bounds one question. A question whose packet is lost is not answered at all.
	try = 2 * time.Second
	// pause is the time between the first questions. There is no event to wait for, and no reason
	// to wait for the answer to an earlier question before the next one. Later questions come more
	// slowly, so that a long wait costs little: each pause is a fraction of the time that has
	// passed.
	pause, maxPause = 50 * time.Millisecond, time.Second
	fraction        = 40
	// maxOpen is how many questions are open at a time. The oldest of them is given up for a new
	// one.
	maxOpen = 16
)

// DNS asks the cluster's DNS service for a name in the cluster until it knows it or ctx ends.
func DNS(ctx context.Context, n topology.Networks) error {
	return repeat(ctx, question(net.JoinHostPort(n.DNSService().String(), "53"), n.KubernetesService().String()))
}

// question returns a function that asks a server once, and returns nil if the answer is the address
// want.
func question(server, want string) func(context.Context) error {
	resolver := &net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, server)
		},
	}
	return func(ctx context.Context) error {
		addresses, err := resolver.LookupHost(ctx, Name)
		if err == nil && !slices.Contains(addresses, want) {
			err = fmt.Errorf("%s is %v, want %s", Name, addresses, want)
		}
		return err
	}
}

// repeat asks again and again until the answer is nil or ctx ends.
func repeat(ctx context.Context, ask func(context.Context) error) error {
	questions, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan error)
	var open []context.CancelFunc
	begin := time.Now()
	next := time.NewTimer(0)
	defer next.Stop()
	var last error
	for {
		select {
		case <-next.C:
			if len(open) == maxOpen {
				open[0]()
				open = open[1:]
			}
			question, giveUp := context.WithTimeout(questions, try)
			open = append(open, giveUp)
			go func() {
				defer giveUp()
				select {
				case answers <- ask(question):
				case <-questions.Done():
				}
			}()
			next.Reset(min(max(pause, time.Since(begin)/fraction), maxPause))
		case err := <-answers:
			if err == nil {
				return nil
			}
			// A missing answer says less than any answer.
			if late := net.Error(nil); last == nil || !errors.Is(err, context.Canceled) && (!errors.As(err, &late) || !late.Timeout()) {
				last = err
			}
		case <-ctx.Done():
			return fmt.Errorf("%w; last answer of the DNS service: %w", context.Cause(ctx), cmp.Or(last, errors.New("none")))
		}
	}
}
