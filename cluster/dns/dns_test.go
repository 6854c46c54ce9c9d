package dns

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

func query(id byte) []byte {
	return append([]byte{id, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}, "\x01a\x00\x00\x01\x00\x01"...)
}

// upstream is a name server that answers every query with itself, marked as an answer.
func upstream(t *testing.T) int {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	port := conn.LocalAddr().(*net.UDPAddr).Port
	listener, err := net.Listen("tcp4", conn.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	reply := func(q []byte) []byte {
		a := bytes.Clone(q)
		a[2] |= 0x80
		return append(a, "answer"...)
	}
	go func() {
		buffer := make([]byte, maxUDP)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo(reply(buffer[:n]), from)
		}
	}()
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			if q, err := readFrame(c); err == nil {
				_ = writeFrame(c, reply(q))
			}
			c.Close()
		}
	}()
	return port
}

func start(t *testing.T, resolvConf string, port int) (udp, tcp string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(path, []byte(resolvConf), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	addresses, done := make(chan [2]string, 1), make(chan error, 1)
	go func() {
		done <- newForwarder(path, port).serve(ctx, netip.MustParseAddrPort("127.0.0.1:0"), func(udp, tcp net.Addr) {
			addresses <- [2]string{udp.String(), tcp.String()}
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	select {
	case a := <-addresses:
		return a[0], a[1]
	case err := <-done:
		t.Fatal(err)
	case <-time.After(5 * time.Second):
		t.Fatal("does not listen")
	}
	return "", ""
}

func ask(t *testing.T, network, address string, q []byte) []byte {
	t.Helper()
	f := &forwarder{}
	asker := f.askUDP
	if network == "tcp" {
		asker = f.askTCP
	}
	answer, err := asker(address, q)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// It listens at addresses of both IP families that do not exist, and ends with its context.
func TestServeFamilies(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("port 53 is for root")
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	addresses := []netip.Addr{netip.MustParseAddr("192.0.2.53"), netip.MustParseAddr("2001:db8::53")}
	go func() { done <- Serve(ctx, addresses, "/dev/null") }()
	listening := func() bool {
		udp, _ := os.ReadFile("/proc/self/net/udp6")
		tcp, _ := os.ReadFile("/proc/self/net/tcp")
		// As the kernel writes them, on little-endian machines: words of 32 bits.
		return bytes.Contains(udp, []byte("B80D0120000000000000000053000000:0035")) && bytes.Contains(tcp, []byte("350200C0:0035"))
	}
	for deadline := time.Now().Add(5 * time.Second); !listening(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Error("it does not listen")
			break
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestForward(t *testing.T) {
	udp, tcp := start(t, "# comment\nsearch x\nnameserver 127.0.0.1\n", upstream(t))
	for network, address := range map[string]string{"udp": udp, "tcp": tcp} {
		got := ask(t, network, address, query(5))
		if !bytes.HasSuffix(got, []byte("answer")) || got[0] != 5 {
			t.Errorf("%s: got %q", network, got)
		}
	}
}

func TestNoUpstream(t *testing.T) {
	for _, conf := range []string{"", "nameserver 127.0.0.1\n"} {
		udp, tcp := start(t, conf, 1) // Nothing listens on port 1.
		for network, address := range map[string]string{"udp": udp, "tcp": tcp} {
			begin := time.Now()
			got := ask(t, network, address, query(9))
			if got[3]&0x0f != 2 || got[2]&0x80 == 0 || got[0] != 9 {
				t.Errorf("%s, %q: got % x, want SERVFAIL", network, conf, got)
			}
			if took := time.Since(begin); took > time.Second {
				t.Errorf("%s, %q: the refusal took %v", network, conf, took)
			}
		}
	}
}

// Upstream servers that do not answer cost a bounded number of sockets, and further clients get an
// error at once.
func TestDeadUpstream(t *testing.T) {
	silent, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	udp, _ := start(t, "nameserver 127.0.0.1\n", silent.LocalAddr().(*net.UDPAddr).Port)
	client, err := net.Dial("udp4", udp)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	// One question after the other, as long as there are places; then the answers come as quickly
	// as the questions.
	begin, answered, most := time.Now(), 0, 0
	for i := range 4 * maxQueries {
		if _, err := client.Write(query(byte(i))); err != nil {
			t.Fatal(err)
		}
		wait := 20 * time.Millisecond
		if i < maxQueries {
			wait = 0
		}
		_ = client.SetReadDeadline(time.Now().Add(wait))
		if n, err := client.Read(make([]byte, maxUDP)); err == nil && n > headerSize {
			answered++
		}
		most = max(most, runtime.NumGoroutine())
	}
	if most > maxQueries+50 {
		t.Errorf("%d goroutines for %d places", most, maxQueries)
	}
	if answered < 2*maxQueries && time.Since(begin) < timeout {
		t.Errorf("only %d answers of %d", answered, 3*maxQueries)
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(query(1))
	f.Fuzz(func(t *testing.T, q []byte) {
		forward := &forwarder{resolvConf: "/dev/null"}
		answer := forward.answer(q, forward.askUDP)
		var asked, got dnsmessage.Parser
		header, err := asked.Start(q)
		if isQuery := err == nil && !header.Response; !isQuery || answer == nil {
			if isQuery || answer != nil {
				t.Errorf("% x is answered by % x", q, answer)
			}
			return
		}
		// There is no server: the answer says so, and to which question.
		reply, err := got.Start(answer)
		if err != nil || reply.ID != header.ID || !reply.Response || reply.RCode != dnsmessage.RCodeServerFailure || !bytes.Equal(answer[4:], q[4:]) {
			t.Errorf("% x is answered by % x, %v", q, answer, err)
		}
	})
}
