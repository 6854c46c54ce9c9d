package host

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/url"
	"time"
)

// reachTime bounds the look whether the API server can be reached. It has answered before, in its container.
const reachTime = 3 * time.Second

// tellReach says so, and what to do, if the API server of a cluster that is up cannot be reached from here: its port is
// one of the engine's machine, which is not always this one.
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
	l.Progress.Printf("the Docker engine is on another machine (%s): for kubectl here, keep a tunnel to it open: `%s`", remote.Redacted(), tunnel(remote, address))
	return nil
}

// tunnel is the command that makes an address of the engine's machine one of this machine.
func tunnel(engine *url.URL, address string) string {
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

// reach fails unless the server at the address has a certificate of the cluster's own authority: another cluster, or
// anything else that uses the port of this machine, is not the one.
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
