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
	"testing"
	"time"
)

// server answers each line with its name.
type server struct {
	name    string
	address netip.AddrPort
	down    atomic.Bool
}

func start(t *testing.T, name string) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	s := &server{name: name, address: l.Addr().(*net.TCPAddr).AddrPort()}
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
					fmt.Fprintln(conn, name, lines.Text())
				}
				fmt.Fprintln(conn, name, "has heard all")
			}()
		}
	}()
	return s
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
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	b := New(addresses, func(_ context.Context, a netip.AddrPort) error {
		if servers[a].down.Load() {
			return errors.New("down")
		}
		return nil
	})
	go func() { ended <- b.Serve(ctx, l) }()
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", l.Addr().String())
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
			n := len(b.in)
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

// A connection that was made to a server while none was ready ends when another one is.
func TestNoneReady(t *testing.T) {
	a, b := start(t, "a"), start(t, "b")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var ready atomic.Bool // b is
	balancer := New([]netip.AddrPort{a.address, b.address}, func(_ context.Context, server netip.AddrPort) error {
		if server != b.address || !ready.Load() {
			return errors.New("not ready")
		}
		return nil
	})
	go balancer.Serve(t.Context(), l)
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// It stays until then, whatever the looks at the server say.
	for range 3 {
		if text, err := ask(conn); err != nil || text != "a hello\n" {
			t.Fatalf("got %q, %v, want an answer of a", text, err)
		}
		time.Sleep(interval)
	}
	ready.Store(true)
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v, want the end of the connection", err)
	}
}
