package registry

import (
	"context"
	"fmt"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// Options of a client.
type Options struct {
	// Insecure allows plain HTTP to other machines.
	Insecure bool
	// CAFile names certificate authorities in PEM form, besides the machine's own.
	CAFile string
	// Jobs is how many uploads there may be at a time.
	Jobs int
	// Pause returns how long to wait before the try after try, which counts from 0. Nil is a
	// quarter of a second that grows to five.
	Pause func(try int) time.Duration
}

// plain reports whether to talk to a host, which may have a port, without TLS. To name an authority
// is to want TLS, on this machine too.
func (o Options) plain(host string) bool {
	return o.Insecure || o.CAFile == "" && thisMachine(host)
}

// Client talks to one registry.
type Client struct {
	place       Place
	plainHTTP   bool
	credentials credentials
	tripper     *tripper
	puller      *remote.Puller
	pusher      *remote.Pusher
}

// Lookups is how many questions, all without a body, may be open at a time.
const Lookups = 16

// New prepares to talk to the registry of a place. It finds the credentials, and makes no request.
func New(ctx context.Context, place Place, o Options) (*Client, error) {
	if o.Jobs < 1 {
		return nil, fmt.Errorf("%d requests at a time: want at least 1", o.Jobs)
	}
	t, err := newTripper(o)
	if err != nil {
		return nil, err
	}
	plain := o.plain(place.host)
	repo, err := place.repository("image", plain)
	if err != nil {
		return nil, err
	}
	found, err := findCredentials(ctx, target{repo.RegistryStr(), repo.RegistryStr() + "/" + place.path})
	if err != nil {
		return nil, err
	}
	c := &Client{place: place, plainHTTP: plain, credentials: found, tripper: t}
	options := []remote.Option{
		remote.WithAuth(found.Authenticator),
		remote.WithJobs(Lookups),
		remote.WithTransport(t),
		// The tripper knows better when to try again.
		remote.WithRetryBackoff(remote.Backoff{Steps: 1}),
		remote.WithRetryStatusCodes(),
	}
	if c.puller, err = remote.NewPuller(options...); err != nil {
		return nil, err
	}
	c.pusher, err = remote.NewPusher(options...)
	return c, err
}

// Place returns where the client's images are.
func (c *Client) Place() Place { return c.place }

// Access is what a repository is opened for.
type Access string

// A repository is read from, or pushed to. The values are those of registries' access tokens.
const (
	Pull = Access(transport.PullScope)
	Push = Access(transport.PushScope)
)

// Open makes sure that the registry answers and, as far as it says so this early, that it accepts
// the credentials.
func (c *Client) Open(ctx context.Context, image string, access Access) (*Repository, error) {
	repo, err := c.place.repository(image, c.plainHTTP)
	if err != nil {
		return nil, err
	}
	scopes := []string{repo.Scope(string(access))}
	_, err = transport.NewWithContext(ctx, repo.Registry, c.credentials.Authenticator, c.tripper, scopes)
	if err != nil {
		return nil, c.explain(ctx, err, "connecting to %s", c.place.Host())
	}
	return &Repository{client: c, image: image, name: repo}, nil
}
