// Package balancer is the load balancer before the API servers of several control planes: it passes TCP connections on to those
// that are ready.
package balancer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// calm is the pause between two looks at a server that is ready. What happens to connections brings the next look forward,
	// so this is how long a server without any may be gone unnoticed.
	calm = 2 * time.Second
	// soon is the pause before the second look at a server that is not ready; each further one is half as long again, up to
	// rare.
	soon, rare = 50 * time.Millisecond, time.Second
	// patience is how long a look and a connection to a server may take. A server that does not answer is out within three
	// seconds or so; the API server's own clients give a connection up after 30.
	patience = time.Second
	// park is how long a connection waits for a server that is ready: less than what Kubernetes' clients give a TLS
	// handshake, ten seconds (https://github.com/kubernetes/client-go/blob/v0.37.2/transport/cache.go).
	park = 5 * time.Second
)

// state is what a server was like at the last look.
type state int

const (
	down  state = iota // it refuses connections, or is not there
	up                 // it takes connections, and is not ready
	ready              // it is ready
)

// Balancer passes connections on. Its zero value is not usable: see New.
type Balancer struct {
	ready func(context.Context, netip.AddrPort) error

	mu sync.Mutex
	// servers are all that there are; look has a value for one that is to be looked at now.
	servers []netip.AddrPort
	look    map[netip.AddrPort]chan struct{}
	// states are those of the servers; next counts connections.
	states map[netip.AddrPort]state
	next   int
	// changed is closed and replaced when a state changes, or the servers do.
	changed chan struct{}
	// open are the connections to a server, which end when it is no longer ready: what is sent to a node that is gone gets no
	// answer, and the client would wait.
	open map[netip.AddrPort]map[net.Conn]bool
}

// New returns a balancer for servers, of which ready says whether one is: nil if so.
func New(servers []netip.AddrPort, ready func(context.Context, netip.AddrPort) error) *Balancer {
	b := &Balancer{
		ready: ready, look: map[netip.AddrPort]chan struct{}{},
		states: map[netip.AddrPort]state{}, changed: make(chan struct{}), open: map[netip.AddrPort]map[net.Conn]bool{},
	}
	b.Replace(servers)
	return b
}

// Replace changes the servers. Connections to one that is no longer among them end.
func (b *Balancer) Replace(servers []netip.AddrPort) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.servers {
		if slices.Contains(servers, s) {
			continue
		}
		delete(b.states, s)
		delete(b.look, s)
		for conn := range b.open[s] {
			conn.Close()
		}
	}
	for _, s := range servers {
		if b.look[s] == nil {
			b.look[s] = make(chan struct{}, 1)
		}
	}
	b.servers = slices.Clone(servers)
	b.change()
}

// change tells those who wait of a change. It is called with the lock.
func (b *Balancer) change() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// watchAll looks at all servers that there are at a time, until ctx ends.
func (b *Balancer) watchAll(ctx context.Context) {
	watched := map[netip.AddrPort]context.CancelFunc{}
	var wait sync.WaitGroup
	defer wait.Wait()
	for ctx.Err() == nil {
		b.mu.Lock()
		servers, changed := b.servers, b.changed
		b.mu.Unlock()
		for server, stop := range watched {
			if !slices.Contains(servers, server) {
				stop()
				delete(watched, server)
			}
		}
		for _, server := range servers {
			if watched[server] == nil {
				one, stop := context.WithCancel(ctx)
				watched[server] = stop
				wait.Go(func() {
					defer stop()
					b.watch(one, server)
				})
			}
		}
		select {
		case <-ctx.Done():
		case <-changed:
		}
	}
}

// Serve passes connections on until ctx ends. It listens only while there is a server that takes connections: a client that is
// refused knows at once, where one that is accepted and then sent away tries again and again (a Kubernetes client ten times,
// with a second between: https://github.com/kubernetes/client-go/blob/v0.37.2/rest/with_retry.go).
func (b *Balancer) Serve(ctx context.Context, listen func(context.Context) (net.Listener, error)) error {
	ctx, cancel := context.WithCancel(ctx)
	var wait sync.WaitGroup
	defer wait.Wait()
	defer cancel()
	wait.Go(func() { b.watchAll(ctx) })
	for {
		if b.await(ctx, func() bool { return len(b.atLeast(up)) > 0 }) != nil {
			return nil
		}
		listener, err := listen(ctx)
		if err != nil {
			return err
		}
		failed := make(chan error, 1)
		wait.Go(func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					failed <- err
					return
				}
				wait.Go(func() { b.pass(ctx, conn) })
			}
		})
		each, stop := context.WithCancel(ctx)
		wait.Go(func() {
			defer stop()
			_ = b.await(each, func() bool { return len(b.atLeast(up)) == 0 })
		})
		select {
		case err := <-failed:
			stop()
			listener.Close()
			return fmt.Errorf("taking connections: %w", err)
		case <-each.Done():
			listener.Close()
		}
	}
}

// await waits until f, which is called with the lock, returns true. The error is that of a context that ends.
func (b *Balancer) await(ctx context.Context, f func() bool) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		b.mu.Lock()
		ok, changed := f(), b.changed
		b.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// atLeast returns the servers in a state or a better one.
func (b *Balancer) atLeast(s state) []netip.AddrPort {
	return slices.DeleteFunc(slices.Clone(b.servers), func(a netip.AddrPort) bool { return b.states[a] < s })
}

// watch looks at a server again and again.
func (b *Balancer) watch(ctx context.Context, server netip.AddrPort) {
	b.mu.Lock()
	look := b.look[server]
	b.mu.Unlock()
	for pause, last := soon, down; ctx.Err() == nil; {
		now := b.examine(ctx, server)
		switch {
		case now == ready:
			pause = calm
		case now != last || last == ready:
			pause = soon
		default:
			pause = min(pause*3/2, rare)
		}
		last = now
		if ctx.Err() != nil {
			return // the server may no longer be one
		}
		b.set(server, now)
		select {
		case <-ctx.Done():
		case <-look:
		case <-time.After(pause):
		}
	}
}

// examine looks at a server.
func (b *Balancer) examine(ctx context.Context, server netip.AddrPort) state {
	try, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if b.ready(try, server) == nil {
		return ready
	}
	conn, err := (&net.Dialer{Timeout: patience}).DialContext(ctx, "tcp", server.String())
	if err != nil {
		return down
	}
	conn.Close()
	return up
}

// lookAt has a server looked at now.
func (b *Balancer) lookAt(server netip.AddrPort) {
	b.mu.Lock()
	look := b.look[server]
	b.mu.Unlock()
	select {
	case look <- struct{}{}:
	default:
	}
}

func (b *Balancer) set(server netip.AddrPort, s state) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.look[server] == nil {
		return // it has been removed
	}
	was := b.states[server]
	if was != s {
		b.states[server] = s
		b.change()
	}
	// While no server is ready there are no better ones. When there are, what was connected to this one meanwhile, or just as it
	// went, ends, too.
	if s < ready && (was == ready || len(b.atLeast(ready)) > 0) {
		for conn := range b.open[server] {
			conn.Close()
		}
	}
}

// connect returns a connection to a server that is ready, each in its turn. While there is none it waits, and then takes one
// that is up: what it answers says more than nothing.
func (b *Balancer) connect(ctx context.Context) (netip.AddrPort, net.Conn, error) {
	wait, cancel := context.WithTimeout(ctx, park)
	defer cancel()
	tried := map[netip.AddrPort]bool{}
	for {
		var candidates []netip.AddrPort
		late := b.await(wait, func() bool {
			// One that was tried in vain counts when it is no longer ready, and then ready again.
			for server := range tried {
				if b.states[server] < ready {
					delete(tried, server)
				}
			}
			candidates = slices.DeleteFunc(b.atLeast(ready), func(a netip.AddrPort) bool { return tried[a] })
			return len(candidates) > 0
		})
		b.mu.Lock()
		if late != nil {
			candidates = b.atLeast(up)
		}
		if n := len(candidates); n > 0 {
			first := b.next % n
			candidates = slices.Concat(candidates[first:], candidates[:first])
		}
		b.next++
		b.mu.Unlock()
		for _, server := range candidates {
			conn, err := (&net.Dialer{Timeout: patience}).DialContext(ctx, "tcp", server.String())
			if err == nil {
				return server, conn, nil
			}
			tried[server] = true
			b.lookAt(server)
		}
		if late != nil || ctx.Err() != nil {
			return netip.AddrPort{}, nil, errors.New("no server takes connections")
		}
	}
}

// pass connects a client to a server until one of them has had enough.
func (b *Balancer) pass(ctx context.Context, client net.Conn) {
	defer client.Close()
	address, server, err := b.connect(ctx)
	if err != nil {
		return
	}
	defer server.Close()
	b.mu.Lock()
	if b.open[address] == nil {
		b.open[address] = map[net.Conn]bool{}
	}
	b.open[address][server] = true
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.open[address], server)
	}()
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	done := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{server, client}, {client, server}} {
		go func() {
			_, err := io.Copy(way[0], way[1])
			// An end of input leaves the other direction open; an error leaves nothing to wait for.
			if half, ok := way[0].(*net.TCPConn); ok && err == nil {
				half.CloseWrite()
			} else {
				client.Close()
				server.Close()
			}
			if way[1] == server {
				// It may be about to go, and this the first sign.
				b.lookAt(address)
			}
			done <- struct{}{}
		}()
	}
	<-done
	<-done
}
