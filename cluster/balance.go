package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/cluster/balancer"
	"github.com/dind-cluster/dind-cluster/cluster/paths"
	"github.com/dind-cluster/dind-cluster/internal/kubeapi"
)

// Balance is the load balancer before the API servers of several control planes, until ctx ends. It
// listens where a single control plane's API server would be published.
func Balance(ctx context.Context) error {
	s, err := loadState(paths.State)
	if err != nil {
		return err
	}
	c := &cluster{state: s, topology: s.Topology}
	apis := map[netip.AddrPort]*kubeapi.Client{}
	var servers []netip.AddrPort
	for _, n := range s.Topology.ControlPlanes() {
		config := c.kubeconfig(s.Secrets.Runner)
		config.Server = "https://" + n.APIServer().String()
		if apis[n.APIServer()], err = kubeapi.New(config); err != nil {
			return err
		}
		servers = append(servers, n.APIServer())
	}
	// The first API server of a new cluster is made ready with requests to it.
	var complete atomic.Bool
	complete.Store(s.created())
	b := balancer.New(servers, func(ctx context.Context, server netip.AddrPort) error {
		err := apis[server].Get(ctx, "/readyz", nil)
		if err == nil {
			complete.Store(true)
		}
		if !complete.Load() && errors.As(err, new(*kubeapi.StatusError)) {
			return nil
		}
		return err
	})
	err = b.Serve(ctx, func(ctx context.Context) (net.Listener, error) {
		return (&net.ListenConfig{}).Listen(ctx, "tcp", ":"+strconv.Itoa(v1alpha1.APIServerPort))
	})
	if err != nil {
		return fmt.Errorf("balancing the API servers: %w", err)
	}
	return nil
}

// balancerVerb returns what to do with the unit that calls Balance. One that runs belongs to a start
// that was interrupted: in a new cluster it knows none of the new keys.
func (c *cluster) balancerVerb() string {
	if c.resumed {
		return "start"
	}
	return "restart"
}

// startBalancer starts the unit that calls Balance.
func (c *cluster) startBalancer(ctx context.Context) (string, error) {
	if out, err := exec.CommandContext(ctx, "systemctl", c.balancerVerb(), "dind-balancer.service").CombinedOutput(); err != nil {
		return "", fmt.Errorf("starting the load balancer: %w: %s", err, out)
	}
	return fmt.Sprintf("%d control planes", len(c.topology.ControlPlanes())), nil
}

// reroute has this container reach services through a control plane that is ready, as long as there
// are others.
func (c *cluster) reroute(ctx context.Context, found map[string]kubeapi.Node) {
	if !c.topology.Balanced() {
		return
	}
	for _, n := range c.topology.ControlPlanes() {
		if ok, _ := kubeapi.Ready(found[n.Name].Status.Conditions); !ok {
			continue
		}
		if c.router != n.Name {
			if err := runBatch(ctx, serviceRoutes(c.topology, n)); err != nil {
				c.log.Printf("%v", err)
				return
			}
			c.router = n.Name
		}
		return
	}
}

// removeMember has etcd forget the member that a control plane was whose container is gone. One that
// is made anew joins as a new member.
func (c *cluster) removeMember(ctx context.Context, name string) error {
	var errs []error
	for _, n := range c.topology.ControlPlanes() {
		if n.Name == name {
			continue
		}
		out, err := c.docker.Exec(ctx, n.Name, "/usr/bin/runner", "etcdctl", "member", "list")
		if err == nil {
			id := memberID(string(out), name)
			if id == "" {
				return nil
			}
			_, err = c.docker.Exec(ctx, n.Name, "/usr/bin/runner", "etcdctl", "member", "remove", id)
		}
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return fmt.Errorf("removing %s from etcd: %w", name, errors.Join(errs...))
}

// loopback returns the loopback address of an address' family.
func loopback(a netip.Addr) string {
	if a.Is6() {
		return netip.IPv6Loopback().String()
	}
	return "127.0.0.1"
}

// memberID returns the ID of the member of a name in what `etcdctl member list` prints: ID, status,
// name, and more, with commas between.
func memberID(list, name string) string {
	for line := range strings.Lines(list) {
		if fields := strings.Split(line, ", "); len(fields) > 2 && fields[2] == name {
			return fields[0]
		}
	}
	return ""
}
