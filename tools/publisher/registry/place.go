package registry

import (
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/name"
)

// Place is where images go: a registry and, below it, a path that every image's name is appended
// to.
type Place struct {
	host string
	path string // may be empty
}

var tagRegexp = regexp.MustCompile("^" + reference.TagRegexp.String() + "$")

// ParsePlace reads REGISTRY/PATH or REGISTRY: registry.example.com/team, localhost:5000. The
// registry's host is never guessed: a name without one would lead to Docker Hub, perhaps by
// accident.
func ParsePlace(text string) (Place, error) {
	if text == "" {
		return Place{}, errors.New("no registry: say where to push to, such as registry.example.com/team")
	}
	// Before anything repeats the text: it may hold a password.
	if strings.Contains(text, "@") {
		return Place{}, errors.New(`a registry's name has no "@": credentials come from docker login or from ` + UsernameVariable + " and " + PasswordVariable + ", digests from the images")
	}
	if scheme, rest, found := strings.Cut(text, "://"); found {
		return Place{}, fmt.Errorf("%q: leave %q out: %s", text, scheme+"://", rest)
	}
	host, path, _ := strings.Cut(strings.TrimSuffix(text, "/"), "/")
	if host != "localhost" && !strings.ContainsAny(host, ".:") {
		return Place{}, fmt.Errorf("%q does not begin with a registry's host: write docker.io/%[1]s for Docker Hub, or HOST/%[1]s", text)
	}
	if path == "" && host == "docker.io" {
		return Place{}, errors.New("Docker Hub has no images of its own: write docker.io/NAME, your account or organisation there")
	}
	p := Place{host: host, path: path}
	// The rules are those of whole names, so any image's name does.
	_, err := p.repository("image", false)
	return p, err
}

// CheckTag returns an error for what is not a tag.
func CheckTag(tag string) error {
	if !tagRegexp.MatchString(tag) {
		return fmt.Errorf("%q is not a tag: up to 128 letters, digits, dots, dashes and underscores, and neither a dot nor a dash at the beginning", tag)
	}
	return nil
}

// Host is the registry, as the user wrote it.
func (p Place) Host() string { return p.host }

func (p Place) String() string { return p.Name("") }

// Name is the full name of an image, as the user wrote its first part.
func (p Place) Name(image string) string {
	var parts []string
	for _, part := range []string{p.host, p.path, image} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, "/")
}

// repository is what go-containerregistry calls the place of an image.
func (p Place) repository(image string, plainHTTP bool) (name.Repository, error) {
	ref, err := reference.Parse(p.Name(image))
	if err != nil {
		return name.Repository{}, fmt.Errorf("%q is not REGISTRY/PATH: %w (tags are given by --tag)", p, err)
	}
	named, ok := ref.(reference.Named)
	if !ok || !reference.IsNameOnly(named) || reference.Domain(named) != p.host {
		return name.Repository{}, fmt.Errorf("%q is not REGISTRY/PATH", p)
	}
	options := []name.Option{name.StrictValidation}
	if plainHTTP {
		options = append(options, name.Insecure)
	}
	repo, err := name.NewRepository(p.Name(image), options...)
	if err != nil {
		return name.Repository{}, fmt.Errorf("%q is not REGISTRY/PATH: %w", p, err)
	}
	return repo, nil
}

// thisMachine reports whether a host, with its port or without, is the machine itself.
func thisMachine(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
