package docker

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// ErrNotFound means that there is no container, image or other object of that name.
var ErrNotFound = errors.New("not found")

// Container is the part of `docker container inspect` that callers use.
type Container struct {
	ID      string `json:"Id"`
	Name    string // with the leading slash that Docker gives it
	Created time.Time
	Image   string // the image's ID
	State   State
	Config  struct {
		Image  string // as it was asked for
		Labels map[string]string
		Env    []string
	}
	Mounts []struct {
		Type        string
		Name        string
		Source      string
		Destination string
	}
	NetworkSettings struct {
		Ports    map[string][]PortBinding
		Networks map[string]struct{ IPAddress string }
	}
}

// State is what a container is doing.
type State struct {
	Status    string // created, running, exited, …
	Running   bool
	OOMKilled bool
	Pid       int
	ExitCode  int
	Error     string
	StartedAt time.Time
	Health    *struct {
		Status        string // starting, healthy, unhealthy
		FailingStreak int
	}
}

// HealthStatus returns the state's health status, or "" without a health check.
func (s State) HealthStatus() string {
	if s.Health == nil {
		return ""
	}
	return s.Health.Status
}

// PortBinding is a host address that leads to a container's port.
type PortBinding struct {
	HostIP   string `json:"HostIp"`
	HostPort string
}

// Inspect describes one container; ErrNotFound if there is none of that name.
func (c *Client) Inspect(ctx context.Context, name string) (*Container, error) {
	var out Container
	err := c.JSON(ctx, &out, "look at container "+name, "container", "inspect", "--format", "{{json .}}", name)
	if err != nil {
		return nil, notFound(err)
	}
	if out.ID == "" || out.Name == "" {
		return nil, fmt.Errorf("cannot look at container %s: `docker container inspect` names no ID", name)
	}
	return &out, nil
}

// Image is the part of `docker image inspect` that callers use.
type Image struct {
	ID string `json:"Id"`
	// RepoTags and RepoDigests are all names that the image has.
	RepoTags, RepoDigests []string
	Config                struct {
		Labels map[string]string
		Env    []string
	}
	RootFS struct{ Layers []string }
}

// InspectImage describes one image; ErrNotFound if the engine has none of that name or ID.
func (c *Client) InspectImage(ctx context.Context, ref string) (*Image, error) {
	var out Image
	err := c.JSON(ctx, &out, "look at image "+ref, "image", "inspect", "--format", "{{json .}}", ref)
	if err != nil {
		return nil, notFound(err)
	}
	if out.ID == "" {
		return nil, fmt.Errorf("cannot look at image %s: `docker image inspect` names no ID", ref)
	}
	return &out, nil
}

// RemoveNamelessImage removes an image that no name leads to and no container is made of, and
// reports whether it did.
func (c *Client) RemoveNamelessImage(ctx context.Context, id string) (bool, error) {
	img, err := c.InspectImage(ctx, id)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	if len(img.RepoTags)+len(img.RepoDigests) > 0 {
		return false, nil
	}
	err = c.Do(ctx, "remove image "+id, "image", "rm", id)
	if failed := (*Error)(nil); errors.As(err, &failed) && ctx.Err() == nil {
		// A container or another image is made of it.
		return false, nil
	}
	return err == nil, err
}

func notFound(err error) error {
	var e *Error
	if errors.As(err, &e) && strings.Contains(strings.ToLower(e.Stderr), "no such ") {
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return err
}

// Summary is one line of `docker ps`.
type Summary struct {
	ID     string
	Names  string
	Image  string
	State  string // created, running, exited, …
	Status string // for display: "Up 5 minutes (healthy)"
}

// List returns all containers, running or not, that match all of the filters ("label=…").
func (c *Client) List(ctx context.Context, filters ...string) ([]Summary, error) {
	args := []string{"ps", "--all", "--no-trunc", "--format", "{{json .}}"}
	for _, f := range filters {
		args = append(args, "--filter", f)
	}
	out, err := c.Output(ctx, "list containers", args...)
	if err != nil {
		return nil, err
	}
	var list []Summary
	for line := range bytes.Lines(out) {
		var s Summary
		if err := decode(line, &s); err != nil {
			return nil, fmt.Errorf("cannot list containers: %w", err)
		}
		if s.ID == "" {
			return nil, fmt.Errorf("cannot list containers: no ID in %q", line)
		}
		list = append(list, s)
	}
	return list, nil
}

// Create makes a container without starting it, from an image that the engine has
// (nothing is pulled), and returns its ID.
//
// Creating and starting are two steps so that the caller knows the ID even when the
// start fails, and whether there is something to remove.
func (c *Client) Create(ctx context.Context, args ...string) (string, error) {
	out, err := c.Output(ctx, "create the container", append([]string{"create", "--pull", "never"}, args...)...)
	if err != nil {
		return "", err
	}
	id := strings.TrimSpace(string(out))
	if id == "" || strings.ContainsAny(id, " \n") {
		return "", fmt.Errorf("cannot create the container: `docker create` printed %q, not an ID", out)
	}
	return id, nil
}

// Start starts a container.
func (c *Client) Start(ctx context.Context, name string) error {
	return c.Do(ctx, "start container "+name, "start", name)
}

// Run creates a container and starts it in the background (docker run --detach).
func (c *Client) Run(ctx context.Context, args ...string) (string, error) {
	// If the command was killed, the engine would still make the container, later than whoever
	// cleans up looks for it.
	whole, cancel := context.WithTimeout(context.WithoutCancel(ctx), createTimeout)
	defer cancel()
	id, err := c.Create(whole, args...)
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return "", err
	}
	return id, c.Start(ctx, id)
}

// createTimeout bounds the making of a container, for an engine that does not answer.
const createTimeout = time.Minute

// Stop asks a container to end and kills it when it has not after the grace period.
func (c *Client) Stop(ctx context.Context, name string, grace time.Duration) error {
	return c.Do(ctx, "stop container "+name, "stop", "--time", fmt.Sprint(int(grace.Seconds())), name)
}

// Remove ends a container and removes it with its anonymous volumes; no error if
// there is none.
func (c *Client) Remove(ctx context.Context, name string) error {
	// Not `--force` alone: without `--volumes` each cluster would leave gigabytes.
	err := c.Do(ctx, "remove container "+name, "rm", "--force", "--volumes", name)
	if errors.Is(notFound(err), ErrNotFound) {
		return nil
	}
	return err
}

// Exec runs a command in a container and returns its standard output.
func (c *Client) Exec(ctx context.Context, name string, command ...string) ([]byte, error) {
	var out bytes.Buffer
	err := c.ExecStreams(ctx, name, Streams{Out: &out}, command...)
	return out.Bytes(), err
}

// ExecInput runs a command in a container with a standard input and returns its
// standard output.
func (c *Client) ExecInput(ctx context.Context, name string, in io.Reader, command ...string) ([]byte, error) {
	var out bytes.Buffer
	err := c.ExecStreams(ctx, name, Streams{In: in, Out: &out}, command...)
	return out.Bytes(), err
}

// ExecStreams runs a command in a container with the given streams.
func (c *Client) ExecStreams(ctx context.Context, name string, s Streams, command ...string) error {
	args := []string{"exec"}
	if s.In != nil {
		args = append(args, "--interactive")
	}
	args = append(append(args, name), command...)
	return c.Stream(ctx, s, fmt.Sprintf("run %q in container %s", strings.Join(command, " "), name), args...)
}

// Logs copies what a container wrote to out; with follow it goes on until the
// container ends or ctx does.
func (c *Client) Logs(ctx context.Context, name string, follow bool, out io.Writer) error {
	args := []string{"logs"}
	if follow {
		args = append(args, "--follow")
	}
	return c.Stream(ctx, Streams{Out: out, Err: out}, "read the log of container "+name, append(args, name)...)
}

// Event is one thing that happened in the engine.
type Event struct {
	Type   string // container, network, …
	Action string // start, die, "health_status: healthy", …
	Actor  struct {
		ID         string
		Attributes map[string]string
	}
}

// HealthStatus returns the new health status if the event is a change of it.
func (e Event) HealthStatus() (string, bool) {
	status, ok := strings.CutPrefix(e.Action, "health_status: ")
	return status, ok
}

// Events calls f for each event that matches the filters ("container=NAME"), from the
// time since on, until f returns false, ctx ends, or the engine goes away.
//
// With a since that lies before the caller's last Inspect, no event between that and the
// subscription is missed. It is the engine's clock that counts.
func (c *Client) Events(ctx context.Context, since time.Time, f func(Event) bool, filters ...string) error {
	args := []string{"events", "--format", "{{json .}}"}
	if !since.IsZero() {
		args = append(args, "--since", since.UTC().Format(time.RFC3339Nano))
	}
	for _, filter := range filters {
		args = append(args, "--filter", filter)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := c.Stream(ctx, Streams{Out: w}, "follow the Docker engine's events", args...)
		if err == nil {
			err = errors.New("the Docker engine ended its stream of events")
		}
		w.CloseWithError(err)
		done <- err
	}()
	defer func() {
		r.Close()
		cancel(nil)
		<-done
	}()
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		var e Event
		if err := decode(lines.Bytes(), &e); err != nil {
			return fmt.Errorf("cannot follow the Docker engine's events: %w", err)
		}
		if !f(e) {
			return nil
		}
	}
	return lines.Err()
}
