package cli

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/dind-cluster/dind-cluster/cluster/host"
	"github.com/dind-cluster/dind-cluster/cluster/plan"
	"github.com/dind-cluster/dind-cluster/image/load"
)

// create is the command that makes a cluster: "create", and what happens without a
// command.
func (a *app) create(use string) *cobra.Command {
	var (
		flags  host.Options
		config string
		image  string
	)
	cmd := &cobra.Command{
		Use:   use,
		Short: "Make a cluster (the default)",
		Args:  noArgs,
	}
	f := cmd.Flags()
	f.IntVar(&flags.Nodes, "nodes", plan.Default().Nodes, "number of nodes: one control plane, the rest workers; 1 is a single node that runs everything")
	f.IntVar(&flags.APIPort, "api-port", 0, "port of 127.0.0.1 where the API server shall be (default: a free one)")
	f.StringVar(&config, "kubeconfig", "", "file that gets the cluster's entries (default: $KUBECONFIG or ~/.kube/config)")
	f.DurationVar(&flags.Wait, "wait", 5*time.Minute, "how long the cluster may take to get ready")
	f.BoolVar(&flags.Retain, "retain", false, "keep a cluster that does not come up, for a look at it")
	f.StringArrayVar(&flags.Env, "env", nil, "setting of the cluster as NAME=VALUE, such as POD_NETWORK=none; may be repeated")
	f.StringVar(&image, "image", "", "image that the local Docker has, in place of the one just built")

	cmd.RunE = func(c *cobra.Command, _ []string) error {
		o := flags
		o.Name = a.name
		if c.Flags().Changed("api-port") && o.APIPort == 0 {
			return usageError{errors.New("--api-port 0: want 1 to 65535; leave it out for a free port")}
		}
		file, err := kubeconfigFile(config)
		if err != nil {
			return err
		}
		o.Kubeconfig = file
		l, err := a.newLauncher(a.stderr)
		if err != nil {
			return err
		}
		source, err := a.source(l, image)
		if err != nil {
			return err
		}
		start := time.Now()
		made, err := l.Create(c.Context(), source, o)
		if err != nil {
			return err
		}
		a.greet(made, file.Path(), o.Nodes, time.Since(start))
		return nil
	}
	return cmd
}

// source is the image that a new cluster is made of.
func (a *app) source(l *host.Launcher, flag string) (host.Image, error) {
	if flag != "" {
		return host.Present(flag), nil
	}
	if a.image == "" {
		return nil, usageError{errors.New("no image comes with this program: name one with --image")}
	}
	return load.NewBuilt(l.Docker, l.Progress, a.image)
}

func (a *app) greet(c *host.Cluster, config string, nodes int, took time.Duration) {
	s := "s"
	if nodes == 1 {
		s = ""
	}
	fmt.Fprintf(a.stderr, "\nCluster %q is ready: %d node%s, after %.1f s. Its context is now the current one in %s.\n\n", c.Name, nodes, s, took.Seconds(), config)
	fmt.Fprintf(a.stderr, "  kubectl --context %s get nodes\n", host.ContextName(c.Name))
	fmt.Fprintf(a.stderr, "  docker exec %s kubectl get nodes\n", c.Name)
	name := ""
	if c.Name != host.DefaultName {
		name = " --name " + c.Name
	}
	fmt.Fprintf(a.stderr, "  %s delete%s\n", a.display(), name)
}
