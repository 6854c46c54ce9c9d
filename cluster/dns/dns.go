// Package dns answers the DNS queries of nodes and pods by passing them on to the name servers of
// the top-level container.
//
// Pods cannot use those servers directly. On a user-defined network, the container's only name
// server is 127.0.0.11, Docker's own, which only the container itself can reach
// (https://docs.docker.com/engine/userguide/networking/configure-dns/); and servers that are
// reachable now may not be after a restart of the container. A pod's upstream is therefore always
// the same address, and with no network at all it gets an error at once and not after a time-out.
package dns

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/net/netutil"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

const (
	port = 53
	// timeout bounds one try with one upstream server. Resolvers give up after five seconds.
	timeout = 2 * time.Second
	// maxQueries bounds the questions that are open at a time, each of which has a socket of its
	// own, and maxConns the clients that are connected. Upstream servers that do not answer would
	// otherwise cost more and more.
	maxQueries = 256
	maxConns   = 64
	// maxUDP is the largest message over UDP.
	maxUDP = 65535
	// headerSize is that of a DNS message.
	headerSize = 12
)

// Serve answers on addresses until ctx ends. They need not exist yet.
func Serve(ctx context.Context, addresses []netip.Addr, resolvConf string) error {
	f := newForwarder(resolvConf, port)
	group, ctx := errgroup.WithContext(ctx)
	for _, a := range addresses {
		group.Go(func() error { return f.serve(ctx, netip.AddrPortFrom(a, port), nil) })
	}
	return group.Wait()
}

type forwarder struct {
	resolvConf string
	port       int // of the upstream servers
	open       chan struct{}
}

func newForwarder(resolvConf string, port int) *forwarder {
	return &forwarder{resolvConf: resolvConf, port: port, open: make(chan struct{}, maxQueries)}
}

// begin takes one of the places for open questions, and reports whether one was free. The caller
// returns it with end.
func (f *forwarder) begin() bool {
	select {
	case f.open <- struct{}{}:
		return true
	default:
		return false
	}
}

func (f *forwarder) end() { <-f.open }

// serve listens; ready, if not nil, gets the address.
func (f *forwarder) serve(ctx context.Context, listen netip.AddrPort, ready func(udp, tcp net.Addr)) error {
	family, level, option := "4", unix.SOL_IP, unix.IP_FREEBIND
	if listen.Addr().Is6() {
		family, level, option = "6", unix.SOL_IPV6, unix.IPV6_FREEBIND
	}
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		// The address belongs to a bridge that Docker makes later.
		if e := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, option, 1) }); e != nil {
			return e
		}
		return err
	}}
	udp, err := config.ListenPacket(ctx, "udp"+family, listen.String())
	if err != nil {
		return fmt.Errorf("listening for DNS queries: %w", err)
	}
	defer udp.Close()
	tcp, err := config.Listen(ctx, "tcp"+family, listen.String())
	if err != nil {
		return fmt.Errorf("listening for DNS queries: %w", err)
	}
	defer tcp.Close()
	if ready != nil {
		ready(udp.LocalAddr(), tcp.Addr())
	}
	failed := make(chan error, 2)
	go func() { failed <- f.serveUDP(udp) }()
	go func() { failed <- f.serveTCP(tcp) }()
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return fmt.Errorf("serving DNS: %w", err)
	}
}

func (f *forwarder) serveUDP(conn net.PacketConn) error {
	buffer := make([]byte, maxUDP)
	for {
		n, from, err := conn.ReadFrom(buffer)
		if err != nil {
			return err
		}
		query := bytes.Clone(buffer[:n])
		if !f.begin() {
			// At once, since the client may have another server to ask.
			if answer := refuse(query); answer != nil {
				_, _ = conn.WriteTo(answer, from)
			}
			continue
		}
		go func() {
			defer f.end()
			if answer := f.answer(query, f.askUDP); answer != nil {
				_, _ = conn.WriteTo(answer, from)
			}
		}()
	}
}

func (f *forwarder) serveTCP(listener net.Listener) error {
	// Further clients wait in the kernel until one disconnects or is idle for ten seconds.
	listener = netutil.LimitListener(listener, maxConns)
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			for {
				_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
				query, err := readFrame(conn)
				if err != nil {
					return
				}
				answer := refuse(query)
				if f.begin() {
					answer = f.answer(query, f.askTCP)
					f.end()
				}
				if answer == nil || writeFrame(conn, answer) != nil {
					return
				}
			}
		}()
	}
}

// answer asks one upstream server after the other, and returns SERVFAIL when none answers.
func (f *forwarder) answer(query []byte, ask func(server string, query []byte) ([]byte, error)) []byte {
	if !isQuery(query) {
		return nil
	}
	servers, err := nameservers(f.resolvConf)
	if err != nil {
		return failure(query)
	}
	for _, server := range servers {
		answer, err := ask(net.JoinHostPort(server.String(), fmt.Sprint(f.port)), query)
		if err == nil && len(answer) >= headerSize && bytes.Equal(answer[:2], query[:2]) {
			return answer
		}
	}
	return failure(query)
}

func (f *forwarder) askUDP(server string, query []byte) ([]byte, error) {
	conn, err := net.DialTimeout("udp", server, timeout)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(timeout))
	if _, err := conn.Write(query); err != nil {
		return nil, err
	}
	buffer := make([]byte, maxUDP)
	n, err := conn.Read(buffer)
	if err != nil {
		return nil, err
	}
	return buffer[:n], nil
}

func (f *forwarder) askTCP(server string, query []byte) ([]byte, error) {
	conn, err := net.DialTimeout("tcp", server, timeout)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(timeout))
	if err := writeFrame(conn, query); err != nil {
		return nil, err
	}
	return readFrame(conn)
}

// Over TCP, a message follows its length.

func readFrame(r io.Reader) ([]byte, error) {
	var length uint16
	if err := binary.Read(r, binary.BigEndian, &length); err != nil {
		return nil, err
	}
	message := make([]byte, length)
	_, err := io.ReadFull(r, message)
	return message, err
}

func writeFrame(w io.Writer, message []byte) error {
	if len(message) > maxUDP {
		return errors.New("message too long")
	}
	_, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(message))), message...))
	return err
}

func isQuery(message []byte) bool { return len(message) >= headerSize && message[2]&0x80 == 0 }

// refuse returns the answer to a query for which there is no place, or nil if the message is no
// query.
func refuse(query []byte) []byte {
	if !isQuery(query) {
		return nil
	}
	return failure(query)
}

// failure turns a query into the answer SERVFAIL.
func failure(query []byte) []byte {
	answer := bytes.Clone(query)
	answer[2] |= 0x80                 // QR: an answer.
	answer[3] = answer[3]&0x70 | 0x82 // RA, and the response code 2.
	return answer
}

// nameservers reads the servers from a resolv.conf. It is read for every query: Docker rewrites the
// file when the container joins another network.
func nameservers(path string) ([]netip.Addr, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var servers []netip.Addr
	for s := bufio.NewScanner(bytes.NewReader(data)); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(fields[1]); err == nil {
			servers = append(servers, a)
		}
	}
	return servers, nil
}
