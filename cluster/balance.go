package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/cluster/balancer"
	"github.com/dind-cluster/dind-cluster/cluster/paths"
	"github.com/dind-cluster/dind-cluster/cluster/topology"
	"github.com/dind-cluster/dind-cluster/internal/kubeapi"
)

// Balance is the load balancer before the API servers of several control planes, until ctx ends. It
// listens where a single control plane's API server would be published, and reads the state again
// when it gets a reloadSignal.
func Balance(ctx context.Context) error {
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, reloadSignal)
	defer signal.Stop(reload)
	a := &apiServers{clients: map[netip.AddrPort]*kubeapi.Client{}}
	servers, err := a.read()
	if err != nil {
		return err
	}
	b := balancer.New(servers, a.ready)
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	go func() {
		for ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case <-reload:
				if servers, err := a.read(); err != nil {
					fail(err)
				} else {
					b.Replace(servers)
				}
			}
		}
	}()
	if err := b.Serve(ctx, func(ctx context.Context) (net.Listener, error) {
		return (&net.ListenConfig{}).Listen(ctx, "tcp", ":"+strconv.Itoa(v1alpha1.APIServerPort))
	}); err != nil {
		return fmt.Errorf("balancing the API servers: %w", err)
	}
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause // the state cannot be read
	}
	return nil
}

// apiServers asks the API servers of the control planes that the state has.
type apiServers struct {
	mu      sync.Mutex
	clients map[netip.AddrPort]*kubeapi.Client
	// complete reports whether there is a cluster: the first API server of a new one is made ready
	// with requests to it.
	complete atomic.Bool
}

func (a *apiServers) read() ([]netip.AddrPort, error) {
	s, err := loadState(paths.State)
	if err != nil {
		return nil, err
	}
	if s.created() {
		a.complete.Store(true)
	}
	c := &cluster{state: s, topology: s.Topology}
	a.mu.Lock()
	defer a.mu.Unlock()
	var servers []netip.AddrPort
	for _, n := range s.Topology.ControlPlanes() {
		config := c.kubeconfig(s.Secrets.Runner)
		config.Server = "https://" + n.APIServer().String()
		if a.clients[n.APIServer()], err = kubeapi.New(config); err != nil {
			return nil, err
		}
		servers = append(servers, n.APIServer())
	}
	return servers, nil
}

func (a *apiServers) ready(ctx context.Context, server netip.AddrPort) error {
	a.mu.Lock()
	client := a.clients[server]
	a.mu.Unlock()
	err := client.Get(ctx, "/readyz", nil)
	if err == nil {
		a.complete.Store(true)
	}
	if !a.complete.Load() && errors.As(err, new(*kubeapi.StatusError)) {
		return nil
	}
	return err
}

// reloadSignal ends a load balancer that has not come to expect it yet: systemd starts it again.
const reloadSignal = syscall.SIGUSR1

// reloadBalancer has the load balancer, if there is one, read the state again.
func (c *cluster) reloadBalancer(ctx context.Context) error {
	if !c.topology.Balanced() {
		return nil
	}
	if out, err := exec.CommandContext(ctx, "systemctl", "kill", "--signal=SIGUSR1", balancerUnit).CombinedOutput(); err != nil {
		return fmt.Errorf("telling the load balancer of the control planes: %w: %s", err, out)
	}
	return nil
}

const balancerUnit = "dind-balancer.service"

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
	if out, err := exec.CommandContext(ctx, "systemctl", c.balancerVerb(), balancerUnit).CombinedOutput(); err != nil {
		return "", fmt.Errorf("starting the load balancer: %w: %s", err, out)
	}
	return fmt.Sprintf("%d control planes", len(c.topology.ControlPlanes())), nil
}

// reroute has this container reach services through a control plane that is ready, as long as there
// are others.
func (c *cluster) reroute(ctx context.Context, found map[string]kubeapi.Node) {
	t := c.current()
	if !t.Balanced() {
		return
	}
	for _, n := range t.ControlPlanes() {
		if ok, _ := kubeapi.Ready(found[n.Name].Status.Conditions); !ok {
			continue
		}
		if c.router != n.Name {
			if err := runBatch(ctx, serviceRoutes(t, n)); err != nil {
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
func (c *cluster) removeMember(ctx context.Context, gone topology.Node) error {
	var errs []error
	for _, n := range c.topology.ControlPlanes() {
		if n.Name == gone.Name {
			continue
		}
		out, err := c.docker.Exec(ctx, n.Name, "/usr/bin/runner", "etcdctl", "member", "list")
		if err == nil {
			id := memberID(string(out), gone)
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
	return fmt.Errorf("removing %s from etcd: %w", gone.Name, errors.Join(errs...))
}

// memberID returns the ID of a node's member in what `etcdctl member list` prints: ID, status, name,
// peers' URL, and more, with commas between. One that was added and has not started has no name.
func memberID(list string, n topology.Node) string {
	peer := "https://" + netip.AddrPortFrom(n.IPs[0], 2380).String()
	for line := range strings.Lines(list) {
		if fields := strings.Split(line, ", "); len(fields) > 3 && (fields[2] == n.Name || fields[2] == "" && fields[3] == peer) {
			return fields[0]
		}
	}
	return ""
}
