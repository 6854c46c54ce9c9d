package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/dind-cluster/dind-cluster/api/config"
	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/cluster/host"
	"github.com/dind-cluster/dind-cluster/image/load"
	"github.com/dind-cluster/dind-cluster/internal/kubeconfig"
)

type createFlags struct {
	config     string
	nodes      int
	apiPort    int
	kubeconfig string
	wait       time.Duration
	retain     bool
	env        []string
	image      string
}

// create is the command that makes a cluster: "create", and what happens without a
// command.
func (a *app) create(use string) *cobra.Command {
	var flags createFlags
	cmd := &cobra.Command{
		Use:   use,
		Short: "Make a cluster (the default)",
		Args:  noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if c.Flags().Changed("api-port") && flags.apiPort == 0 {
				return usageError{errors.New("--api-port 0: want 1 to 65535; leave it out for a free port")}
			}
			if c.Flags().Changed("config") && flags.config == "" {
				return usageError{errors.New("--config: want a file, or - for standard input")}
			}
			if flags.config != "" {
				// What is not said is for the configuration file to say.
				switch {
				case !c.Flags().Changed("nodes"):
					flags.nodes = 0
				case flags.nodes == 0:
					return usageError{errors.New("--nodes 0: leave it out for what the configuration file says")}
				}
				switch {
				case !c.Flags().Changed("wait"):
					flags.wait = 0
				case flags.wait == 0:
					return usageError{errors.New("--wait 0: leave it out for what the configuration file says")}
				}
			}
			return a.runCreate(c.Context(), flags, c.Flags().Changed("name"))
		},
	}
	f := cmd.Flags()
	f.StringVar(&flags.config, "config", "", "configuration `file` of the cluster, ours or one of kind's; - means standard input")
	f.IntVar(&flags.nodes, "nodes", len(v1alpha1.Default().Expand()), "number of nodes: one control plane, the rest workers; 1 is a single node that runs everything")
	f.IntVar(&flags.apiPort, "api-port", 0, "port on 127.0.0.1 of the API server (default: a free one)")
	f.StringVar(&flags.kubeconfig, "kubeconfig", "", "file that gets the cluster's entries (default: $KUBECONFIG or ~/.kube/config)")
	f.DurationVar(&flags.wait, "wait", 5*time.Minute, "how long the cluster may take to get ready")
	f.BoolVar(&flags.retain, "retain", false, "keep a cluster that does not come up, for a look at it")
	f.StringArrayVar(&flags.env, "env", nil, "setting of the cluster as NAME=VALUE, such as POD_NETWORK=none; may be repeated")
	f.StringVar(&flags.image, "image", "", "image that the local Docker has, in place of the one just built")
	return cmd
}

func (a *app) runCreate(ctx context.Context, flags createFlags, named bool) error {
	l, err := a.newLauncher(a.stderr)
	if err != nil {
		return err
	}
	r, err := a.request(l, flags)
	if err != nil {
		return err
	}
	if r.Config != nil {
		dir, err := filepath.Abs(userPath("."))
		if err != nil {
			return err
		}
		c, warnings, err := config.ReadIn(dir, r.Config.Name, r.Config.Data)
		if err != nil {
			return usageError{err}
		}
		for _, w := range warnings {
			fmt.Fprintf(a.stderr, "warning: %s\n", w)
		}
		// In the container, paths that start in the user's directory mean nothing.
		if _, err := config.Read(r.Config.Name, r.Config.Data); err != nil {
			if r.Config.Data, err = config.Write(c); err != nil {
				return err
			}
		}
		if !named && c.Name != "" {
			r.Name = c.Name
		}
	}
	start := time.Now()
	made, err := l.Create(ctx, r)
	if err != nil {
		return err
	}
	a.greet(made, r, time.Since(start))
	return nil
}

// request returns what the flags ask for.
func (a *app) request(l *host.Launcher, flags createFlags) (host.Request, error) {
	r := host.Request{
		Name: a.name, Nodes: flags.nodes, APIPort: flags.apiPort, Wait: flags.wait, Retain: flags.retain, Env: flags.env,
	}
	var err error
	if r.Config, err = a.configFile(flags.config); err != nil {
		return r, err
	}
	if flags.kubeconfig != "" {
		r.Kubeconfig = kubeconfig.At(flags.kubeconfig)
	} else if r.Kubeconfig, err = kubeconfig.Default(); err != nil {
		return r, err
	}
	switch {
	case flags.image != "":
		r.Image = host.Present(flags.image)
	case a.image == "":
		return r, usageError{errors.New("no image comes with this program: name one with --image")}
	default:
		r.Image, err = load.NewBuilt(l.Docker, l.Progress, a.image)
	}
	return r, err
}

// configFile reads a configuration file, or returns nil if there is none.
func (a *app) configFile(path string) (*host.ConfigFile, error) {
	switch path {
	case "":
		return nil, nil
	case "-":
		data, err := io.ReadAll(io.LimitReader(os.Stdin, config.MaxSize+1))
		if err != nil {
			return nil, fmt.Errorf("reading the configuration from standard input: %w", err)
		}
		return &host.ConfigFile{Name: "standard input", Data: data}, nil
	}
	f, err := os.Open(userPath(path))
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, config.MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	return &host.ConfigFile{Name: path, Data: data}, nil
}

func (a *app) greet(c *host.Cluster, r host.Request, took time.Duration) {
	s := "s"
	if c.Nodes == 1 {
		s = ""
	}
	fmt.Fprintf(a.stderr, "\nCluster %q is ready: %d node%s, after %.1f s. Its context is now the current one in %s.\n\n", c.Name, c.Nodes, s, took.Seconds(), r.Kubeconfig.Path())
	fmt.Fprintf(a.stderr, "  kubectl --context %s get nodes\n", host.ContextName(c.Name))
	fmt.Fprintf(a.stderr, "  docker exec %s kubectl get nodes\n", c.Name)
	name := ""
	if c.Name != host.DefaultName {
		name = " --name " + c.Name
	}
	fmt.Fprintf(a.stderr, "  %s delete%s\n", a.display(), name)
}
