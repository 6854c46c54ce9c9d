// Package node makes a cluster's node out of a container in which systemd and containerd run.
package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/cgroups/v3"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/cluster/component"
	"github.com/dind-cluster/dind-cluster/cluster/kubeadm"
	"github.com/dind-cluster/dind-cluster/cluster/paths"
	"github.com/dind-cluster/dind-cluster/cluster/store"
	"github.com/dind-cluster/dind-cluster/cluster/topology"
	"github.com/dind-cluster/dind-cluster/internal/kubeapi"
	"github.com/dind-cluster/dind-cluster/internal/kubeconfig"
	"github.com/dind-cluster/dind-cluster/internal/pki"
	"github.com/dind-cluster/dind-cluster/internal/progress"
	"golang.org/x/sync/errgroup"
)

const (
	pkiDir            = "/etc/kubernetes/pki"
	manifestsDir      = "/etc/kubernetes/manifests"
	kubeletKubeconfig = "/etc/kubernetes/kubelet.conf"
	// kubeletConfig is the file that kubeadm writes just before it starts the kubelet.
	kubeletConfig = "/var/lib/kubelet/config.yaml"
	// superAdminKubeconfig is that of a user in system:masters, who needs no role.
	superAdminKubeconfig = "/etc/kubernetes/super-admin.conf"
	// adminKubeconfig is that of the user that kubeadm acts as.
	adminKubeconfig = "/etc/kubernetes/admin.conf"
	kubeadmConfig   = paths.Run + "/kubeadm.yaml"
	discoveryFile   = paths.Run + "/discovery.conf"
	patchesDir      = paths.Run + "/patches"
)

type node struct {
	config Config
	log    *progress.Printer
	report *reporter
	out    io.Writer
}

// Run brings the node up, or, after a restart of its container, brings it back. What it does goes
// to out.
func Run(ctx context.Context, out io.Writer) error {
	config, err := ReadConfig(paths.NodeConfig)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, config.Timeout, fmt.Errorf("the node did not come up within %v", config.Timeout))
	defer cancel()
	n := &node{config: config, log: progress.New(out), report: newReporter(config.Node.Name), out: out}
	defer n.report.close()
	err = n.bringUp(ctx)
	if err != nil {
		n.report.send(Report{Error: err.Error(), Log: explain(context.WithoutCancel(ctx))})
		return err
	}
	n.report.send(Report{Done: true})
	return nil
}

func (n *node) bringUp(ctx context.Context) error {
	if err := n.step("network", func() error { return n.setUpNetwork(ctx) }); err != nil {
		return err
	}
	seeded, err := store.Read(paths.Seeded)
	if err != nil {
		return fmt.Errorf("reading what the entrypoint did with the images: %w", err)
	}
	n.report.send(Report{Step: "images: " + seeded.String(), Start: seeded.Start, Took: seeded.Took})
	if exists(kubeletConfig) {
		if other, err := n.newKeys(); err != nil {
			return err
		} else if other {
			return n.renewKeys(ctx)
		}
		return n.resume(ctx)
	}
	now := time.Now()
	if err := writeKubeletIdentity(n.config, kubeletPKIDir, kubeletKubeconfig, now); err != nil {
		return err
	}
	if err := writeKubeletServing(n.config, kubeletPKIDir); err != nil {
		return err
	}
	if n.config.Node.Role == topology.ControlPlane {
		if err := n.prepareControlPlane(); err != nil {
			return err
		}
		if !n.config.Join {
			return n.initControlPlane(ctx)
		}
	}
	return n.join(ctx)
}

// resume brings a node back that was stopped: only its kubelet is missing, which starts the node's pods.
func (n *node) resume(ctx context.Context) error {
	start := func() error {
		return n.step("kubelet", func() error { return n.run(ctx, nil, "systemctl", "start", "kubelet.service") })
	}
	if n.config.Node.Role == topology.ControlPlane {
		if n.config.Topology.Balanced() {
			// Its kubelet asks the load balancer, which refuses it until an API server takes connections.
			return start()
		}
		return n.step("API server", func() error { return n.queueAgain(ctx, start) })
	}
	// A worker's kubelet can do nothing without the API server. When it asks too early, it asks again only after seconds.
	api, err := kubeapi.New(n.kubelet())
	if err != nil {
		return err
	}
	if n.step("waiting for the control plane", func() error { return api.WaitFor(ctx, "/readyz") }) != nil {
		// The top-level container knows why. The kubelet goes on asking.
		ctx = context.WithoutCancel(ctx)
	}
	return start()
}

// prepareControlPlane writes what kubeadm would make, or download, were it not there.
func (n *node) prepareControlPlane() error {
	if err := os.MkdirAll(filepath.Join(pkiDir, "etcd"), 0o755); err != nil {
		return err
	}
	shared := n.config.Shared
	for _, p := range []struct {
		pair      pki.Pair
		cert, key string
	}{
		{n.config.CA, "ca.crt", "ca.key"},
		{shared.EtcdCA, "etcd/ca.crt", "etcd/ca.key"},
		{shared.FrontProxyCA, "front-proxy-ca.crt", "front-proxy-ca.key"},
		{shared.ServiceAccounts, "sa.pub", "sa.key"},
	} {
		if err := os.WriteFile(filepath.Join(pkiDir, p.cert), p.pair.Cert, 0o644); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(pkiDir, p.key), p.pair.Key, 0o600); err != nil {
			return err
		}
	}
	if err := kubeadm.WriteServing("/", time.Now()); err != nil {
		return err
	}
	files, err := kubeadm.Files(n.config.Topology.Kubernetes)
	if err != nil {
		return err
	}
	for name, data := range files {
		if err := os.MkdirAll(kubeadm.FilesDir, 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(kubeadm.FilesDir, name), data, 0o600); err != nil {
			return err
		}
	}
	// The kubelet watches the directory only if it exists when it starts.
	return os.MkdirAll(manifestsDir, 0o755)
}

func (n *node) initControlPlane(ctx context.Context) error {
	if err := n.writeConfig(ctx, kubeadm.Init); err != nil {
		return err
	}
	q, err := openQueue(ctx, v1alpha1.APIServerPort)
	if err != nil {
		return err
	}
	defer q.Close()
	// The group's context ends with the group.
	group, both := errgroup.WithContext(ctx)
	group.Go(func() error {
		return n.runPhases(both, kubeadm.KubeletPhases)
	})
	group.Go(func() error {
		if err := n.runPhases(both, kubeadm.FilesPhases); err != nil {
			return err
		}
		return n.step("API server", func() error {
			if err := q.waitForSecond(both); err != nil {
				return err
			}
			superAdmin, err := apiOf(superAdminKubeconfig, ownServer)
			if err != nil {
				return err
			}
			admin, err := apiOf(adminKubeconfig, ownServer)
			if err != nil {
				return err
			}
			return waitForStorage(both, superAdmin, admin, q)
		})
	})
	if err := group.Wait(); err != nil {
		return err
	}
	group, both = errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := n.runPhases(both, kubeadm.JoinPhases); err != nil {
			return err
		}
		return deleteTokens(both, superAdminKubeconfig)
	})
	group.Go(func() error {
		return n.step("kubeadm init: addon", func() error {
			addons := "all"
			if n.config.Topology.ProxyMode == v1alpha1.KubeProxyNone {
				addons = "coredns"
			}
			return n.run(both, nil, "kubeadm", "init", "phase", "addon", addons, "--config", kubeadmConfig)
		})
	})
	return group.Wait()
}

// runPhases runs some phases of `kubeadm init`, as a step that has their names.
func (n *node) runPhases(ctx context.Context, phases []string) error {
	return n.step("kubeadm init: "+strings.Join(phases, ", "), func() error {
		return n.run(ctx, nil, "kubeadm", "init", "--config", kubeadmConfig, kubeadm.Quiet,
			"--skip-phases", kubeadm.Skip(phases...))
	})
}

// deleteTokens deletes the bootstrap token that kubeadm's phase bootstrap-token always makes
// (runBootstrapToken in
// https://github.com/kubernetes/kubernetes/blob/v1.37.2/cmd/kubeadm/app/cmd/phases/init/bootstraptoken.go).
func deleteTokens(ctx context.Context, superAdminFile string) error {
	superAdmin, err := apiOf(superAdminFile, ownServer)
	if err != nil {
		return err
	}
	if err := superAdmin.Delete(ctx, kubeadm.BootstrapTokens); err != nil {
		return fmt.Errorf("deleting kubeadm's bootstrap token: %w", err)
	}
	return nil
}

// waitForStorage waits until the API server accepts the objects that kubeadm creates. It is not
// ready at that time: for another second or two it makes roles.
//
// The priority classes come first. The API server makes them, too, but only after a second
// (AddSystemPriorityClasses in
// https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/registry/scheduling/rest/storage_scheduling.go),
// and until then refuses any pod that names one. So it would refuse the mirror pods, which the
// kubelet makes as soon as its node is registered (tryReconcileMirrorPods in
// https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/kubelet/kubelet.go); that of etcd, to
// which nothing else happens, the kubelet would only retry a minute later. So the queue ends when they are there.
//
// kubeadm itself binds its user to the role cluster-admin when it first needs it
// (EnsureAdminClusterRoleBinding in
// https://github.com/kubernetes/kubernetes/blob/v1.37.2/cmd/kubeadm/app/phases/kubeconfig/kubeconfig.go)
// and goes on at once. But the API server's authorizer learns of a binding a moment after it is
// stored, and some of kubeadm's phases do not retry when they are refused.
func waitForStorage(ctx context.Context, superAdmin, admin *kubeapi.Client, queue io.Closer) error {
	for path, class := range kubeadm.PriorityClasses() {
		if err := superAdmin.ApplyUntil(ctx, path, "kubeadm", class); err != nil {
			return err
		}
	}
	if err := queue.Close(); err != nil {
		return err
	}
	for _, path := range []string{
		"/api/v1/namespaces/kube-system",
		"/api/v1/namespaces/kube-public",
		"/apis/rbac.authorization.k8s.io/v1/clusterroles/cluster-admin",
	} {
		if err := superAdmin.WaitFor(ctx, path); err != nil {
			return err
		}
	}
	if err := superAdmin.ApplyUntil(ctx, "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/"+kubeadm.AdminsBinding, "kubeadm", kubeadm.Admins()); err != nil {
		return err
	}
	return admin.WaitFor(ctx, "/apis/apps/v1/namespaces/kube-system/deployments")
}

// apiOf returns a client with which a kubeconfig's user reaches a server.
func apiOf(file, server string) (*kubeapi.Client, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	config, err := kubeconfig.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	config.Server = server
	api, err := kubeapi.New(config)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return api, nil
}

// kubelet is the kubeconfig of the node's kubelet, with the certificate that it had first.
func (n *node) kubelet() kubeconfig.Config {
	return kubeconfig.Config{
		Name:   "kubelet",
		Server: "https://" + n.config.Topology.Endpoint.String(),
		CA:     n.config.CA.Cert,
		Cert:   n.config.Kubelet.Cert,
		Key:    n.config.Kubelet.Key,
	}
}

// join joins as the node's kubelet, whose certificate is there already and may read what kubeadm
// reads: kubeadm needs a token only to ask for such a certificate. A control plane has all keys
// besides, so that there is nothing to download (kubeadm's --certificate-key).
func (n *node) join(ctx context.Context) error {
	kubelet := n.kubelet()
	data, err := kubelet.Marshal()
	if err != nil {
		return err
	}
	if err := os.WriteFile(discoveryFile, data, 0o600); err != nil {
		return err
	}
	if err := n.writeConfig(ctx, kubeadm.Join); err != nil {
		return err
	}
	api, err := kubeapi.New(kubelet)
	if err != nil {
		return err
	}
	// When kubeadm itself asks too early, it retries only after seconds, or fails if the API server
	// has yet to learn of the role that allows the request.
	if err := n.step("waiting for the control plane", func() error {
		for _, name := range []string{"kubeadm-config", "kubelet-config"} {
			if err := api.WaitFor(ctx, "/api/v1/namespaces/kube-system/configmaps/"+name); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	return n.step("kubeadm join", func() error {
		return n.run(ctx, nil, "kubeadm", "join", "--config", kubeadmConfig)
	})
}

func (n *node) writeConfig(ctx context.Context, write func(kubeadm.Input) ([]byte, error)) error {
	version, err := exec.CommandContext(ctx, "kubeadm", "version", "--output", "short").Output()
	if err != nil {
		return fmt.Errorf("reading kubeadm's version: %w", err)
	}
	in := kubeadm.Input{
		Topology:          n.config.Topology,
		Node:              n.config.Node,
		Timeout:           n.config.Timeout,
		KubernetesVersion: strings.TrimSpace(string(version)),
		CgroupV1:          cgroups.Mode() != cgroups.Unified,
		ResolvConf:        paths.ResolvConf,
		DiscoveryFile:     discoveryFile,
		PatchesDir:        patchesDir,
	}
	data, err := write(in)
	if err != nil {
		return err
	}
	patches, err := kubeadm.Patches(in)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(patchesDir, 0o755); err != nil {
		return err
	}
	for name, patch := range patches {
		if err := os.WriteFile(filepath.Join(patchesDir, name), patch, 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(kubeadmConfig, data, 0o600)
}

// step does one piece of work, and reports it to the log and to the top-level container.
func (n *node) step(name string, f func() error) error {
	step, start := n.log.Step("%s", name), time.Now()
	if err := f(); err != nil {
		step.Fail("")
		return fmt.Errorf("%s: %w", name, err)
	}
	step.Done("")
	n.report.send(Report{Step: name, Start: start, Took: time.Since(start)})
	return nil
}

// run runs a command. Its output goes to the log, and the last lines of it into the error.
func (n *node) run(ctx context.Context, stdin io.Reader, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	// Children of the command may keep its output open.
	cmd.WaitDelay = 2 * time.Second
	var output bytes.Buffer
	cmd.Stdin = stdin
	cmd.Stdout = io.MultiWriter(n.out, &output)
	cmd.Stderr = cmd.Stdout
	err := cmd.Run()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if text := lastLines(output.String(), 10); text != "" {
		return fmt.Errorf("%s %s: %w:\n%s", name, strings.Join(args, " "), err, text)
	}
	return fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// explain returns the log lines that most likely explain why the node did not come up.
func explain(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var out strings.Builder
	type source struct{ title, command string }
	sources := []source{
		{"failed units", "systemctl --failed --no-legend --plain"},
		{"containers", "crictl ps --all 2>&1 | head -20"},
	}
	for _, c := range component.Which(component.Unit) {
		sources = append(sources, source{c.Name, fmt.Sprintf("journalctl --unit %s --no-pager --output cat --lines 200 | grep -E '%s' | tail -n 15", c.Name, c.Errors)})
	}
	for _, c := range sources {
		text, err := exec.CommandContext(ctx, "sh", "-c", c.command).CombinedOutput()
		if text = bytes.TrimSpace(text); len(text) > 0 {
			fmt.Fprintf(&out, "--- %s\n%s\n", c.title, text)
		} else if err != nil && !errors.As(err, new(*exec.ExitError)) {
			fmt.Fprintf(&out, "--- %s\n%v\n", c.title, err)
		}
	}
	return out.String()
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
