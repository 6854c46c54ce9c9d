package balancer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// server answers each line with its name.
type server struct {
	name     string
	address  netip.AddrPort
	listener net.Listener
	down     atomic.Bool
}

func start(t *testing.T, name string) *server {
	t.Helper()
	s := &server{name: name, address: netip.MustParseAddrPort("127.0.0.1:0")}
	s.listen(t)
	return s
}

// stop ends what listen begins.
func (s *server) stop() { s.listener.Close() }

func (s *server) listen(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", s.address.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	s.listener, s.address = l, l.Addr().(*net.TCPAddr).AddrPort()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for lines := bufio.NewScanner(conn); lines.Scan(); {
					if s.down.Load() {
						select {} // as if the node had gone: no answer, no end
					}
					fmt.Fprintln(conn, s.name, lines.Text())
				}
				fmt.Fprintln(conn, s.name, "has heard all")
			}()
		}
	}()
}

// listening returns an address, and what Serve needs to listen there.
func listening(t *testing.T) (string, func(context.Context) (net.Listener, error)) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	address := l.Addr().String()
	return address, func(ctx context.Context) (net.Listener, error) {
		return (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	}
}

func ask(conn net.Conn) (string, error) {
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintln(conn, "hello"); err != nil {
		return "", err
	}
	return bufio.NewReader(conn).ReadString('\n')
}

func TestBalancer(t *testing.T) {
	servers := map[netip.AddrPort]*server{}
	var addresses []netip.AddrPort
	for _, name := range []string{"a", "b", "c"} {
		s := start(t, name)
		servers[s.address] = s
		addresses = append(addresses, s.address)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	address, listen := listening(t)
	b := New(addresses, func(_ context.Context, a netip.AddrPort) error {
		if servers[a].down.Load() {
			return errors.New("down")
		}
		return nil
	})
	go func() { ended <- b.Serve(ctx, listen) }()
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	in := func(want int) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); ; {
			b.mu.Lock()
			n := len(b.atLeast(ready))
			b.mu.Unlock()
			if n == want {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d servers are in, want %d", n, want)
			}
			time.Sleep(time.Millisecond)
		}
	}
	in(3)
	seen := map[string]net.Conn{}
	for range 3 {
		conn := dial()
		text, err := ask(conn)
		if err != nil {
			t.Fatal(err)
		}
		seen[text] = conn
	}
	if len(seen) != 3 {
		t.Errorf("three connections went to %v", seen)
	}
	// Half-closed, the other way stays open.
	last := dial()
	if err := last.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if data, err := io.ReadAll(last); err != nil || len(data) == 0 {
		t.Errorf("after the end of input: %q, %v", data, err)
	}
	// One goes: its connections end, and it gets no more.
	servers[addresses[1]].down.Store(true)
	in(2)
	if _, err := ask(seen["b hello\n"]); err == nil {
		t.Error("the connection to the server that is down is still open")
	}
	for range 4 {
		if text, err := ask(dial()); err != nil || text == "b hello\n" {
			t.Errorf("got %q, %v", text, err)
		}
	}
	if _, err := ask(seen["a hello\n"]); err != nil {
		t.Errorf("a connection to another server: %v", err)
	}
	// It comes back.
	servers[addresses[1]].down.Store(false)
	in(3)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := ask(seen["a hello\n"]); err == nil {
		t.Error("a connection outlives the balancer")
	}
}

// Nothing listens while no server takes connections. While one does, connections wait for one that is ready, the first of them
// and those that were made before.
func TestNoneReady(t *testing.T) {
	a := start(t, "a")
	a.stop()
	b := start(t, "b")
	b.stop()
	var is atomic.Bool // b is ready
	address, listen := listening(t)
	balancer := New([]netip.AddrPort{a.address, b.address}, func(_ context.Context, server netip.AddrPort) error {
		if server != b.address || !is.Load() {
			return errors.New("not ready")
		}
		return nil
	})
	ended := make(chan error)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { ended <- balancer.Serve(ctx, listen) }()
	refused := func(want bool) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			conn, err := net.Dial("tcp", address)
			if err == nil {
				conn.Close()
			}
			if errors.Is(err, syscall.ECONNREFUSED) == want {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("got %v, want it refused: %t", err, want)
			}
		}
	}
	refused(true)
	a.listen(t)
	refused(false)
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := fmt.Fprintln(conn, "hello"); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %d bytes, %v, want to wait", n, err)
	}
	b.listen(t)
	is.Store(true)
	begin := time.Now()
	if text, err := ask(conn); err != nil || text != "b hello\n" {
		t.Errorf("got %q, %v, want an answer of b", text, err)
	}
	if took := time.Since(begin); took > park/2 {
		t.Errorf("it waited for %v after b was ready", took)
	}
	is.Store(false)
	a.stop()
	b.stop()
	balancer.lookAt(b.address)
	refused(true)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// What is never ready is better than nothing, after a while.
func TestUp(t *testing.T) {
	a := start(t, "a")
	address, listen := listening(t)
	balancer := New([]netip.AddrPort{a.address}, func(context.Context, netip.AddrPort) error { return errors.New("no") })
	go balancer.Serve(t.Context(), listen)
	var conn net.Conn
	for deadline := time.Now().Add(10 * time.Second); conn == nil; time.Sleep(time.Millisecond) {
		if conn, _ = net.Dial("tcp", address); conn == nil && time.Now().After(deadline) {
			t.Fatal("nothing listens")
		}
	}
	defer conn.Close()
	if text, err := ask(conn); err != nil || text != "a hello\n" {
		t.Errorf("got %q, %v, want an answer of a", text, err)
	}
}

// A server whose connections end is looked at before its time.
func TestLook(t *testing.T) {
	a := start(t, "a")
	address, listen := listening(t)
	looks := make(chan struct{}, 100)
	balancer := New([]netip.AddrPort{a.address}, func(context.Context, netip.AddrPort) error {
		looks <- struct{}{}
		return nil
	})
	go balancer.Serve(t.Context(), listen)
	<-looks
	begin := time.Now()
	var conn net.Conn
	for conn == nil {
		conn, _ = net.Dial("tcp", address)
	}
	defer conn.Close()
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	<-looks
	if took := time.Since(begin); took > calm/2 {
		t.Errorf("looked at after %v", took)
	}
}
