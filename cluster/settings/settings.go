// Package settings is what a user asks for, from the container's configuration file and environment. Package topology has what
// follows from it.
package settings

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/dind-cluster/dind-cluster/api/config"
	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/cluster/paths"
	"github.com/google/renameio/v2"
)

// Read returns the cluster that a configuration file, which may be missing, and the environment ask for. It also refuses
// variables that look like settings and are none.
func Read(file string, environ []string) (v1alpha1.Cluster, error) {
	c := v1alpha1.Default()
	var errs []error
	switch data, err := os.ReadFile(file); {
	case errors.Is(err, fs.ErrNotExist):
	case errors.Is(err, syscall.EISDIR):
		errs = append(errs, fmt.Errorf("%s is a directory, as Docker makes one where the Docker host has no such file: give docker run --volume the path of a configuration file", file))
	case err != nil:
		errs = append(errs, fmt.Errorf("reading the configuration: %w", err))
	default:
		if c, err = config.Read(file, data); err != nil {
			c = v1alpha1.Default()
			errs = append(errs, err)
		}
	}
	c, err := FromEnv(c, lookup(environ))
	errs = append(errs, err, checkNames(environ))
	if err := errors.Join(errs...); err != nil {
		return v1alpha1.Cluster{}, err
	}
	return c, nil
}

// Warnings returns what is left away of a configuration file, which may be missing.
func Warnings(file string) []string {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	_, warnings, _ := config.ReadIn("", file, data) // Read has returned the errors
	return warnings
}

// Save writes the settings for the programs in the container.
func Save(c v1alpha1.Cluster) error {
	data, err := config.Write(c)
	if err != nil {
		return err
	}
	return renameio.WriteFile(paths.Settings, data, 0o600) // registries have passwords
}

// Load reads what Save wrote.
func Load() (v1alpha1.Cluster, error) {
	data, err := os.ReadFile(paths.Settings)
	if errors.Is(err, fs.ErrNotExist) {
		return v1alpha1.Cluster{}, errors.New("not ready: the container is starting")
	}
	if err != nil {
		return v1alpha1.Cluster{}, fmt.Errorf("reading the cluster's settings: %w", err)
	}
	return config.Read(paths.Settings, data)
}

// Shadows returns the subnet that has an address outside the cluster among its own, so that nothing in the container reaches
// the one outside.
func Shadows(n v1alpha1.Networking, a netip.Addr) (v1alpha1.Subnet, bool) {
	for _, s := range n.Subnets() {
		if s.Prefix.Contains(a) {
			return s, true
		}
	}
	return v1alpha1.Subnet{}, false
}

// Hides says what it means that something outside the cluster has an address of the subnet, and what to do.
func Hides(s v1alpha1.Subnet, what, consequence string) string {
	return fmt.Sprintf("%s is in the cluster's own subnet %s: %s; choose another subnet with `docker run --env %s=…`",
		what, s.Prefix, consequence, s.Variable)
}

// Differences says field by field what one configuration has where another one has something else. Passwords and keys are not
// compared.
func Differences(have, want v1alpha1.Cluster) ([]string, error) {
	var all [2]map[string]string
	for i, c := range []v1alpha1.Cluster{have.Hide(), want.Hide()} {
		data, err := json.Marshal(c)
		if err != nil {
			return nil, err
		}
		var tree any
		if err := json.Unmarshal(data, &tree); err != nil {
			return nil, err
		}
		all[i] = map[string]string{}
		flatten("", tree, all[i])
	}
	fields := map[string]bool{}
	for _, m := range all {
		for field := range m {
			fields[field] = true
		}
	}
	var out []string
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		if a, b := all[0][field], all[1][field]; a != b {
			out = append(out, fmt.Sprintf("%s: %s (not %s)", field, cmp.Or(a, "nothing"), cmp.Or(b, "nothing")))
		}
	}
	return out, nil
}

// flatten puts the values of a decoded JSON document into a map by their paths.
func flatten(path string, value any, out map[string]string) {
	switch value := value.(type) {
	case map[string]any:
		for key, v := range value {
			flatten(strings.TrimPrefix(path+"."+key, "."), v, out)
		}
	case []any:
		if len(value) == 0 {
			out[path] = "[]"
		}
		for i, v := range value {
			flatten(fmt.Sprintf("%s[%d]", path, i), v, out)
		}
	default:
		out[path] = fmt.Sprint(value)
	}
}
