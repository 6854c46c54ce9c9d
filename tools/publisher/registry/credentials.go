package registry

import (
	"context"
	"fmt"
	"os"

	"github.com/google/go-containerregistry/pkg/authn"
)

// UsernameVariable and PasswordVariable are environment variables that win over Docker's
// configuration: CI systems hand secrets to jobs in the environment, and so none has to be written
// to a file first.
const (
	UsernameVariable = "REGISTRY_USERNAME"
	PasswordVariable = "REGISTRY_PASSWORD"
)

// credentials are what is sent to the registry, and where they are from.
type credentials struct {
	authn.Authenticator
	source string
}

// target is what Docker's config files name: the registry, or a path in it.
type target struct{ registry, path string }

func (t target) RegistryStr() string { return t.registry }

func (t target) String() string { return t.path }

// findCredentials looks in the environment, then in Docker's configuration with its credential
// helpers, then in Podman's. They are asked once for all images, since a helper may take a second.
func findCredentials(ctx context.Context, t target) (credentials, error) {
	user, password := os.Getenv(UsernameVariable), os.Getenv(PasswordVariable)
	switch {
	case user != "" && password != "":
		return credentials{&authn.Basic{Username: user, Password: password}, UsernameVariable + " and " + PasswordVariable}, nil
	case user != "":
		return credentials{}, fmt.Errorf("%s is set, but %s is not: set both, or neither to use Docker's configuration", UsernameVariable, PasswordVariable)
	case password != "":
		return credentials{}, fmt.Errorf("%s is set, but %s is not: set both, or neither to use Docker's configuration", PasswordVariable, UsernameVariable)
	}
	found, err := authn.Resolve(ctx, authn.DefaultKeychain, t)
	if err != nil {
		return credentials{}, fmt.Errorf("credentials for %s: %w", t.registry, err)
	}
	if found == authn.Anonymous {
		return credentials{found, ""}, nil
	}
	return credentials{found, "Docker's configuration"}, nil
}
