package docker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Version is the part of `docker version` about the engine that callers use.
type Version struct {
	Version    string // the engine's, such as "28.5.2"
	APIVersion string `json:"ApiVersion"` // the highest it speaks, such as "1.51"
	Os         string
	Arch       string
}

// Version asks the engine for its version; it fails when no engine answers.
func (c *Client) Version(ctx context.Context) (*Version, error) {
	var answer struct{ Server *Version }
	err := c.JSON(ctx, &answer, "reach the Docker engine", "version", "--format", "{{json .}}")
	if err != nil {
		return nil, explainUnreachable(err)
	}
	v := answer.Server
	if v == nil || v.Version == "" || v.APIVersion == "" {
		return nil, errors.New("cannot reach the Docker engine: `docker version` names no server version")
	}
	return v, nil
}

// explainUnreachable adds the next step to the two usual reasons for no answer.
func explainUnreachable(err error) error {
	var e *Error
	if !errors.As(err, &e) {
		return err
	}
	switch text := strings.ToLower(e.Stderr); {
	case strings.Contains(text, "permission denied"):
		return fmt.Errorf("%w\nYour user may not use Docker's socket: run as root, or join the docker group (`sudo usermod -aG docker $USER`, then log in again).", err)
	case strings.Contains(text, "cannot connect to the docker daemon"),
		strings.Contains(text, "failed to connect to the docker api"),
		strings.Contains(text, "connection refused"):
		return fmt.Errorf("%w\nStart it (`sudo systemctl start docker`), or point DOCKER_HOST or `docker context use` at one that runs.", err)
	}
	return err
}

// APIAtLeast reports whether the engine's API version is want ("1.41") or newer.
func (v *Version) APIAtLeast(want string) (bool, error) {
	have, err := parseAPI(v.APIVersion)
	if err != nil {
		return false, err
	}
	least, err := parseAPI(want)
	if err != nil {
		return false, err
	}
	return have[0] > least[0] || have[0] == least[0] && have[1] >= least[1], nil
}

func parseAPI(s string) ([2]int, error) {
	major, minor, ok := strings.Cut(s, ".")
	a, errA := strconv.Atoi(major)
	b, errB := strconv.Atoi(minor)
	if !ok || errA != nil || errB != nil || a < 0 || b < 0 {
		return [2]int{}, fmt.Errorf("Docker API version %q: want two numbers with a dot between", s)
	}
	return [2]int{a, b}, nil
}

// Info is the part of `docker info` that callers use.
type Info struct {
	ID              string
	DockerRootDir   string
	Driver          string
	DriverStatus    [][2]string
	CgroupVersion   string
	NCPU            int
	MemTotal        int64
	SecurityOptions []string
}

// Info asks the engine about itself and its machine.
func (c *Client) Info(ctx context.Context) (*Info, error) {
	var answer struct {
		Info
		ServerErrors []string
	}
	if err := c.JSON(ctx, &answer, "ask the Docker engine about itself", "info", "--format", "{{json .}}"); err != nil {
		return nil, explainUnreachable(err)
	}
	if len(answer.ServerErrors) > 0 {
		return nil, fmt.Errorf("cannot ask the Docker engine about itself: %s", strings.Join(answer.ServerErrors, "; "))
	}
	if answer.DockerRootDir == "" {
		return nil, errors.New("cannot ask the Docker engine about itself: `docker info` names no root directory")
	}
	return &answer.Info, nil
}

// Rootless reports whether the engine runs without root privileges.
func (i *Info) Rootless() bool {
	for _, o := range i.SecurityOptions {
		if o == "name=rootless" || strings.HasPrefix(o, "name=rootless,") {
			return true
		}
	}
	return false
}

// Host returns the engine's address, such as "unix:///var/run/docker.sock", as the
// current context or DOCKER_HOST has it.
func (c *Client) Host(ctx context.Context) (string, error) {
	var endpoints map[string]struct{ Host string }
	if err := c.JSON(ctx, &endpoints, "look at the Docker context", "context", "inspect", "--format", "{{json .Endpoints}}"); err != nil {
		return "", err
	}
	return endpoints["docker"].Host, nil
}

// Remote returns the engine's address if it is on another machine, and nil if it is on this one, as
// far as the address tells: a tunnel that ends here looks like this machine.
func (c *Client) Remote(ctx context.Context) (*url.URL, error) {
	host, err := c.Host(ctx)
	if err != nil {
		return nil, err
	}
	address, err := url.Parse(host)
	if err != nil {
		return nil, fmt.Errorf("cannot understand the Docker engine's address: %w", err)
	}
	switch address.Scheme {
	case "ssh", "tcp", "http", "https":
		if !isHere(ctx, address.Hostname()) {
			return address, nil
		}
	}
	return nil, nil
}

// isHere reports whether a host name or address is this machine's.
func isHere(ctx context.Context, host string) bool {
	if host == "" {
		return true
	}
	own := map[netip.Addr]bool{}
	if addresses, err := net.InterfaceAddrs(); err == nil {
		for _, a := range addresses {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				own[p.Addr().Unmap()] = true
			}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	// An address is its own only answer. A name that only ssh's configuration knows is another
	// machine's.
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return false
	}
	for _, a := range addresses {
		if a = a.Unmap().WithZone(""); !a.IsLoopback() && !a.IsUnspecified() && !own[a] {
			return false
		}
	}
	return true
}
