package registry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// noPause makes retries quick.
func noPause(int) time.Duration { return time.Millisecond }

func newTestTripper(t *testing.T, o Options) *tripper {
	t.Helper()
	o.Jobs = 2
	if o.Pause == nil {
		o.Pause = noPause
	}
	made, err := newTripper(o)
	if err != nil {
		t.Fatal(err)
	}
	idle := made.inner.(*http.Transport)
	t.Cleanup(idle.CloseIdleConnections)
	return made
}

func TestTriesAgain(t *testing.T) {
	for name, c := range map[string]struct {
		method, body string
		answers      []int // the last one stays
		text         string
		want, tries  int
	}{
		"at once":          {method: "HEAD", answers: []int{200}, want: 200, tries: 1},
		"after trouble":    {method: "GET", answers: []int{500, 502, 503, 504, 429, 200}, want: 200, tries: 6},
		"never":            {method: "GET", answers: []int{503}, want: 503, tries: tries},
		"refused":          {method: "GET", answers: []int{403}, want: 403, tries: 1},
		"missing":          {method: "HEAD", answers: []int{404}, want: 404, tries: 1},
		"begin an upload":  {method: "POST", answers: []int{500, 202}, want: 202, tries: 2},
		"manifest":         {method: "PUT", body: "{}", answers: []int{503, 503, 201}, want: 201, tries: 3},
		"body of a blob":   {method: "PATCH", body: "blob", answers: []int{503, 202}, want: 503, tries: 1},
		"disk full":        {method: "POST", answers: []int{500}, text: `{"errors":[{"code":"UNKNOWN","detail":{"Err":28}}]}`, want: 500, tries: 1},
		"disk full, words": {method: "POST", answers: []int{500}, text: "write /x: no space left on device", want: 500, tries: 1},
	} {
		t.Run(name, func(t *testing.T) {
			made := 0
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				if err != nil || string(body) != c.body {
					t.Errorf("try %d has body %q, want %q: %v", made, body, c.body, err)
				}
				w.WriteHeader(c.answers[min(made, len(c.answers)-1)])
				io.WriteString(w, c.text)
				made++
			}))
			defer server.Close()
			req, err := http.NewRequestWithContext(t.Context(), c.method, server.URL, strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := newTestTripper(t, Options{}).RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			text, err := io.ReadAll(resp.Body)
			if err != nil || c.method != "HEAD" && string(text) != c.text {
				t.Errorf("body %q, want %q: %v", text, c.text, err)
			}
			if resp.StatusCode != c.want || made != c.tries {
				t.Errorf("%d after %d tries, want %d after %d", resp.StatusCode, made, c.want, c.tries)
			}
		})
	}
}

func TestCutConnections(t *testing.T) {
	var made atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if made.Add(1) < 4 {
			panic(http.ErrAbortHandler)
		}
	}))
	defer server.Close()
	get(t, newTestTripper(t, Options{}), server.URL)
	if made.Load() < 4 {
		t.Errorf("%d tries", made.Load())
	}
}

func get(t *testing.T, tr http.RoundTripper, url string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("%s: %s", url, resp.Status)
	}
}

// TestRetryAfter checks that all requests wait when the registry wants one to.
func TestRetryAfter(t *testing.T) {
	var busyUntil time.Time
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch now := time.Now(); {
		case busyUntil.IsZero():
			busyUntil = now.Add(time.Second)
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
		case now.Before(busyUntil):
			t.Errorf("asked again %v too early", busyUntil.Sub(now))
		}
	}))
	defer server.Close()
	made := newTestTripper(t, Options{})
	get(t, made, server.URL)

	// Longer than there is time for: the answer comes at once.
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	resp, err := made.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable || time.Since(start) > 30*time.Second {
		t.Errorf("%s after %v", resp.Status, time.Since(start))
	}
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

// TestStalled checks that a registry which takes a request and says nothing does not keep us, and that a slow one does.
func TestStalled(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/silent":
			select {
			case <-release:
			case <-r.Context().Done():
			}
		case "/slow": // longer than a stall in all, but always moving
			for range 8 {
				io.WriteString(w, "x")
				w.(http.Flusher).Flush()
				time.Sleep(350 * time.Millisecond)
			}
		}
	}))
	defer server.Close()
	defer close(release)
	made := newTestTripper(t, Options{Stalled: 2 * time.Second})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, server.URL+"/silent", strings.NewReader("blob"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := made.RoundTrip(req); !errors.Is(err, errStalled) {
		t.Errorf("error %v, want that the registry stopped answering", err)
	}

	req, err = http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/slow", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := made.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || len(text) != 8 {
		t.Errorf("%d bytes, %v", len(text), err)
	}
}

// rewinder reads a part of the body, then the body from its beginning, as Go's client does when a connection was closed.
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
	made := newTestTripper(t, Options{})
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
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(503) }))
	defer server.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	_, err = newTestTripper(t, Options{Pause: func(int) time.Duration { return time.Hour }}).RoundTrip(req)
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 10*time.Second {
		t.Errorf("error %v after %v", err, time.Since(start))
	}
}

// closeRecorder notes that a body was closed.
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
		_, err = newTestTripper(t, Options{}).RoundTrip(req)
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
