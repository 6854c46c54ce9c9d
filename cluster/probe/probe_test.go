package probe

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
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
	if err := repeat(t.Context(), question(serve(t, 4, [4]byte{10, 96, 0, 1}), "10.96.0.1")); err != nil {
		t.Error(err)
	}
}

// A question that is not answered does not hold up the next ones.
func TestLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var questions atomic.Int32
		if err := repeat(t.Context(), func(ctx context.Context) error {
			if questions.Add(1) > 4 {
				return nil
			}
			<-ctx.Done()
			return ctx.Err()
		}); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took != 4*pause {
			t.Errorf("took %v", took)
		}
	})
}

func TestBadAnswers(t *testing.T) {
	for name, test := range map[string]struct{ server, want string }{
		"wrong answer": {serve(t, 0, [4]byte{1, 2, 3, 4}), "is [1.2.3.4], want 10.96.0.1"},
		"failure":      {serve(t, 1<<30, [4]byte{}), "server misbehaving"},
	} {
		if err := question(test.server, "10.96.0.1")(t.Context()); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want one that says %q", name, err, test.want)
		}
	}
}

// In the end the error has the last answer, if there was any: later questions without one tell
// less.
func TestDeadline(t *testing.T) {
	refused := errors.New("server misbehaving")
	for _, last := range []error{refused, nil} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			begin := time.Now()
			err := repeat(ctx, func(ctx context.Context) error {
				if last != nil && time.Since(begin) < time.Second {
					return last
				}
				<-ctx.Done()
				return ctx.Err()
			})
			if !errors.Is(err, context.DeadlineExceeded) || last != nil && !errors.Is(err, last) {
				t.Errorf("got %v, want %v", err, last)
			}
		})
	}
}

// Asking in vain gets slower and slower, and no more than maxOpen questions are open at a time.
func TestBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const long = time.Minute
		ctx, cancel := context.WithTimeout(t.Context(), long)
		defer cancel()
		var mu sync.Mutex
		var times []time.Time
		open, most := 0, 0
		err := repeat(ctx, func(ctx context.Context) error {
			mu.Lock()
			times = append(times, time.Now())
			open++
			most = max(most, open)
			mu.Unlock()
			<-ctx.Done()
			mu.Lock()
			defer mu.Unlock()
			open--
			return ctx.Err()
		})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		first, last := times[1].Sub(times[0]), times[len(times)-1].Sub(times[len(times)-2])
		if first != pause || last != maxPause || most > maxOpen+1 {
			t.Errorf("pauses from %v to %v, %d questions open", first, last, most)
		}
	})
}
