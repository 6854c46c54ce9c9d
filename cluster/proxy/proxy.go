// Package proxy hands the HTTP proxies of the top-level container, which Docker puts into its
// environment when a user or the user's client configuration has some, on to what fetches things
// from outside the cluster: the nodes' containerd.
//
// What talks to the cluster itself must never see them. So they are in no node's environment, where
// kubeadm would take them over into its pods, but in a file that containerd's unit alone reads. It
// may hold a password, so it is for root alone, and on a tmpfs, where no image or archive of a
// container gets it.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/cluster/paths"
	"github.com/dind-cluster/dind-cluster/cluster/settings"
	"github.com/dind-cluster/dind-cluster/cluster/topology"
)

// Dir and NodeDir are where the top-level container shares the proxies, and where its nodes find
// them.
const (
	Dir     = paths.StatusDir
	NodeDir = paths.NodeStatusDir
)

// Settings are the proxies, as their variables have them.
type Settings struct {
	HTTP, HTTPS, No string
}

// IsVariable reports whether an environment variable is one of those that FromEnv reads.
func IsVariable(name string) bool {
	return slices.Contains([]string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"}, strings.ToUpper(name)) &&
		(name == strings.ToUpper(name) || name == strings.ToLower(name))
}

// FromEnv reads the proxies from environment variables of either case; capitals count first, as
// with Go's net/http. Errors do not quote the value, which may hold a password.
func FromEnv(getenv func(string) string) (Settings, error) {
	var s Settings
	var errs []error
	for _, v := range []struct {
		name string
		into *string
	}{{"HTTP_PROXY", &s.HTTP}, {"HTTPS_PROXY", &s.HTTPS}, {"NO_PROXY", &s.No}} {
		name := v.name
		if getenv(name) == "" {
			name = strings.ToLower(name)
		}
		value := strings.TrimSpace(getenv(name))
		if strings.ContainsFunc(value, func(r rune) bool { return unicode.IsControl(r) }) {
			errs = append(errs, fmt.Errorf("environment variable %s has control characters in it", name))
			continue
		}
		if _, err := parse(value); err != nil && v.into != &s.No {
			errs = append(errs, fmt.Errorf("environment variable %s: %w", name, err))
			continue
		}
		*v.into = value
	}
	if err := errors.Join(errs...); err != nil {
		return Settings{}, err
	}
	return s, nil
}

// parse reads a proxy as golang.org/x/net/http/httpproxy does; nil for none.
func parse(value string) (*url.URL, error) {
	if value == "" {
		return nil, nil
	}
	u, err := url.Parse(value)
	if err != nil || u.Scheme == "" || u.Host == "" {
		u, err = url.Parse("http://" + value)
	}
	if err != nil || u.Hostname() == "" || strings.ContainsFunc(value, unicode.IsSpace) || !slices.Contains([]string{"http", "https", "socks5", "socks5h"}, u.Scheme) {
		return nil, errors.New("want a proxy's URL, such as http://proxy.example:3128 " +
			"(what it says is not shown: it may hold a password)")
	}
	return u, nil
}

// Clear removes all proxies from the environment of this process and its children. It is for
// programs that talk to the cluster only.
func Clear() {
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"} {
		os.Unsetenv(name)
		os.Unsetenv(strings.ToLower(name))
	}
}

// None reports whether there is no proxy.
func (s Settings) None() bool { return s.HTTP == "" && s.HTTPS == "" }

// Complete returns the settings with all that is inside the cluster added to NO_PROXY.
func (s Settings) Complete(c v1alpha1.Cluster) Settings {
	var list []string
	for entry := range strings.FieldsFuncSeq(s.No, func(r rune) bool { return r == ',' || unicode.IsSpace(r) }) {
		list = append(list, entry)
	}
	inside := []string{"localhost", "127.0.0.1", "::1"}
	for _, subnet := range c.Networking.Subnets() {
		inside = append(inside, subnet.Prefix.String())
	}
	inside = append(inside, topology.Names(topology.Resolve(c).Nodes)...)
	inside = append(inside, "kubernetes", "kubernetes.default", ".svc", ".cluster.local")
	for _, entry := range inside {
		if !slices.Contains(list, entry) {
			list = append(list, entry)
		}
	}
	s.No = strings.Join(list, ",")
	return s
}

// env returns the settings as systemd reads an EnvironmentFile: in double quotes a backslash
// protects the four characters that mean something there (systemd.exec(5)).
func (s Settings) env() []byte {
	var b strings.Builder
	quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "`", "\\`")
	for _, v := range []struct{ name, value string }{{"HTTP_PROXY", s.HTTP}, {"HTTPS_PROXY", s.HTTPS}, {"NO_PROXY", s.No}} {
		if v.value == "" {
			continue
		}
		for _, name := range []string{v.name, strings.ToLower(v.name)} {
			fmt.Fprintf(&b, "%s=\"%s\"\n", name, quote.Replace(v.value))
		}
	}
	return []byte(b.String())
}

// file is the name of the file with the proxies in the directory that the top-level container
// shares with all nodes.
const file = "proxy.env"

// Share writes the proxies, if there are any, into the directory that becomes the nodes'
// paths.NodeStatusDir.
func (s Settings) Share(dir string) error {
	path := filepath.Join(dir, file)
	if s.None() {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("handing the proxies on to the nodes: %w", err)
	}
	if err := os.WriteFile(path, s.env(), 0o600); err != nil {
		return fmt.Errorf("handing the proxies on to the nodes: %w", err)
	}
	return nil
}

// Use gives a node's containerd, which has not started yet, the proxies in the shared directory, if
// there are any. units is the directory for systemd's drop-in files.
func Use(dir, units string) error {
	path := filepath.Join(dir, file)
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	addition := filepath.Join(units, "containerd.service.d", "proxy.conf")
	if err := os.MkdirAll(filepath.Dir(addition), 0o755); err != nil {
		return fmt.Errorf("giving containerd the proxies: %w", err)
	}
	if err := os.WriteFile(addition, []byte("[Service]\nEnvironmentFile=-"+path+"\n"), 0o644); err != nil {
		return fmt.Errorf("giving containerd the proxies: %w", err)
	}
	return nil
}

// lookupTime bounds the lookup of a proxy's address.
const lookupTime = time.Second

// Warnings returns a line for each proxy that the nodes will not reach.
func (s Settings) Warnings(ctx context.Context, n v1alpha1.Networking) []string {
	var out []string
	for _, v := range []struct{ name, value string }{{"HTTP_PROXY", s.HTTP}, {"HTTPS_PROXY", s.HTTPS}} {
		u, err := parse(v.value)
		if err != nil || u == nil || v.value == s.HTTP && v.name != "HTTP_PROXY" {
			continue
		}
		for _, a := range addresses(ctx, u.Hostname()) {
			if a.IsLoopback() || a.IsUnspecified() {
				out = append(out, fmt.Sprintf("warning: %s is at %s, which is each container's own address: nodes cannot pull images "+
					"through it; name an address of the proxy that containers reach", v.name, u.Host))
				break
			}
			if subnet, ok := settings.Shadows(n, a); ok {
				out = append(out, "warning: "+settings.Hides(subnet, fmt.Sprintf("%s %s", v.name, u.Host), "nodes cannot pull images through it"))
				break
			}
		}
	}
	return out
}

func addresses(ctx context.Context, host string) []netip.Addr {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a.Unmap()}
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	// A name that cannot be resolved here may be resolved elsewhere: no reason to warn.
	found, _ := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	for i := range found {
		found[i] = found[i].Unmap()
	}
	return found
}
