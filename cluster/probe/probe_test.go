package probe

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"
)

// serve answers DNS queries: the first few with SERVFAIL, then each with one address.
func serve(t *testing.T, failures int, address [4]byte) string {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buffer := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			// The header and the question; additional records are left out.
			question := 12
			for buffer[question] != 0 {
				question += int(buffer[question]) + 1
			}
			question += 5
			answer := append([]byte{}, buffer[:min(n, question)]...)
			answer[2], answer[3] = 0x81, 0x80
			answer[10], answer[11] = 0, 0
			isA := answer[question-3] == 1
			switch {
			case failures > 0:
				failures--
				answer[3] |= 2
			case isA:
				answer[7] = 1
				answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4)
				answer = append(answer, address[:]...)
			}
			_, _ = conn.WriteTo(answer, from)
		}
	}()
	return conn.LocalAddr().String()
}

func TestLookup(t *testing.T) {
	if err := lookup(t.Context(), serve(t, 4, [4]byte{10, 96, 0, 1}), "10.96.0.1"); err != nil {
		t.Error(err)
	}
}

// A question that nobody answers does not hold up the next ones.
func TestLookupLost(t *testing.T) {
	server := serve(t, 0, [4]byte{10, 96, 0, 1})
	real, err := net.Dial("udp4", server)
	if err != nil {
		t.Fatal(err)
	}
	defer real.Close()
	// It loses the first four questions, each of which is a packet for A and one for AAAA.
	lossy, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lossy.Close()
	go func() {
		buffer := make([]byte, 512)
		for i := 0; ; i++ {
			n, from, err := lossy.ReadFrom(buffer)
			if err != nil {
				return
			}
			if i < 8 {
				continue
			}
			if _, err := real.Write(buffer[:n]); err != nil {
				return
			}
			if n, err = real.Read(buffer); err != nil {
				return
			}
			_, _ = lossy.WriteTo(buffer[:n], from)
		}
	}()
	start := time.Now()
	if err := lookup(t.Context(), lossy.LocalAddr().String(), "10.96.0.1"); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > try/2 {
		t.Errorf("took %v", took)
	}
}

func TestLookupDeadline(t *testing.T) {
	for name, test := range map[string]struct{ server, want string }{
		"wrong answer": {serve(t, 0, [4]byte{1, 2, 3, 4}), "is [1.2.3.4], want 10.96.0.1"},
		"failure":      {serve(t, 1<<30, [4]byte{}), "server misbehaving"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		err := lookup(ctx, test.server, "10.96.0.1")
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want one that says %q", name, err, test.want)
		}
	}
}

// Asking in vain gets slower and slower.
func TestLookupBacksOff(t *testing.T) {
	silent, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	packets := 0
	done := make(chan struct{})
	go func() {
		defer close(done)
		for buffer := make([]byte, 512); ; packets++ {
			if _, _, err := silent.ReadFrom(buffer); err != nil {
				return
			}
		}
	}()
	const long = 6 * time.Second
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	if err := lookup(ctx, silent.LocalAddr().String(), "10.96.0.1"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	silent.Close()
	<-done
	// A question is a packet for A and one for AAAA.
	if most := 2 * int(long/pause) * 8 / 10; packets > most {
		t.Errorf("%d packets in %v, want fewer than %d", packets, long, most)
	}
}
