package host

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dind-cluster/dind-cluster/api/config"
	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/cluster/proxy"
	"github.com/dind-cluster/dind-cluster/cluster/settings"
	"github.com/dind-cluster/dind-cluster/internal/kubeconfig"
)

// Request says what cluster to make.
type Request struct {
	// Image is the image of the cluster's container.
	Image Image
	// Name is the name of the cluster and of its container.
	Name string
	// Config is the configuration file; nil means none.
	Config *ConfigFile
	// Snapshot is what the cluster is restored from, in place of a configuration file; nil means none.
	Snapshot *Snapshot
	// Nodes is the number of nodes, the control plane included; 0 means what the file says.
	Nodes int
	// APIPort is the port of 127.0.0.1 for the API server; 0 means what the file says, or a free one.
	APIPort int
	// Wait is how long the cluster may take to get ready; 0 means what the file says.
	Wait time.Duration
	// Retain keeps the container of a cluster that did not come up.
	Retain bool
	// Env are settings of the cluster itself, each as NAME=VALUE.
	Env []string
	// Kubeconfig gets the cluster's entries; nil means none does.
	Kubeconfig *kubeconfig.File
	// RunArgs are further arguments of `docker create`.
	RunArgs []string
}

// ConfigFile is a configuration file of a cluster, in any of the formats that package config reads.
type ConfigFile struct {
	// Name is the file's name in errors.
	Name string
	Data []byte
}

// Image is an image that a cluster can be made of.
type Image interface {
	// Send brings the image into the local Docker, unless it is there already, and returns
	// what to call it there.
	Send(ctx context.Context) (ref string, err error)
}

// Present is an image that the local Docker has.
type Present string

// Send implements Image: there is nothing to do.
func (p Present) Send(context.Context) (string, error) { return string(p), nil }

// resolve returns the cluster that the request asks for. It checks the request by itself, and names
// all mistakes at once.
func (r Request) resolve() (v1alpha1.Cluster, error) {
	c := v1alpha1.Default()
	var errs []error
	if err := checkName(r.Name); err != nil {
		errs = append(errs, err)
	}
	if r.Config != nil {
		var err error
		if c, err = config.Read(r.Config.Name, r.Config.Data); err != nil {
			errs = append(errs, err)
			c = v1alpha1.Default()
		}
	}
	described := r.Config != nil || r.Snapshot != nil
	if r.Snapshot != nil {
		c = r.Snapshot.Manifest.Settings
		c.Networking.APIServerPort, c.Start.FreshKeys = 0, false
		errs = append(errs, r.Snapshot.check())
	}
	if (r.Nodes != 0 || !described) && v1alpha1.Between(r.Nodes, 1, v1alpha1.MaxNodes) != nil {
		errs = append(errs, fmt.Errorf("%d nodes: want 1 (a single node that runs everything) to %d", r.Nodes, v1alpha1.MaxNodes))
	}
	if r.APIPort < 0 || r.APIPort > 65535 {
		errs = append(errs, fmt.Errorf("API port %d: want 1 to 65535, or 0 for a free one", r.APIPort))
	}
	if (r.Wait != 0 || !described) && v1alpha1.CheckTimeout(r.Wait) != nil {
		errs = append(errs, fmt.Errorf("waiting time %s: want %s to %s, such as 5m", r.Wait, v1alpha1.MinTimeout, v1alpha1.MaxTimeout))
	}
	c, err := withEnv(c, r.Env, "NODES", "API_PORT", "TIMEOUT", "ON_FAILURE")
	if err := errors.Join(append(errs, err)...); err != nil {
		return c, err
	}
	if r.APIPort != 0 {
		c.Networking.APIServerPort = r.APIPort
	}
	return withEnv(c, r.options())
}

// options returns the environment variables for what the request itself has values for. They have
// the last word, in the container as here.
func (r Request) options() []string {
	var env []string
	if r.Nodes != 0 {
		env = append(env, "NODES="+strconv.Itoa(r.Nodes))
	}
	if r.Wait != 0 {
		env = append(env, "TIMEOUT="+r.Wait.String())
	}
	if r.Retain {
		env = append(env, "ON_FAILURE="+v1alpha1.OnFailureKeep)
	}
	if r.Snapshot != nil && r.Snapshot.FreshKeys {
		env = append(env, "FRESH_KEYS=on")
	}
	return env
}

// CheckEnv checks settings of a cluster, each as NAME=VALUE, with the cluster's own parser. For
// some of them there are options.
//
// Unlike the cluster itself, which also sees what Docker and others put into a container's
// environment, it takes nothing but settings and proxies.
func CheckEnv(env []string, options ...string) error {
	_, err := withEnv(v1alpha1.Default(), env, options...)
	return err
}

// withEnv returns a cluster with the settings of an environment.
func withEnv(c v1alpha1.Cluster, env []string, options ...string) (v1alpha1.Cluster, error) {
	var errs []error
	values := map[string]string{}
	for _, e := range env {
		name, value, ok := strings.Cut(e, "=")
		switch {
		case !ok || name == "":
			errs = append(errs, fmt.Errorf("environment variable %q: want NAME=VALUE", e))
		case slices.Contains(options, name):
			errs = append(errs, fmt.Errorf("environment variable %s: there is an option for it; see --help", name))
		case !settings.IsSetting(name) && !proxy.IsVariable(name):
			errs = append(errs, settings.Unknown(name))
		default:
			values[name] = value
		}
	}
	getenv := func(name string) string { return values[name] }
	c, err := settings.FromEnv(c, getenv)
	if err != nil {
		errs = append(errs, err)
	}
	if _, err := proxy.FromEnv(getenv); err != nil {
		errs = append(errs, err)
	}
	return c, errors.Join(errs...)
}

// nameForm matches what Docker takes as a container's name, up to the length of a host name.
var nameForm = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{1,62}$`)

func checkName(name string) error {
	if !nameForm.MatchString(name) {
		return fmt.Errorf("cluster name %q: want 2 to 63 letters, digits, '-', '_' and '.', the first a letter or digit", name)
	}
	return nil
}
