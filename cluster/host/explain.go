package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/internal/docker"
)

// explainStart turns Docker's reason for not creating or starting the container into one
// that says what to do.
func (l *Launcher) explainStart(ctx context.Context, p createPlan, ref string, port int, err error) error {
	var e *docker.Error
	if !errors.As(err, &e) || ctx.Err() != nil {
		return err
	}
	text := strings.ToLower(e.Stderr)
	has := func(parts ...string) bool {
		return slices.ContainsFunc(parts, func(p string) bool { return strings.Contains(text, p) })
	}
	switch {
	case has("port is already allocated", "address already in use"):
		for _, other := range p.ports {
			// As in "127.0.0.1:80: bind", "127.0.0.1:80:172.17.0.2:80/tcp" and "127.0.0.1:80 failed".
			if n := fmt.Sprintf(":%d", other.HostPort); other.HostPort != port && has(n+":", n+" ") {
				return l.hostPortTaken(ctx, other)
			}
		}
		return l.portTaken(ctx, p.address, port)
	case has("is already in use by container"):
		if c, inspectErr := l.lookUp(ctx, p.name); inspectErr == nil {
			return nameTaken(p.name, c)
		}
	case has("no such image"):
		return fmt.Errorf("the local Docker has no image %q: `docker images` shows what there is", ref)
	case has("no space left on device"):
		return docker.ExplainDiskFull(err)
	case has("unable to apply caps", "cap_sys_resource"):
		return fmt.Errorf("%w\nThis machine withholds a capability (CAP_SYS_RESOURCE, say) from Docker, and this version of Docker cannot run privileged containers then: Docker %s or newer can", err, docker.MinVersion)
	case has("operation not permitted", "permission denied", "privileged mode is incompatible", "authorization denied", "not allowed"):
		return fmt.Errorf("%w\nThe Docker engine may not run privileged containers, which a cluster needs: use one that runs as root on this machine, without a policy against --privileged", err)
	}
	return err
}

func nameTaken(name string, c *docker.Container) error {
	if isCluster(c) {
		return fmt.Errorf("there already is a cluster %q (%s): delete it first (`bazel run //images:dind-cluster -- delete --name %s`), or give the new one another name with --name", name, c.State.Status, name)
	}
	return fmt.Errorf("the name %q is taken by another container (image %s, %s): choose one with --name", name, c.Config.Image, c.State.Status)
}

// portTakenError is a type of its own for the automatic choice of a port, which tries again.
type portTakenError struct {
	address netip.Addr
	port    int
	holder  string // " by container …", if it is one
}

func (e *portTakenError) Error() string {
	return fmt.Sprintf("port %d of %v is in use%s: choose another with --api-port, or leave that out for a free one", e.port, e.address, e.holder)
}

// portTaken describes a taken port, with the container that has it, if it is one.
func (l *Launcher) portTaken(ctx context.Context, address netip.Addr, port int) error {
	return &portTakenError{address: address, port: port, holder: l.holder(ctx, strconv.Itoa(port))}
}

// hostPortTaken describes a taken port that a node is to have.
func (l *Launcher) hostPortTaken(ctx context.Context, p v1alpha1.Port) error {
	protocol := cmp.Or(p.Protocol, "TCP")
	return fmt.Errorf("port %s/%s is in use%s: choose another hostPort in extraPortMappings",
		hostPort(p), protocol, l.holder(ctx, fmt.Sprintf("%d/%s", p.HostPort, strings.ToLower(protocol))))
}

// holder says which container has a port of the Docker host, "" if none does.
func (l *Launcher) holder(ctx context.Context, port string) string {
	list, err := l.Docker.List(ctx, "publish="+port)
	if err != nil || len(list) == 0 {
		return ""
	}
	return fmt.Sprintf(" by container %q", list[0].Names)
}
