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
	// interval is the pause between two looks at a server, and patience how long one may take. A server that does not answer is
	// out within a second or so; the API server's own clients give a connection up after 30.
	interval = 250 * time.Millisecond
	patience = time.Second
)

// Balancer passes connections on. Its zero value is not usable: see New.
type Balancer struct {
	ready func(context.Context, netip.AddrPort) error

	mu sync.Mutex
	// servers are all that there are.
	servers []netip.AddrPort
	// changed is closed when servers change.
	changed chan struct{}
	// in are the servers that are ready, in the order of servers; next counts connections.
	in   []netip.AddrPort
	next int
	// open are the connections to a server, which end when it is no longer ready: what is sent to a node that is gone gets no
	// answer, and the client would wait.
	open map[netip.AddrPort]map[net.Conn]bool
}

// New returns a balancer for servers, of which ready says whether one is: nil if so.
func New(servers []netip.AddrPort, ready func(context.Context, netip.AddrPort) error) *Balancer {
	return &Balancer{servers: servers, changed: make(chan struct{}), ready: ready, open: map[netip.AddrPort]map[net.Conn]bool{}}
}

// Replace changes the servers. Connections to one that is no longer among them end.
func (b *Balancer) Replace(servers []netip.AddrPort) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.servers {
		if slices.Contains(servers, s) {
			continue
		}
		b.in = slices.DeleteFunc(slices.Clone(b.in), func(in netip.AddrPort) bool { return in == s })
		for conn := range b.open[s] {
			conn.Close()
		}
	}
	b.servers = servers
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

// Serve takes connections from listeners until ctx ends, and closes the listeners.
func (b *Balancer) Serve(ctx context.Context, listeners ...net.Listener) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wait sync.WaitGroup
	wait.Go(func() { b.watchAll(ctx) })
	for _, l := range listeners {
		stop := context.AfterFunc(ctx, func() { l.Close() })
		defer stop()
		wait.Go(func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					cancel(fmt.Errorf("taking connections: %w", err))
					return
				}
				go b.pass(ctx, conn)
			}
		})
	}
	<-ctx.Done()
	for _, l := range listeners {
		l.Close()
	}
	wait.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// watch keeps a server in or out.
func (b *Balancer) watch(ctx context.Context, server netip.AddrPort) {
	for ctx.Err() == nil {
		try, cancel := context.WithTimeout(ctx, patience)
		err := b.ready(try, server)
		cancel()
		if ctx.Err() == nil {
			b.set(server, err == nil)
		}
		select {
		case <-ctx.Done():
		case <-time.After(interval):
		}
	}
}

func (b *Balancer) set(server netip.AddrPort, ready bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	was := slices.Contains(b.in, server)
	if was != ready {
		var in []netip.AddrPort
		for _, s := range b.servers {
			if s == server && ready || s != server && slices.Contains(b.in, s) {
				in = append(in, s)
			}
		}
		b.in = in
	}
	// While no server is ready, as when the first control plane starts, there are no better ones. When there are, what was
	// connected to this one meanwhile, or just as it went, ends, too.
	if !ready && (was || len(b.in) > 0) {
		for conn := range b.open[server] {
			conn.Close()
		}
	}
}

// candidates returns the servers to try for the next connection: those that are ready, each first in its turn, and then, since
// one may have become ready a moment ago, the others.
func (b *Balancer) candidates() []netip.AddrPort {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []netip.AddrPort
	if n := len(b.in); n > 0 {
		first := b.next % n
		out = slices.Concat(b.in[first:], b.in[:first])
	}
	b.next++
	for _, s := range b.servers {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// pass connects a client to a server until one of them has had enough.
func (b *Balancer) pass(ctx context.Context, client net.Conn) {
	defer client.Close()
	for _, address := range b.candidates() {
		server, err := (&net.Dialer{Timeout: patience}).DialContext(ctx, "tcp", address.String())
		if err != nil {
			continue
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
				done <- struct{}{}
			}()
		}
		<-done
		<-done
		return
	}
}
