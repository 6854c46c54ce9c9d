package host

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"time"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/internal/docker"
	"github.com/dind-cluster/dind-cluster/internal/kubeconfig"
)

// ContextName is the name of a cluster's entries in a kubeconfig.
func ContextName(name string) string {
	if name == DefaultName {
		return name
	}
	return "dind-cluster-" + name
}

// Kubeconfig returns the kubeconfig of a running cluster, with entries called
// ContextName(name) and an API address that works from the Docker host. If that is another
// machine, the progress says what to do.
func (l *Launcher) Kubeconfig(ctx context.Context, name string) (*kubeconfig.Config, error) {
	c, err := l.running(ctx, name)
	if err != nil {
		return nil, err
	}
	return l.kubeconfig(ctx, name, c)
}

func (l *Launcher) kubeconfig(ctx context.Context, name string, c *docker.Container) (*kubeconfig.Config, error) {
	bindings := c.NetworkSettings.Ports[apiPort]
	if len(bindings) == 0 {
		return nil, fmt.Errorf("cluster %q publishes no API port to the host (docker run --publish 127.0.0.1:6443:6443)", name)
	}
	address := hostAddress(bindings[0])
	data, err := l.Docker.Exec(ctx, c.ID, "kubeconfig")
	if err != nil {
		return nil, err
	}
	config, err := kubeconfig.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("cannot use what cluster %q prints: %w", name, err)
	}
	config.Name, config.Server = ContextName(name), "https://"+address
	return &config, l.tellReach(ctx, name, address, config.CA)
}

// hostAddress is where the host reaches a published port.
func hostAddress(b docker.PortBinding) string {
	address, err := netip.ParseAddr(b.HostIP)
	if err != nil {
		address = netip.IPv4Unspecified()
	}
	return net.JoinHostPort(v1alpha1.Reached(address).String(), b.HostPort)
}

// reachTime bounds the check that the API server can be reached. It has answered before, in its
// container.
const reachTime = 3 * time.Second

// tellReach prints what to do if the API server of a cluster that is up cannot be reached from this
// machine: its port is one of the engine's machine, which is not always the same.
func (l *Launcher) tellReach(ctx context.Context, name, address string, ca []byte) error {
	err := reach(ctx, address, ca)
	if err == nil || ctx.Err() != nil {
		return nil
	}
	remote, remoteErr := l.Docker.Remote(ctx)
	if remoteErr != nil {
		return remoteErr
	}
	if remote == nil {
		l.Progress.Printf("kubectl does not reach the API server from here (%v): the Docker engine is on another machine, or this is a container; `docker exec %s kubectl` works", err, name)
		return nil
	}
	l.Progress.Printf("the Docker engine is on another machine (%s): for kubectl here, keep a tunnel to it open: `%s`", remote.Redacted(), sshCommand(remote, address))
	return nil
}

// sshCommand is the command that makes an address of the engine's machine one of this machine.
func sshCommand(engine *url.URL, address string) string {
	host := engine.Hostname()
	if engine.Scheme == "ssh" {
		if user := engine.User.Username(); user != "" {
			host = user + "@" + host
		}
		if port := engine.Port(); port != "" {
			host = "-p " + port + " " + host
		}
	}
	_, port, _ := net.SplitHostPort(address)
	return "ssh -N -L " + port + ":" + address + " " + host
}

// reach fails unless the server at the address has a certificate of the cluster's own authority:
// another cluster, or anything else that uses the port of this machine, is not the one.
func reach(ctx context.Context, address string, ca []byte) error {
	ctx, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	conn, err := (&tls.Dialer{Config: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}
