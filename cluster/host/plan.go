package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/cluster/manifest"
	"github.com/dind-cluster/dind-cluster/cluster/paths"
	"github.com/dind-cluster/dind-cluster/cluster/settings"
	"github.com/dind-cluster/dind-cluster/internal/docker"
	"github.com/dind-cluster/dind-cluster/internal/kubeconfig"
	"github.com/dind-cluster/dind-cluster/internal/progress"
)

// createPlan is a request that passed all checks, resolved for this engine. Each step of Create
// takes it, and none changes it.
type createPlan struct {
	image      Image
	name       string
	port       int // of 127.0.0.1; 0 means a free one, which is looked for last
	wait       time.Duration
	retain     bool
	kubeconfig *kubeconfig.File // nil means none
	config     *ConfigFile      // nil means none
	nodes      int
	ports      []v1alpha1.Port // of the Docker host that nodes have
	images     []string        // of the local Docker, which the nodes get
	args       []string        // of `docker create`, without those that the port and the image give
}

// plan finds out all that can be found out in a moment, and changes nothing: a user should not wait
// for minutes for the error that a file cannot be written.
func (l *Launcher) plan(ctx context.Context, r Request) (createPlan, error) {
	want, err := r.resolve()
	if err != nil {
		return createPlan{}, err
	}
	r.APIPort = want.Networking.APIServerPort
	info, err := l.checkEngine(ctx)
	if err != nil {
		return createPlan{}, err
	}
	if err := l.checkNameFree(ctx, r.Name); err != nil {
		return createPlan{}, err
	}
	if err := l.checkMachine(ctx, r.APIPort, want, info); err != nil {
		return createPlan{}, err
	}
	if err := l.checkImages(ctx, want.ImageNames()); err != nil {
		return createPlan{}, err
	}
	if r.Kubeconfig != nil {
		if err := r.Kubeconfig.Check(ctx); err != nil {
			return createPlan{}, err
		}
	}
	return createPlan{
		image: r.Image, name: r.Name, port: r.APIPort, kubeconfig: r.Kubeconfig, config: r.Config,
		wait:   time.Duration(want.Start.Timeout),
		retain: want.Start.OnFailure == v1alpha1.OnFailureKeep,
		nodes:  len(want.Expand()),
		ports:  ports(want.Expand()),
		images: want.ImageNames(),
		args:   containerArgs(r, want, info),
	}, nil
}

// containerArgs returns the arguments of `docker create` that do not depend on the port and the
// image.
func containerArgs(r Request, want v1alpha1.Cluster, info *docker.Info) []string {
	args := []string{
		"--name", r.Name,
		"--hostname", r.Name,
		"--label", label + "=" + r.Name,
		"--privileged",
		// systemd is process 1, even if the engine's own configuration wants an init
		// process in each container.
		"--init=false",
		// With cgroup v2, systemd limits a container to 15 % of the machine's tasks unless
		// Docker sets a limit (DefaultTasksMax=,
		// https://man7.org/linux/man-pages/man5/systemd-system.conf.5.html), which it does
		// not for -1, either. This one is many machines.
		"--pids-limit", "1000000",
	}
	for _, option := range info.SecurityOptions {
		if strings.HasPrefix(option, "name=userns") {
			// An engine that maps users does not run privileged containers, except so.
			args = append(args, "--userns", "host")
		}
	}
	for _, e := range slices.Concat(r.options(), r.Env) {
		args = append(args, "--env", e)
	}
	for _, m := range mounts(want) {
		args = append(args, "--volume", mountArg(m))
	}
	for _, p := range ports(want.Expand()) {
		// The cluster's container has it under the same number.
		args = append(args, "--publish", fmt.Sprintf("%s:%d/%s", hostPort(p), p.HostPort, strings.ToLower(cmp.Or(p.Protocol, "TCP"))))
	}
	return append(args, r.RunArgs...)
}

// hostPort returns the address and port of the Docker host that a node has.
func hostPort(p v1alpha1.Port) string {
	return net.JoinHostPort(cmp.Or(p.ListenAddress, "127.0.0.1"), strconv.Itoa(p.HostPort))
}

// ports returns the ports of all nodes.
func ports(nodes []v1alpha1.Node) []v1alpha1.Port {
	var out []v1alpha1.Port
	for _, n := range nodes {
		out = append(out, n.ExtraPortMappings...)
	}
	return out
}

// mounts returns what the cluster's container needs for the mounts of all nodes, and for its own
// manifests and images: each path of the Docker host once, with all that one of them may do.
func mounts(c v1alpha1.Cluster) []v1alpha1.Mount {
	var own []v1alpha1.Mount
	for _, m := range c.Manifests {
		if m.HostPath != "" {
			own = append(own, v1alpha1.Mount{HostPath: m.HostPath, ReadOnly: true})
		}
	}
	for _, file := range c.ImageFiles() {
		own = append(own, v1alpha1.Mount{HostPath: file, ReadOnly: true})
	}
	var out []v1alpha1.Mount
	for _, n := range append(c.Expand(), v1alpha1.Node{ExtraMounts: own}) {
		for _, m := range n.ExtraMounts {
			i := slices.IndexFunc(out, func(o v1alpha1.Mount) bool { return o.HostPath == m.HostPath })
			if i < 0 {
				out = append(out, m)
				continue
			}
			out[i].ReadOnly = out[i].ReadOnly && m.ReadOnly
			if reach := []string{"HostToContainer", "Bidirectional"}; slices.Index(reach, m.Propagation) > slices.Index(reach, out[i].Propagation) {
				out[i].Propagation = m.Propagation
			}
		}
	}
	return out
}

// mountArg returns the value of --volume by which the cluster's container has what a node mounts.
func mountArg(m v1alpha1.Mount) string {
	options := m.DockerPropagation()
	if m.ReadOnly {
		options = strings.TrimPrefix(options+",ro", ",")
	}
	arg := m.HostPath + ":" + paths.Host + m.HostPath
	if options != "" {
		arg += ":" + options
	}
	return arg
}

// createArgs returns the arguments of `docker create`.
func (p createPlan) createArgs(ref string, port int) []string {
	n := strconv.Itoa(port)
	// Only this machine: the network around it has no business with a test cluster.
	return slices.Concat([]string{"--publish", "127.0.0.1:" + n + ":" + apiPort, "--env", "API_PORT=" + n}, p.args, []string{ref})
}

// checkMachine checks the port and the room on the disk, if the engine runs on this machine: what
// can be told of this machine says nothing of another one.
func (l *Launcher) checkMachine(ctx context.Context, port int, want v1alpha1.Cluster, info *docker.Info) error {
	if remote, err := l.Docker.Remote(ctx); err != nil || remote != nil {
		return err
	}
	if port != 0 {
		if err := l.checkPortFree(ctx, port); err != nil {
			return err
		}
	}
	var errs []error
	for i, n := range want.Nodes {
		if n.Count != nil && *n.Count == 0 {
			continue
		}
		for j, m := range n.ExtraMounts {
			// Docker would make a directory of what is missing.
			if _, err := os.Stat(m.HostPath); err != nil {
				errs = append(errs, fmt.Errorf("nodes[%d].extraMounts[%d].hostPath: %w", i, j, err))
			}
		}
		for _, p := range n.ExtraPortMappings {
			if inUse(p) {
				errs = append(errs, l.hostPortTaken(ctx, p))
			}
		}
	}
	for i, m := range want.Manifests {
		if m.HostPath == "" {
			continue
		}
		if _, err := manifest.ReadFiles(m.HostPath); err != nil {
			errs = append(errs, fmt.Errorf("manifests[%d].hostPath: %w", i, err))
		}
	}
	for i, name := range want.Images {
		if !path.IsAbs(name) {
			continue
		}
		if _, err := os.Stat(name); err != nil {
			errs = append(errs, fmt.Errorf("images[%d]: %w", i, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return checkDisk(info, len(want.Expand()), syscall.Statfs)
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

// inUse reports whether a port of this machine that a node is to have is another program's.
func inUse(p v1alpha1.Port) bool {
	var c io.Closer
	var err error
	if p.Protocol == "UDP" {
		c, err = net.ListenPacket("udp", hostPort(p))
	} else {
		c, err = net.Listen("tcp", hostPort(p))
	}
	if err == nil {
		c.Close()
	}
	return errors.Is(err, syscall.EADDRINUSE)
}

// checkPortFree checks that a port of 127.0.0.1 is free.
func (l *Launcher) checkPortFree(ctx context.Context, port int) error {
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err == nil {
		return listener.Close()
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return l.portTaken(ctx, port)
	}
	// A low port, say, may be forbidden to this process and not to Docker.
	return nil
}

// freePort returns a free port of 127.0.0.1.
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

// checkDisk checks that there is room for a cluster, if Docker's root directory is visible: if
// the engine runs on this machine.
func checkDisk(info *docker.Info, nodes int, statfs func(string, *syscall.Statfs_t) error) error {
	var s syscall.Statfs_t
	if err := statfs(info.DockerRootDir, &s); err != nil {
		return nil
	}
	free := int64(s.Bavail) * s.Bsize
	// The cluster checks the same when it starts; here nothing has been sent and started yet.
	need := settings.Disk(nodes)
	if free < need {
		return fmt.Errorf("not enough disk space: %s free in Docker's directory %s, and a cluster of %d nodes needs %s: remove what you do not need (`docker system df` shows what there is)",
			progress.Size(free), info.DockerRootDir, nodes, progress.Size(need))
	}
	return nil
}
