package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/dind-cluster/dind-cluster/cluster/plan"
	"github.com/dind-cluster/dind-cluster/cluster/proxy"
	"github.com/dind-cluster/dind-cluster/internal/docker"
	"github.com/dind-cluster/dind-cluster/internal/progress"
)

// nameForm is what Docker takes as a container's name, bounded by what a host name can
// be long.
var nameForm = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{1,62}$`)

func checkName(name string) error {
	if !nameForm.MatchString(name) {
		return fmt.Errorf("cluster name %q: want 2 to 63 letters, digits, '-', '_' and '.', the first a letter or digit", name)
	}
	return nil
}

// validate checks what can be told without a look at the machine, and names all mistakes at once.
func (o *Options) validate() error {
	var errs []error
	if err := checkName(o.Name); err != nil {
		errs = append(errs, err)
	}
	if o.Nodes < 1 || o.Nodes > plan.MaxNodes {
		errs = append(errs, fmt.Errorf("%d nodes: want 1 (a single node that runs everything) to %d", o.Nodes, plan.MaxNodes))
	}
	if o.APIPort < 0 || o.APIPort > 65535 {
		errs = append(errs, fmt.Errorf("API port %d: want 1 to 65535, or 0 for a free one", o.APIPort))
	}
	if o.Wait < plan.MinTimeout || o.Wait > plan.MaxTimeout {
		errs = append(errs, fmt.Errorf("waiting time %s: want %s to %s, such as 5m", o.Wait, plan.MinTimeout, plan.MaxTimeout))
	}
	return errors.Join(append(errs, CheckEnv(o.Env, "NODES", "API_PORT", "TIMEOUT", "ON_FAILURE"))...)
}

// CheckEnv checks settings of a cluster, each as NAME=VALUE, with the cluster's own parser. For some of them there are options.
//
// Unlike the cluster itself, which also sees what Docker and others put into a container's environment, it takes nothing but
// settings and proxies.
func CheckEnv(env []string, options ...string) error {
	var errs []error
	values := map[string]string{}
	for _, e := range env {
		name, value, ok := strings.Cut(e, "=")
		switch {
		case !ok || name == "":
			errs = append(errs, fmt.Errorf("environment variable %q: want NAME=VALUE", e))
		case slices.Contains(options, name):
			errs = append(errs, fmt.Errorf("environment variable %s: there is an option for it; see --help", name))
		case !plan.IsSetting(name) && !proxy.IsVariable(name):
			errs = append(errs, plan.Unknown(name))
		default:
			values[name] = value
		}
	}
	getenv := func(name string) string { return values[name] }
	if _, err := plan.FromEnv(getenv); err != nil {
		errs = append(errs, err)
	}
	if _, err := proxy.FromEnv(getenv); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// checkEngine checks that there is a Docker engine that can run a cluster.
func (l *Launcher) checkEngine(ctx context.Context) (*docker.Info, error) {
	version, err := l.Docker.Version(ctx)
	if err != nil {
		return nil, err
	}
	if ok, err := version.APIAtLeast(docker.MinAPI); err != nil {
		return nil, err
	} else if !ok {
		return nil, fmt.Errorf("the Docker engine is too old: it is version %s (API %s), and a cluster needs %s (API %s) or newer", version.Version, version.APIVersion, docker.MinVersion, docker.MinAPI)
	}
	if version.Os != "linux" {
		return nil, fmt.Errorf("the Docker engine runs %s containers: a cluster needs Linux containers", version.Os)
	}
	if version.Arch != runtime.GOARCH {
		return nil, fmt.Errorf("the Docker engine's machine is %s, and this image is for %s", version.Arch, runtime.GOARCH)
	}
	info, err := l.Docker.Info(ctx)
	if err != nil {
		return nil, err
	}
	if info.Rootless() {
		return nil, errors.New("the Docker engine is rootless: a cluster's nodes need mounts and cgroups that only a Docker engine run by root can give")
	}
	return info, nil
}

// checkNameFree checks that no container has the name.
func (l *Launcher) checkNameFree(ctx context.Context, name string) error {
	c, err := l.lookUp(ctx, name)
	if errors.Is(err, docker.ErrNotFound) {
		return nil
	} else if err != nil {
		return err
	}
	return nameTaken(name, c)
}

func nameTaken(name string, c *docker.Container) error {
	if isCluster(c) {
		return fmt.Errorf("there already is a cluster %q (%s): delete it first (`bazel run //images:dind-cluster -- delete --name %s`), or give the new one another name with --name", name, c.State.Status, name)
	}
	return fmt.Errorf("the name %q is taken by another container (image %s, %s): choose one with --name", name, c.Config.Image, c.State.Status)
}

// portTakenError is a type of its own for the automatic choice of a port, which tries again.
type portTakenError struct {
	port   int
	holder string // " by container …", if it is one
}

func (e *portTakenError) Error() string {
	return fmt.Sprintf("port %d of 127.0.0.1 is in use%s: choose another with --api-port, or leave that out for a free one", e.port, e.holder)
}

// portTaken describes a taken port, with who has it if that is a container.
func (l *Launcher) portTaken(ctx context.Context, port int) error {
	holder := ""
	if list, err := l.Docker.List(ctx, "publish="+strconv.Itoa(port)); err == nil && len(list) > 0 {
		holder = fmt.Sprintf(" by container %q", list[0].Names)
	}
	return &portTakenError{port: port, holder: holder}
}

// checkPortFree checks that a port of 127.0.0.1 can be had.
func (l *Launcher) checkPortFree(ctx context.Context, port int) error {
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err == nil {
		return listener.Close()
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return l.portTaken(ctx, port)
	}
	// A low port, say, is not for us to try but may well be for Docker.
	return nil
}

// freePort returns a port of 127.0.0.1 that nobody uses.
//
// Docker could choose one itself, but it would choose another at each start of the
// container, and the kubeconfig would be wrong after the first `docker stop`.
func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("cannot find a free port: %w", err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}

// checkDisk checks that there is room for a cluster, where that can be told: Docker's
// root folder is visible from here if the engine runs on this machine.
func checkDisk(info *docker.Info, nodes int, statfs func(string, *syscall.Statfs_t) error) error {
	var s syscall.Statfs_t
	if err := statfs(info.DockerRootDir, &s); err != nil {
		return nil
	}
	free := int64(s.Bavail) * s.Bsize
	// The same as it asks for itself when it starts, only that here nothing has been sent and started yet.
	need := plan.Disk(nodes)
	if free < need {
		return fmt.Errorf("not enough disk space: %s free in Docker's folder %s, and a cluster of %d nodes needs %s: remove what you do not need (`docker system df` shows what there is)",
			progress.Size(free), info.DockerRootDir, nodes, progress.Size(need))
	}
	return nil
}

// explainStart turns Docker's reason for not creating or starting the container into one
// that says what to do.
func (l *Launcher) explainStart(ctx context.Context, ref string, o *Options, err error) error {
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
		return l.portTaken(ctx, o.APIPort)
	case has("is already in use by container"):
		if c, inspectErr := l.lookUp(ctx, o.Name); inspectErr == nil {
			return nameTaken(o.Name, c)
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

// hostAddress is where the host reaches a published port.
func hostAddress(b docker.PortBinding) string {
	ip := b.HostIP
	if addr, err := netip.ParseAddr(ip); err != nil || addr.IsUnspecified() {
		ip = "127.0.0.1"
	}
	return net.JoinHostPort(ip, b.HostPort)
}
