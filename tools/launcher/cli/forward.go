package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dind-cluster/dind-cluster/cluster/forward"
	"github.com/dind-cluster/dind-cluster/cluster/host"
)

type forwardFlags struct {
	namespace string
	addresses []string
}

func (a *app) forward() *cobra.Command {
	var flags forwardFlags
	cmd := &cobra.Command{
		Use:   "forward TYPE/NAME [LOCAL:]PORT...",
		Short: "Have ports of this machine lead to a pod, a service, a workload or a node, until Ctrl-C",
		Long: `Has ports of this machine lead to ports of a pod, a service, a workload (deploy, sts, ds, rs, job)
or a node, until Ctrl-C or the end of the cluster. A connection to a service goes to one of its
ready endpoints, one to a workload to its oldest pod that is ready.

PORT is a number or a name, LOCAL a number: 0, or nothing before the colon, is a free port. Without
LOCAL it is that of PORT. What listens is printed.`,
		Example: strings.ReplaceAll(`  CMD forward svc/web 8080:80
  CMD forward -n kube-system deploy/coredns 0:metrics
  CMD forward node/worker1 30080`, "CMD", a.display()),
		RunE: func(c *cobra.Command, args []string) error { return a.runForward(c.Context(), flags, args) },
	}
	cmd.Flags().StringVarP(&flags.namespace, "namespace", "n", "default", "the target's namespace")
	cmd.Flags().StringArrayVar(&flags.addresses, "address", []string{"127.0.0.1"}, "IP address of this machine to listen on; may be repeated")
	return cmd
}

func (a *app) runForward(ctx context.Context, flags forwardFlags, args []string) error {
	if len(args) < 2 {
		return usageError{errors.New("want TYPE/NAME and at least one port")}
	}
	target, err := forward.Parse(args[0])
	errs := []error{err}
	target.Namespace = flags.namespace
	var ports []host.ForwardPort
	for _, arg := range args[1:] {
		p, err := forwardPort(arg)
		errs = append(errs, err)
		ports = append(ports, p)
	}
	for _, address := range flags.addresses {
		if net.ParseIP(address) == nil {
			errs = append(errs, fmt.Errorf("--address %q: want an IP address", address))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return usageError{err}
	}
	l, err := a.newLauncher(a.stderr)
	if err != nil {
		return err
	}
	return l.Forward(ctx, a.name, target, ports, flags.addresses, a.stdout)
}

// forwardPort reads [LOCAL:]PORT.
func forwardPort(s string) (host.ForwardPort, error) {
	local, remote, both := strings.Cut(s, ":")
	p := host.ForwardPort{Local: -1, Remote: remote}
	var err error
	switch {
	case !both:
		p.Remote = local
	case local == "":
		p.Local = 0
	default:
		if p.Local, err = strconv.Atoi(local); err != nil || p.Local < 0 || p.Local > 65535 {
			return p, fmt.Errorf("%q: want 0 to 65535 before the colon", s)
		}
	}
	if n, err := strconv.Atoi(p.Remote); p.Remote == "" || err == nil && (n < 1 || n > 65535) || strings.ContainsAny(p.Remote, ":/ ") {
		return p, fmt.Errorf("%q: want a port, as 80, http, 8080:80 or 8080:http", s)
	}
	return p, nil
}
