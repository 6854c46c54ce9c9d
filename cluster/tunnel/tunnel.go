// Package tunnel carries connections over one pair of byte streams, such as the standard input and output of `docker exec`: the
// connection protocol of SSH (RFC 4254), whose channels have flow control, ends of each direction by itself, and errors. The way
// there is Docker's, who is let in Docker's decision; so neither side asks the other for a key that it knows.
package tunnel

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/crypto/ssh"
)

// channelType is the type of all channels. What they lead to is JSON.
const channelType = "forward@dind-cluster.github.io"

// Conn is one connection: CloseWrite ends the input of the other side, Close both directions.
type Conn interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// Client opens connections.
type Client struct{ conn ssh.Conn }

// Dial begins at the side that opens connections. It closes the stream when it fails.
func Dial(stream io.ReadWriteCloser) (*Client, error) {
	conn, channels, requests, err := ssh.NewClientConn(wrap{stream}, "", &ssh.ClientConfig{HostKeyCallback: ssh.InsecureIgnoreHostKey()})
	if err != nil {
		return nil, fmt.Errorf("opening the tunnel: %w", err)
	}
	go ssh.DiscardRequests(requests)
	go func() {
		for c := range channels {
			_ = c.Reject(ssh.Prohibited, "only this side opens connections")
		}
	}()
	return &Client{conn}, nil
}

// Open opens a connection to what a target means to the server. The error is what the server says.
func (c *Client) Open(target any) (Conn, error) {
	data, err := json.Marshal(target)
	if err != nil {
		return nil, err
	}
	channel, requests, err := c.conn.OpenChannel(channelType, data)
	if refused := (*ssh.OpenChannelError)(nil); errors.As(err, &refused) {
		return nil, &RefusedError{refused.Message}
	}
	if err != nil {
		return nil, err
	}
	go ssh.DiscardRequests(requests)
	return channel, nil
}

// Wait returns when the tunnel has ended.
func (c *Client) Wait() error { return c.conn.Wait() }

// Close ends the tunnel.
func (c *Client) Close() error { return c.conn.Close() }

// RefusedError is the server's reason not to open a connection.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return e.Reason }

// Serve opens connections that the other side asks for, until the stream or ctx ends. dial takes the target as JSON; what it returns
// is passed through until both directions have ended.
func Serve(ctx context.Context, stream io.ReadWriteCloser, dial func(ctx context.Context, target []byte) (net.Conn, error)) error {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return err
	}
	config := &ssh.ServerConfig{NoClientAuth: true}
	config.AddHostKey(signer)
	conn, channels, requests, err := ssh.NewServerConn(wrap{stream}, config)
	if err != nil {
		return fmt.Errorf("opening the tunnel: %w", err)
	}
	go ssh.DiscardRequests(requests)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	context.AfterFunc(ctx, func() { conn.Close() })
	for asked := range channels {
		go func() {
			if asked.ChannelType() != channelType {
				_ = asked.Reject(ssh.UnknownChannelType, "want "+channelType)
				return
			}
			target, err := dial(ctx, asked.ExtraData())
			if err != nil {
				_ = asked.Reject(ssh.ConnectionFailed, err.Error())
				return
			}
			channel, requests, err := asked.Accept()
			if err != nil {
				target.Close()
				return
			}
			go ssh.DiscardRequests(requests)
			Join(channel, target)
		}()
	}
	return nil
}

// Join passes on what comes from either connection to the other one, until both directions have ended or one of them fails, and
// closes both.
func Join(a io.ReadWriteCloser, b io.ReadWriteCloser) {
	done := make(chan struct{}, 2)
	pass := func(to, from io.ReadWriteCloser) {
		_, err := io.Copy(to, from)
		half, ok := to.(interface{ CloseWrite() error })
		// An end of input leaves the other direction open; an error leaves nothing to wait for.
		if err != nil || !ok || half.CloseWrite() != nil {
			a.Close()
			b.Close()
		}
		done <- struct{}{}
	}
	go pass(a, b)
	go pass(b, a)
	<-done
	<-done
	a.Close()
	b.Close()
}

// wrap makes a stream what package ssh takes. It does not set deadlines.
type wrap struct{ io.ReadWriteCloser }

func (wrap) LocalAddr() net.Addr              { return address{} }
func (wrap) RemoteAddr() net.Addr             { return address{} }
func (wrap) SetDeadline(time.Time) error      { return nil }
func (wrap) SetReadDeadline(time.Time) error  { return nil }
func (wrap) SetWriteDeadline(time.Time) error { return nil }

type address struct{}

func (address) Network() string { return "stream" }
func (address) String() string  { return "stream" }
