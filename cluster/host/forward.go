package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/dind-cluster/dind-cluster/cluster/forward"
	"github.com/dind-cluster/dind-cluster/cluster/tunnel"
	"github.com/dind-cluster/dind-cluster/internal/docker"
)

// ForwardPort is a port of a target, and the one of this machine that leads to it.
type ForwardPort struct {
	// Local is a number, 0 for a free one; -1 means that of the target.
	Local int
	// Remote is a number, or the name of a port.
	Remote string
}

// Forward passes connections to ports of this machine on to a target in a cluster, until ctx or the
// cluster ends. When all ports listen, out gets a line for each, "ADDRESS:PORT -> TARGET:PORT".
//
// All connections go through one `docker exec`, so that it works wherever Docker does. Each looks
// for the target anew: a pod that is gone is followed by the next.
func (l *Launcher) Forward(ctx context.Context, name string, target forward.Target, ports []ForwardPort, addresses []string, out io.Writer) error {
	c, err := l.running(ctx, name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	t := &tunnels{launcher: l, name: name, id: c.ID, fail: cancel}
	defer t.close()
	var errs []error
	var listeners []net.Listener
	var lines []string
	defer func() {
		for _, listener := range listeners {
			listener.Close()
		}
	}()
	var targets []forward.Target
	for _, p := range ports {
		target.Port = p.Remote
		number, err := t.look(ctx, target)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if p.Local < 0 {
			p.Local = number
		}
		for _, address := range addresses {
			listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(address, strconv.Itoa(p.Local)))
			if errors.Is(err, syscall.EADDRINUSE) {
				err = fmt.Errorf("port %d of %s is taken: choose another, as in %d:%s, or 0:%s for a free one", p.Local, address, p.Local%65535+1, p.Remote, p.Remote)
			}
			if err != nil {
				errs = append(errs, err)
				continue
			}
			listeners, targets = append(listeners, listener), append(targets, target)
			lines = append(lines, fmt.Sprintf("%s -> %s:%d\n", listener.Addr(), target, number))
			// Every address has the same port.
			p.Local = listener.Addr().(*net.TCPAddr).Port
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, line := range lines {
		if _, err := io.WriteString(out, line); err != nil {
			return err
		}
	}
	var open sync.WaitGroup
	defer open.Wait()
	for i, listener := range listeners {
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					cancel(err)
					return
				}
				open.Go(func() { t.pass(ctx, conn, targets[i]) })
			}
		}()
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

// tunnels has the tunnel into a cluster, one after the other.
type tunnels struct {
	launcher *Launcher
	name, id string
	// fail ends everything.
	fail context.CancelCauseFunc

	mu     sync.Mutex
	client *tunnel.Client
	closed bool
}

// look returns the number of a target's port.
func (t *tunnels) look(ctx context.Context, target forward.Target) (int, error) {
	target.Look = true
	conn, err := t.open(ctx, target)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	text, err := io.ReadAll(io.LimitReader(conn, 16))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(text))
}

// pass connects a client to a target until both have ended.
func (t *tunnels) pass(ctx context.Context, client net.Conn, target forward.Target) {
	conn, err := t.open(ctx, target)
	if err != nil {
		if ctx.Err() == nil {
			t.launcher.Progress.Printf("a connection was refused: %v", err)
		}
		// The client shall not take this for an answer.
		_ = client.(*net.TCPConn).SetLinger(0)
		client.Close()
		return
	}
	stop := context.AfterFunc(ctx, func() {
		client.Close()
		conn.Close()
	})
	defer stop()
	tunnel.Join(conn, client)
}

func (t *tunnels) open(ctx context.Context, target forward.Target) (tunnel.Conn, error) {
	client, err := t.current(ctx)
	if err != nil {
		return nil, err
	}
	return client.Open(target)
}

// current returns the tunnel, a new one if there is none.
func (t *tunnels) current(ctx context.Context) (*tunnel.Client, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.client != nil {
		return t.client, nil
	}
	if t.closed {
		return nil, net.ErrClosed
	}
	fromHere, toThere := io.Pipe()
	fromThere, toHere := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		// Ctrl-C is for this program.
		err := t.launcher.Docker.Detached().ExecStreams(ctx, t.id, docker.Streams{In: fromHere, Out: toHere}, "/usr/bin/runner", "tunnel")
		ended <- err
		toHere.CloseWithError(errors.Join(err, io.EOF))
		fromHere.CloseWithError(io.ErrClosedPipe)
	}()
	client, err := tunnel.Dial(pipes{fromThere, toThere})
	if err != nil {
		toThere.Close()
		fromThere.Close()
		// What Docker says tells more.
		select {
		case execErr := <-ended:
			err = cmp.Or(execErr, err)
		case <-time.After(time.Second):
		}
		return nil, err
	}
	t.client = client
	go func() {
		_ = client.Wait()
		toThere.Close()
		fromThere.Close()
		t.mu.Lock()
		t.client = nil
		closed := t.closed
		t.mu.Unlock()
		if closed {
			return
		}
		// The next connection opens another one, if the cluster is there.
		if _, err := t.launcher.running(ctx, t.name); err != nil {
			t.fail(err)
		}
	}()
	return client, nil
}

func (t *tunnels) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	if t.client != nil {
		t.client.Close()
	}
}

// pipes are the two directions of a stream.
type pipes struct {
	*io.PipeReader
	out *io.PipeWriter
}

func (p pipes) Write(b []byte) (int, error) { return p.out.Write(b) }
func (p pipes) Close() error                { return errors.Join(p.PipeReader.Close(), p.out.Close()) }
