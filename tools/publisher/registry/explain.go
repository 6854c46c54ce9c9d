package registry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// Error is a failure, explained to the user who pushes.
type Error struct {
	// Doing is the operation that failed: "uploading sha256:… to
	// registry.example.com/team/dind-node".
	Doing string
	// Cause is what the registry or the network said, in a few words.
	Cause string
	// Hint says what to do next. It may be empty.
	Hint string
	// Err is the error as it came.
	Err error
}

func (e *Error) Error() string {
	text := e.Doing + ": " + e.Cause
	if e.Hint != "" {
		text += ". " + e.Hint
	}
	return text
}

// Unwrap returns the error as it came.
func (e *Error) Unwrap() error { return e.Err }

// isLocal reports whether the trouble is on this side: a layer's file.
func isLocal(err error) bool {
	var path *fs.PathError
	return errors.As(err, &path)
}

// explain makes an Error of what go-containerregistry returned. An ended context speaks for itself.
func (c *Client) explain(ctx context.Context, err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	doing := fmt.Sprintf(format, args...)
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", doing, context.Cause(ctx))
	}
	e := &Error{Doing: doing, Err: err}
	var answer *transport.Error
	// Where TLS failed and plain HTTP was tried after it, what the latter met is of no interest.
	if errors.As(err, &answer) && !isUntrusted(err) {
		e.Cause, e.Hint = c.answered(answer)
	} else {
		e.Cause, e.Hint = c.unanswered(err)
	}
	return e
}

// answered explains a registry's refusal.
func (c *Client) answered(err *transport.Error) (cause, hint string) {
	said := err.Error()
	if err.Request != nil {
		// The address's query holds an upload's state, and may hold a token.
		if _, after, found := strings.Cut(said, ": "); found {
			said = after
		}
	}
	said = shorten(said)
	status := fmt.Sprintf("%d %s", err.StatusCode, http.StatusText(err.StatusCode))
	switch code := err.StatusCode; {
	case diskFull(said) || code == http.StatusInsufficientStorage:
		return "the registry has no space left: " + status + ": " + said, "Make room there, then push again: what has arrived is not sent a second time"
	case code == http.StatusUnauthorized && c.credentials.source == "":
		return "the registry wants credentials: " + status, c.loginHint()
	case code == http.StatusUnauthorized:
		return "wrong user name or password: " + status, "They are from " + c.credentials.source + ". " + c.loginHint()
	case code == http.StatusForbidden && c.credentials.source == "":
		return "not allowed: " + status + ": " + said, c.loginHint()
	case code == http.StatusForbidden:
		return "not allowed: " + status + ": " + said, "The user of the credentials from " + c.credentials.source + " may not push there, or the registry is read-only"
	case code == http.StatusMethodNotAllowed:
		return "the registry is read-only: " + status + ": " + said, "Push to one that takes images, such as the one it mirrors"
	case code == http.StatusNotFound:
		return "the registry has no such repository: " + status + ": " + said, "Check the path in --registry; some registries want a project or repository to be made first"
	case code == http.StatusRequestEntityTooLarge:
		return "too large for the registry or a proxy before it: " + status, "Raise its limit for request bodies (nginx: client_max_body_size 0)"
	case code == http.StatusTooManyRequests:
		return "the registry takes no more requests for now: " + status + ": " + said, "Push again later: what has arrived is not sent a second time"
	case code >= 500:
		return "the registry keeps failing: " + status + ": " + said, "Look at its log, then push again: what has arrived is not sent a second time"
	}
	return "the registry refused: " + status + ": " + said, ""
}

// unanswered explains why there was no answer at all.
func (c *Client) unanswered(err error) (cause, hint string) {
	host := c.place.Host()
	var plain *plainHTTPError
	var dns *net.DNSError
	var path *fs.PathError
	switch {
	case isPlainServer(err):
		return host + " speaks plain HTTP", "If the network in between is your own, allow it with --insecure"
	case errors.As(err, &dns):
		return fmt.Sprintf("the name %s does not resolve: %s", dns.Name, dns.Err), "Check the host in --registry"
	case errors.Is(err, syscall.ECONNREFUSED):
		return host + " refuses connections", "Check the host and port in --registry, and that the registry runs"
	case isUntrusted(err):
		return host + "'s certificate is not trusted: " + bare(err), "If it is signed by an authority of your own, name that one's certificate with --ca-file"
	case errors.As(err, &path):
		return path.Error(), "Build the images again"
	case errors.Is(err, errStalled):
		return fmt.Sprintf("%s has not answered for %v", host, stalled), "Push again: what has arrived is not sent a second time"
	case errors.As(innermost(err), &plain):
		return plain.Error(), "The registry redirects there; if the network in between is your own, allow it with --insecure"
	}
	return bare(err), "Check the network and the registry's log, then push again: what has arrived is not sent a second time"
}

func (c *Client) loginHint() string {
	return fmt.Sprintf("Run docker login %s, or set %s and %s", c.place.Host(), UsernameVariable, PasswordVariable)
}

// innermost is what happened to a request, or to the first one of several.
func innermost(err error) error {
	var request *url.Error
	for errors.As(err, &request) {
		err = request.Err
	}
	return err
}

// bare is the innermost error's text, without the request's address, whose query may hold secrets.
func bare(err error) string { return shorten(innermost(err).Error()) }

// shorten keeps a registry's page of HTML, or worse, out of the log.
func shorten(text string) string {
	const most = 300
	clean := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
	clean = strings.Join(strings.Fields(clean), " ")
	if len(clean) > most {
		clean = strings.ToValidUTF8(clean[:most], "") + " …"
	}
	return strings.TrimSuffix(clean, ".")
}
