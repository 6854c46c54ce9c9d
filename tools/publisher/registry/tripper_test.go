package registry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// server answers in this process, without a connection: so its tests can have synctest's clock.
type server func(w http.ResponseWriter, r *http.Request) error

func (s server) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	if err := s(w, r); err != nil {
		return nil, err
	}
	return w.Result(), nil
}

// newTestTripper makes a tripper whose requests go to a server in this process; nil is for the
// network.
func newTestTripper(t *testing.T, s server) *tripper {
	t.Helper()
	made, err := newTripper(Options{Jobs: 2})
	if err != nil {
		t.Fatal(err)
	}
	if s != nil {
		made.inner = s
	}
	return made
}

const address = "http://127.0.0.1:1/v2/"

// request makes a request with a body and returns the answer, whose body it has read.
func request(ctx context.Context, t *testing.T, tr http.RoundTripper, method, body string) (*http.Response, string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp, string(text), err
}

func TestTriesAgain(t *testing.T) {
	for name, c := range map[string]struct {
		method, body string
		answers      []int // the last one stays
		text         string
		want, tries  int
		atMost       time.Duration // that the pauses take
	}{
		"at once":          {method: "HEAD", answers: []int{200}, want: 200, tries: 1},
		"after trouble":    {method: "GET", answers: []int{500, 502, 503, 504, 429, 200}, want: 200, tries: 6, atMost: 8 * time.Second},
		"never":            {method: "GET", answers: []int{503}, want: 503, tries: tries, atMost: 8 * time.Second},
		"refused":          {method: "GET", answers: []int{403}, want: 403, tries: 1},
		"missing":          {method: "HEAD", answers: []int{404}, want: 404, tries: 1},
		"begin an upload":  {method: "POST", answers: []int{500, 202}, want: 202, tries: 2, atMost: 250 * time.Millisecond},
		"manifest":         {method: "PUT", body: "{}", answers: []int{503, 503, 201}, want: 201, tries: 3, atMost: 750 * time.Millisecond},
		"cut connections":  {method: "GET", answers: []int{0, 0, 0, 200}, want: 200, tries: 4, atMost: 2 * time.Second},
		"body of a blob":   {method: "PATCH", body: "blob", answers: []int{503, 202}, want: 503, tries: 1},
		"disk full":        {method: "POST", answers: []int{500}, text: `{"errors":[{"code":"UNKNOWN","detail":{"Err":28}}]}`, want: 500, tries: 1},
		"disk full, words": {method: "POST", answers: []int{500}, text: "write /x: no space left on device", want: 500, tries: 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				made := 0
				start := time.Now()
				resp, text, err := request(t.Context(), t, newTestTripper(t, func(w http.ResponseWriter, r *http.Request) error {
					body, err := io.ReadAll(r.Body)
					if err != nil || string(body) != c.body {
						t.Errorf("try %d has body %q, want %q: %v", made, body, c.body, err)
					}
					answer := c.answers[min(made, len(c.answers)-1)]
					made++
					if answer == 0 {
						return io.ErrUnexpectedEOF
					}
					w.WriteHeader(answer)
					io.WriteString(w, c.text)
					return nil
				}), c.method, c.body)
				if err != nil || text != c.text {
					t.Fatalf("body %q, want %q: %v", text, c.text, err)
				}
				if resp.StatusCode != c.want || made != c.tries {
					t.Errorf("%d after %d tries, want %d after %d", resp.StatusCode, made, c.want, c.tries)
				}
				if took := time.Since(start); took > c.atMost || took < c.atMost/2 {
					t.Errorf("it took %v, want up to %v", took, c.atMost)
				}
			})
		})
	}
}

// TestRetryAfter checks that all requests wait when the registry says when it takes the next one.
func TestRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var busyUntil time.Time
		made := newTestTripper(t, func(w http.ResponseWriter, r *http.Request) error {
			switch now := time.Now(); {
			case busyUntil.IsZero():
				busyUntil = now.Add(time.Minute)
				w.Header().Set("Retry-After", "60")
				w.WriteHeader(http.StatusTooManyRequests)
			case now.Before(busyUntil):
				t.Errorf("asked again %v too early", busyUntil.Sub(now))
			}
			return nil
		})
		other := make(chan error)
		go func() {
			time.Sleep(time.Second)
			_, _, err := request(t.Context(), t, made, http.MethodHead, "")
			other <- err
		}()
		start := time.Now()
		resp, _, err := request(t.Context(), t, made, http.MethodGet, "")
		if err != nil || resp.StatusCode != http.StatusOK || time.Since(start) > time.Minute+time.Second {
			t.Errorf("%v, %v after %v", resp, err, time.Since(start))
		}
		if err := <-other; err != nil {
			t.Error(err)
		}

		// Longer than there is time for: the answer comes at once.
		made = newTestTripper(t, func(w http.ResponseWriter, r *http.Request) error {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(http.StatusServiceUnavailable)
			return nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start = time.Now()
		resp, _, err = request(ctx, t, made, http.MethodGet, "")
		if err != nil || resp.StatusCode != http.StatusServiceUnavailable || time.Since(start) > 0 {
			t.Errorf("%v, %v after %v", resp, err, time.Since(start))
		}
	})
}

func TestReadRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for header, want := range map[string]time.Duration{
		"": 0, "0": 0, "7": 7 * time.Second, "-1": 0, "soon": 0, "1.5": 0,
		"999999999999":                        24 * time.Hour,
		"Fri, 02 Jan 2026 03:04:35 GMT":       30 * time.Second,
		"Fri, 02 Jan 2026 03:04:00 GMT":       0,
		"Fri, 02 Jan 2099 03:04:00 GMT":       24 * time.Hour,
		"999999999999999999999999999999999":   0,
		"Friday, 02-Jan-26 03:04:15 GMT":      10 * time.Second,
		"Fri, 02 Jan 2026 03:04:35 GMT extra": 0,
	} {
		if got := retryAfter(header, now); got != want {
			t.Errorf("%q: %v, want %v", header, got, want)
		}
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, header := range []string{"", "1", "-9", "99999999999999999999", "Fri, 02 Jan 2026 03:04:35 GMT", "1e9"} {
		f.Add(header)
	}
	f.Fuzz(func(t *testing.T, header string) {
		if got := retryAfter(header, time.Unix(1_800_000_000, 0)); got < 0 || got > 24*time.Hour {
			t.Errorf("%q: %v", header, got)
		}
	})
}

// TestStalled checks that a registry which takes a request and does not answer ends it, and that a
// slow one does not.
func TestStalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		_, _, err := request(t.Context(), t, newTestTripper(t, func(_ http.ResponseWriter, r *http.Request) error {
			<-r.Context().Done()
			return r.Context().Err()
		}), http.MethodPatch, "blob")
		if took := time.Since(start); !errors.Is(err, errStalled) || took != stalled {
			t.Errorf("error %v after %v, want that the registry stopped answering after %v", err, took, stalled)
		}
		// Longer than a stall in all, but always moving.
		start = time.Now()
		made := newTestTripper(t, nil)
		made.inner = slow{}
		_, text, err := request(t.Context(), t, made, http.MethodGet, "")
		if err != nil || text != "xxxxxxxx" || time.Since(start) < 2*stalled {
			t.Errorf("%q, %v after %v", text, err, time.Since(start))
		}
	})
}

// slow is a server that takes its time for each byte of an answer.
type slow struct{}

func (slow) RoundTrip(*http.Request) (*http.Response, error) {
	r, w := io.Pipe()
	go func() {
		for range 8 {
			time.Sleep(stalled / 2)
			io.WriteString(w, "x")
		}
		w.Close()
	}()
	return &http.Response{StatusCode: http.StatusOK, Body: r}, nil
}

// rewinder reads a part of the body, then the body from its beginning, as Go's client does when a
// connection was closed.
type rewinder struct{}

func (rewinder) RoundTrip(req *http.Request) (*http.Response, error) {
	if _, err := io.ReadFull(req.Body, make([]byte, 3)); err != nil {
		return nil, err
	}
	body, err := req.GetBody()
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(io.Discard, body)
	return &http.Response{StatusCode: http.StatusAccepted, Body: http.NoBody}, err
}

func TestCountsWhatIsSent(t *testing.T) {
	made := newTestTripper(t, nil)
	made.inner = rewinder{}
	sent := 0
	req, err := http.NewRequestWithContext(withSent(t.Context(), func(n int) { sent += n }), http.MethodPatch, "http://127.0.0.1:1", strings.NewReader("a whole blob"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := made.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if sent != 3+12 {
		t.Errorf("%d bytes counted, want 15", sent)
	}
}

func TestCancelledPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		start := time.Now()
		_, _, err := request(ctx, t, newTestTripper(t, func(w http.ResponseWriter, _ *http.Request) error {
			w.WriteHeader(http.StatusServiceUnavailable)
			return nil
		}), http.MethodGet, "")
		if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || took != 100*time.Millisecond {
			t.Errorf("error %v after %v", err, took)
		}
	})
}

// closeRecorder records that a body was closed.
type closeRecorder struct {
	io.Reader
	closed bool
}

func (c *closeRecorder) Close() error { c.closed = true; return nil }

func TestPlainHTTP(t *testing.T) {
	for url, allowed := range map[string]bool{
		"http://registry.invalid/v2/": false, "http://10.0.0.1/v2/": false, "https://127.0.0.1:1/v2/": true, "http://127.0.0.1:1/v2/": true,
	} {
		body := &closeRecorder{Reader: bytes.NewReader(nil)}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, body)
		if err != nil {
			t.Fatal(err)
		}
		_, err = newTestTripper(t, nil).RoundTrip(req)
		var plain *plainHTTPError
		if err == nil || errors.As(err, &plain) == allowed {
			t.Errorf("%s: %v", url, err)
		}
		if !body.closed {
			t.Errorf("%s: the body stays open", url)
		}
	}
}

func TestPause(t *testing.T) {
	var sum time.Duration
	for try := range tries - 1 {
		d := pause(try)
		if d <= 0 || d > 5*time.Second {
			t.Errorf("pause %d is %v", try, d)
		}
		sum += d
	}
	if sum < 5*time.Second || sum > 8*time.Second {
		t.Errorf("all pauses are %v", sum)
	}
	if d := pause(1000); d <= 0 || d > 5*time.Second {
		t.Errorf("a late pause is %v", d)
	}
}
