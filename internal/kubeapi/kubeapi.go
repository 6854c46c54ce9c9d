// Package kubeapi is the part of a Kubernetes client that starting a cluster needs: get, patch,
// delete and watch.
//
// It is not client-go for the sake of size, since the runner is in the layer that changes with
// every edit: a program that gets, patches and watches nodes has 6.6 MB with this package, 10.6 MB
// with client-go's bare rest.RESTClient, and 26.6 MB with its typed clients (v0.37.0, stripped,
// linux/amd64). The whole runner has 8.6 MB.
package kubeapi

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/dind-cluster/dind-cluster/internal/kubeconfig"
)

// Client makes requests to one API server as one user.
type Client struct {
	server string
	http   *http.Client
}

// New returns a client for the cluster and the user that c names.
func New(c kubeconfig.Config) (*Client, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(c.CA) {
		return nil, errors.New("the cluster's authority is not a PEM-encoded certificate")
	}
	config := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	if len(c.Cert) > 0 {
		pair, err := tls.X509KeyPair(c.Cert, c.Key)
		if err != nil {
			return nil, fmt.Errorf("reading the client's certificate: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return &Client{
		server: c.Server,
		http: &http.Client{Transport: &http.Transport{
			TLSClientConfig: config,
			// Never through a proxy: the server is in the caller's own network
			// namespace.
			Proxy:               nil,
			DialContext:         (&net.Dialer{Timeout: 2 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
			TLSHandshakeTimeout: 5 * time.Second,
			ForceAttemptHTTP2:   true,
		}},
	}, nil
}

// StatusError is an answer with an HTTP status other than 2xx.
type StatusError struct {
	Code    int
	Message string
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("the API server answers %d %s: %s", e.Code, http.StatusText(e.Code), e.Message)
}

func (c *Client) do(ctx context.Context, method, path, contentType string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.server+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	var status struct{ Message string }
	if json.Unmarshal(text, &status) == nil && status.Message != "" {
		text = []byte(status.Message)
	}
	return nil, &StatusError{Code: resp.StatusCode, Message: string(bytes.TrimSpace(text))}
}

// Get reads the object or list at path. With a nil into it only checks that the server answers with
// success.
func (c *Client) Get(ctx context.Context, path string, into any) error {
	return c.object(ctx, http.MethodGet, path, "", nil, into)
}

// Patch changes the object at path (a strategic merge patch: taints, for example, are added to
// those that are there).
func (c *Client) Patch(ctx context.Context, path string, patch any) error {
	body, err := json.Marshal(patch)
	if err != nil {
		return fmt.Errorf("encoding a patch: %w", err)
	}
	return c.object(ctx, http.MethodPatch, path, "application/strategic-merge-patch+json", body, nil)
}

// Delete removes the object or the objects at path. That there is none is not an error.
func (c *Client) Delete(ctx context.Context, path string) error {
	err := c.object(ctx, http.MethodDelete, path, "", nil, nil)
	if NotFound(err) {
		return nil
	}
	return err
}

// NotFound reports whether the API server answered that there is no such object.
func NotFound(err error) bool {
	var status *StatusError
	return errors.As(err, &status) && status.Code == http.StatusNotFound
}

// Apply makes the object at path, or changes it to what is given (a server-side apply in the name
// of manager, which takes over the fields that others have set otherwise).
func (c *Client) Apply(ctx context.Context, path, manager string, object any) error {
	// JSON is YAML.
	body, err := json.Marshal(object)
	if err != nil {
		return fmt.Errorf("encoding an object: %w", err)
	}
	return c.object(ctx, http.MethodPatch, path+"?force=true&fieldManager="+url.QueryEscape(manager), "application/apply-patch+yaml", body, nil)
}

func (c *Client) object(ctx context.Context, method, path, contentType string, body []byte, into any) error {
	resp, err := c.do(ctx, method, path, contentType, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if into == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("decoding %s: %w", path, err)
	}
	return nil
}

// poll is the pause between two tries when there is no event to wait for. A refused connection
// costs nothing.
const poll = 50 * time.Millisecond

// WaitFor gets path every 50 ms until the server answers with success. The error of a context that
// ends says what the last answer was.
func (c *Client) WaitFor(ctx context.Context, path string) error {
	return c.until(ctx, "GET", path, func(ctx context.Context) error { return c.Get(ctx, path, nil) })
}

// ApplyUntil repeats Apply every 50 ms until it succeeds: a server that has just started refuses
// for a while. The error of a context that ends says what the last answer was.
func (c *Client) ApplyUntil(ctx context.Context, path, manager string, object any) error {
	return c.until(ctx, "PATCH", path, func(ctx context.Context) error { return c.Apply(ctx, path, manager, object) })
}

// until makes a request until it succeeds.
func (c *Client) until(ctx context.Context, method, path string, request func(context.Context) error) error {
	var last error
	for {
		try, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := request(try)
		cancel()
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; last answer to %s %s%s: %w", context.Cause(ctx), method, c.server, path, last)
		case <-time.After(poll):
		}
	}
}

// WaitForServer waits until a server answers, with whatever HTTP status.
func (c *Client) WaitForServer(ctx context.Context) error {
	const path = "/livez"
	return c.until(ctx, "GET", path, func(ctx context.Context) error {
		if err := c.Get(ctx, path, nil); !errors.As(err, new(*StatusError)) {
			return err
		}
		return nil
	})
}

// Meta is the metadata that every object has.
type Meta struct {
	Name              string            `json:"name"`
	Namespace         string            `json:"namespace"`
	ResourceVersion   string            `json:"resourceVersion"`
	Labels            map[string]string `json:"labels"`
	Annotations       map[string]string `json:"annotations"`
	DeletionTimestamp *time.Time        `json:"deletionTimestamp"`
}

// Object has what the watched kinds have in common.
type Object interface{ Meta() Meta }

// Follow calls f with all objects at a list path, at first and after every change, until f returns
// true. It survives a server that goes away for a while.
func Follow[T Object](ctx context.Context, c *Client, path string, f func(map[string]T) bool) error {
	var last error
	for {
		done, err := followOnce(ctx, c, path, f)
		if done {
			return nil
		}
		if err != nil && (ctx.Err() == nil || last == nil) {
			last = err
		}
		select {
		case <-ctx.Done():
			if last == nil {
				return context.Cause(ctx)
			}
			return fmt.Errorf("%w; while following %s%s: %w", context.Cause(ctx), c.server, path, last)
		case <-time.After(poll):
		}
	}
}

// watchTime is how long a watch lasts before the next list.
const watchTime = 5 * time.Minute

func followOnce[T Object](ctx context.Context, c *Client, path string, f func(map[string]T) bool) (bool, error) {
	var list struct {
		Metadata struct {
			ResourceVersion string `json:"resourceVersion"`
		} `json:"metadata"`
		Items []T `json:"items"`
	}
	if err := c.Get(ctx, path, &list); err != nil {
		return false, err
	}
	objects := map[string]T{}
	for _, item := range list.Items {
		objects[key(item)] = item
	}
	if f(objects) {
		return true, nil
	}
	// A server that is cut off in the middle does not end the watch.
	ctx, cancel := context.WithTimeout(ctx, watchTime+30*time.Second)
	defer cancel()
	resp, err := c.do(ctx, http.MethodGet, path+"?watch=1&timeoutSeconds="+strconv.Itoa(int(watchTime.Seconds()))+"&resourceVersion="+list.Metadata.ResourceVersion, "", nil)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	events := json.NewDecoder(resp.Body)
	for {
		var event struct {
			Type   string
			Object json.RawMessage
		}
		if err := events.Decode(&event); err != nil {
			if errors.Is(err, io.EOF) {
				return false, nil
			}
			return false, err
		}
		if event.Type == "ERROR" {
			return false, fmt.Errorf("the watch ended: %s", event.Object)
		}
		var item T
		if err := json.Unmarshal(event.Object, &item); err != nil {
			return false, fmt.Errorf("decoding an event of %s: %w", path, err)
		}
		if event.Type == "DELETED" {
			delete(objects, key(item))
		} else {
			objects[key(item)] = item
		}
		if f(objects) {
			return true, nil
		}
	}
}

func key(o Object) string {
	m := o.Meta()
	if m.Namespace == "" {
		return m.Name
	}
	return m.Namespace + "/" + m.Name
}
