package registry

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// tries is how often one request is made in all, the pauses between being 0.25, 0.5, 1, 2 and 4
	// seconds.
	tries = 6
	// stalled is when a request on which nothing moves, in either direction, has failed. A registry
	// may take long to store a large blob, and says nothing meanwhile.
	stalled = 2 * time.Minute
	// dialTimeout is for the connection alone.
	dialTimeout = 10 * time.Second
	// maxErrorBody is how much of an error's text is looked at, in bytes.
	maxErrorBody = 64 << 10
)

var errStalled = errors.New("the registry has stopped answering")

// plainHTTPError is a request that anyone on the way could have read.
type plainHTTPError struct{ host string }

func (e *plainHTTPError) Error() string {
	return "plain HTTP to " + e.host + " is not allowed"
}

// tripper makes requests, again where that is safe and promises something. It stands below
// go-containerregistry, whose own retries do not know Retry-After, sleep through a cancellation and
// are too few for a registry in trouble.
type tripper struct {
	inner http.RoundTripper
	plain func(host string) bool // reports whether to talk to a host without TLS
	pause func(try int) time.Duration

	// reached is set by the first answer: until then a host that does not exist is a typing
	// mistake, later a hiccup.
	reached atomic.Bool
	// notBefore is when the registry accepts requests again, in nanoseconds since 1970.
	notBefore atomic.Int64
}

// sentKey is the context's key of a function that is called with the number of bytes that a request
// sends, as it sends them.
type sentKey struct{}

func withSent(ctx context.Context, sent func(n int)) context.Context {
	return context.WithValue(ctx, sentKey{}, sent)
}

// pause grows from a quarter of a second to five seconds, with some chance, so that many clients
// spread.
func pause(try int) time.Duration {
	d := min(250*time.Millisecond<<min(try, 10), 5*time.Second)
	return d - time.Duration(rand.Int64N(int64(d)/4))
}

// RoundTrip implements http.RoundTripper. Of the requests with a body only small ones come twice:
// before a blob's body comes again, a new upload has to begin.
func (t *tripper) RoundTrip(in *http.Request) (*http.Response, error) {
	if in.URL.Scheme == "http" && !t.plain(in.URL.Host) {
		if in.Body != nil {
			in.Body.Close()
		}
		return nil, &plainHTTPError{in.URL.Host}
	}
	left := tries
	if in.Method == http.MethodPatch {
		left = 1
	}
	req := in
	for try := 0; ; try++ {
		if err := t.await(in.Context()); err != nil {
			return nil, err
		}
		resp, err := t.once(req)
		if err == nil {
			t.reached.Store(true)
		}
		left--
		if !t.worthAnotherTry(in.Context(), resp, err) {
			return resp, err
		}
		if resp != nil {
			if later := retryAfter(resp.Header.Get("Retry-After"), time.Now()); later > 0 {
				until := time.Now().Add(later)
				t.notBefore.Store(until.UnixNano())
				if deadline, ok := in.Context().Deadline(); ok && deadline.Before(until) {
					return resp, nil
				}
			}
		}
		if left == 0 || (in.Body != nil && in.GetBody == nil) {
			return resp, err
		}
		if resp != nil {
			io.Copy(io.Discard, io.LimitReader(resp.Body, maxErrorBody))
			resp.Body.Close()
		}
		if err := sleep(in.Context(), t.pause(try)); err != nil {
			return nil, err
		}
		req = in.Clone(in.Context())
		if in.GetBody != nil {
			if req.Body, err = in.GetBody(); err != nil {
				return nil, err
			}
		}
	}
}

// await waits until the registry accepts requests.
func (t *tripper) await(ctx context.Context) error {
	return sleep(ctx, time.Until(time.Unix(0, t.notBefore.Load())))
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// once makes the request, and ends it when nothing moves any more.
func (t *tripper) once(in *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(in.Context())
	timer := time.AfterFunc(stalled, func() { cancel(errStalled) })
	req := in.Clone(ctx)
	if in.Body != nil && in.Body != http.NoBody {
		sent, _ := ctx.Value(sentKey{}).(func(int))
		watch := func(body io.ReadCloser) io.ReadCloser {
			return &watched{ReadCloser: body, moved: func(n int) {
				timer.Reset(stalled)
				if sent != nil {
					sent(n)
				}
			}}
		}
		req.Body = watch(in.Body)
		if in.GetBody != nil {
			// For Go's client, which begins anew by itself where the connection turns out to be
			// closed already.
			req.GetBody = func() (io.ReadCloser, error) {
				body, err := in.GetBody()
				if err != nil {
					return nil, err
				}
				return watch(body), nil
			}
		}
	}
	resp, err := t.inner.RoundTrip(req)
	if err != nil {
		timer.Stop()
		if in.Context().Err() == nil && errors.Is(context.Cause(ctx), errStalled) {
			err = errStalled
		}
		cancel(nil)
		return nil, err
	}
	resp.Body = &watched{
		ReadCloser: resp.Body,
		moved:      func(int) { timer.Reset(stalled) },
		closed: func() {
			timer.Stop()
			cancel(nil)
		},
	}
	return resp, nil
}

// watched is a body that calls functions as it is read and closed.
type watched struct {
	io.ReadCloser
	moved  func(n int)
	closed func()
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	if n > 0 {
		w.moved(n)
	}
	return n, err
}

func (w *watched) Close() error {
	if w.closed != nil {
		w.closed()
	}
	return w.ReadCloser.Close()
}

// worthAnotherTry reports whether the same request may have a better end.
func (t *tripper) worthAnotherTry(ctx context.Context, resp *http.Response, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	if err != nil {
		return transientError(err, t.reached.Load())
	}
	if !transientStatus(resp.StatusCode) {
		return false
	}
	// What is in the way here stays there.
	text, readErr := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	resp.Body = &restored{Reader: io.MultiReader(bytes.NewReader(text), resp.Body), Closer: resp.Body}
	return readErr != nil || !diskFull(string(text))
}

// restored is a body of which some was read and put back.
type restored struct {
	io.Reader
	io.Closer
}

// transientStatus reports whether an answer is about the moment rather than about the request.
func transientStatus(code int) bool {
	switch code {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout,
		499,                     // nginx: the client closed the connection
		520, 521, 522, 523, 524: // Cloudflare: trouble with the server behind it
		return true
	}
	return false
}

// transientError reports whether a request without an answer may get one later.
func transientError(err error, reached bool) bool {
	var plain *plainHTTPError
	var dns *net.DNSError
	var op *net.OpError
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.As(err, &plain):
		return false
	case isLocal(err), isTLS(err), isPlainServer(err):
		return false
	case errors.As(err, &dns):
		return reached || dns.IsTemporary
	case errors.As(err, &op) && op.Op == "dial":
		return reached
	}
	return true
}

// enospc is the error number in what the reference implementation passes on of its storage driver's
// error: JSON, or that as go-containerregistry prints it.
var enospc = regexp.MustCompile(`\bErr"?:28\b`)

// diskFull reports whether a registry says that it cannot store anything more.
func diskFull(text string) bool {
	return strings.Contains(text, "no space left") || strings.Contains(text, "Insufficient Storage") || enospc.MatchString(text)
}

// retryAfter reads the header of that name: seconds, or a time (RFC 9110, section 10.2.3). It is 0
// for everything else.
func retryAfter(header string, now time.Time) time.Duration {
	const most = 24 * time.Hour
	if seconds, err := strconv.Atoi(header); err == nil {
		if seconds < 0 {
			return 0
		}
		return min(time.Duration(min(seconds, int(most.Seconds())))*time.Second, most)
	}
	at, err := http.ParseTime(header)
	if err != nil {
		return 0
	}
	return max(0, min(at.Sub(now), most))
}

// newTripper makes a tripper as the options say.
func newTripper(o Options) (*tripper, error) {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DialContext = (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext
	t.MaxIdleConnsPerHost = 2 * o.Jobs
	if o.CAFile != "" {
		pool, err := authorities(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("certificate authorities: %w", err)
		}
		if t.TLSClientConfig == nil {
			t.TLSClientConfig = &tls.Config{}
		}
		t.TLSClientConfig.RootCAs = pool
	}
	made := &tripper{inner: t, plain: o.plain, pause: pause}
	if o.Pause != nil {
		made.pause = o.Pause
	}
	return made, nil
}
