package tunnel

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

type pipes struct {
	io.Reader
	io.WriteCloser
}

// start returns a client whose connections lead to what serve does with each.
func start(t *testing.T, serve func(target string, conn *net.TCPConn)) *Client {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	targets := make(chan string, 1)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			target := <-targets
			go func() {
				defer conn.Close()
				serve(target, conn.(*net.TCPConn))
			}()
		}
	}()
	// Both sides write first, so the pipes must hold something.
	fromClient, toServer := pipe(t)
	fromServer, toClient := pipe(t)
	ended := make(chan error, 1)
	go func() {
		ended <- Serve(t.Context(), pipes{fromClient, toClient}, func(ctx context.Context, target []byte) (net.Conn, error) {
			if strings.Contains(string(target), "refused") {
				return nil, fmt.Errorf("no way to %s", target)
			}
			targets <- string(target)
			return net.Dial("tcp", listener.Addr().String())
		})
	}()
	client, err := Dial(pipes{fromServer, toServer})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		client.Close()
		toServer.Close()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("the server ended with %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("the server does not end with the stream")
		}
	})
	return client
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r, w
}

func open(t *testing.T, c *Client, target string) Conn {
	t.Helper()
	conn, err := c.Open(target)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// Each direction ends by itself, whichever is first, and nothing is lost.
func TestHalfClose(t *testing.T) {
	data := make([]byte, 2<<20)
	rand.Read(data)
	c := start(t, func(target string, conn *net.TCPConn) {
		switch target {
		case `"client first"`:
			got, err := io.ReadAll(conn)
			if err != nil {
				t.Error(err)
			}
			conn.Write(got)
		case `"server first"`:
			conn.Write(data)
			conn.CloseWrite()
			if got, err := io.ReadAll(conn); err != nil || !bytes.Equal(got, data) {
				t.Errorf("the server got %d bytes, %v", len(got), err)
			}
		}
	})
	var wait sync.WaitGroup
	for i := range 8 {
		wait.Go(func() {
			if i%2 == 0 {
				conn := open(t, c, "client first")
				defer conn.Close()
				go func() {
					conn.Write(data)
					conn.CloseWrite()
				}()
				if got, err := io.ReadAll(conn); err != nil || !bytes.Equal(got, data) {
					t.Errorf("the client got %d bytes, %v", len(got), err)
				}
				return
			}
			conn := open(t, c, "server first")
			defer conn.Close()
			if got, err := io.ReadAll(conn); err != nil || !bytes.Equal(got, data) {
				t.Errorf("the client got %d bytes, %v", len(got), err)
			}
			if _, err := conn.Write(data); err != nil {
				t.Error(err)
			}
			conn.CloseWrite()
		})
	}
	wait.Wait()
}

// What a client no longer wants ends, though the server would go on for ever; and one that does not read holds up no other.
func TestGivenUp(t *testing.T) {
	ended := make(chan struct{})
	c := start(t, func(target string, conn *net.TCPConn) {
		if target == `"echo"` {
			io.Copy(conn, conn)
			return
		}
		for {
			if _, err := conn.Write(make([]byte, 64<<10)); err != nil {
				close(ended)
				return
			}
		}
	})
	endless := open(t, c, "endless")
	if _, err := io.ReadFull(endless, make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	echo := open(t, c, "echo")
	if _, err := echo.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 5)
	if _, err := io.ReadFull(echo, answer); err != nil || string(answer) != "hello" {
		t.Errorf("got %q, %v", answer, err)
	}
	echo.Close()
	endless.Close()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("the server goes on writing to a client that is gone")
	}
}

func TestRefused(t *testing.T) {
	c := start(t, nil)
	_, err := c.Open("refused")
	if refused := (*RefusedError)(nil); !errors.As(err, &refused) || refused.Reason != `no way to "refused"` {
		t.Errorf("got %v", err)
	}
	c.Close()
	if _, err := c.Open("anything"); err == nil {
		t.Error("a tunnel that has ended opens connections")
	}
}
