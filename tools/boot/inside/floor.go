package inside

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/cgroups/v3"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/cluster/cni"
	"github.com/dind-cluster/dind-cluster/cluster/kubeadm"
	"github.com/dind-cluster/dind-cluster/cluster/paths"
	"github.com/dind-cluster/dind-cluster/cluster/topology"
	"github.com/dind-cluster/dind-cluster/internal/kubeapi"
	"github.com/dind-cluster/dind-cluster/internal/kubeconfig"
	"github.com/dind-cluster/dind-cluster/tools/boot/result"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"sigs.k8s.io/yaml"
)

const (
	kubeadmConfig = paths.Run + "/floor.yaml"
	patchesDir    = paths.Run + "/patches"
	// adminKubeconfig is of a user who needs no role.
	adminKubeconfig = "/etc/kubernetes/super-admin.conf"
)

// Floor measures `kubeadm init` in a node container that has booted and has done nothing yet, and,
// if wanted, etcd and kube-apiserver as plain processes afterwards.
func Floor(ctx context.Context, kind string, processes bool) (*result.Floor, error) {
	f := &result.Floor{Kind: kind}
	if err := prepare(ctx, kind); err != nil {
		return nil, err
	}
	if err := measureInit(ctx, f); err != nil {
		return nil, err
	}
	if processes {
		if err := measureProcesses(ctx, f); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// prepare makes the container what a node is just before kubeadm runs: its address, its images, its
// pod network and kubeadm's configuration.
func prepare(ctx context.Context, kind string) error {
	p := v1alpha1.Default()
	p.Nodes = v1alpha1.Workers(0)
	t := topology.Resolve(p)
	node := t.Init()
	// systemd's own socket: before it is there, systemctl has nobody to ask.
	for {
		if _, err := os.Stat("/run/systemd/private"); err == nil {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for systemd: %w", context.Cause(ctx))
		case <-time.After(poll):
		}
	}
	for _, command := range []string{
		// "degraded" is no matter here.
		"systemctl is-system-running --wait || true",
		"systemctl stop kubelet.service",
		// The container has no network; an address is all that is missing.
		"ip address replace " + node.IPs[0].String() + "/32 dev lo",
	} {
		if _, err := run(ctx, "sh", "-c", command); err != nil {
			return err
		}
	}
	version, err := run(ctx, "kubeadm", "version", "--output", "short")
	if err != nil {
		return err
	}
	in := kubeadm.Input{
		Topology:          t,
		Node:              node,
		Timeout:           time.Duration(p.Start.Timeout),
		KubernetesVersion: strings.TrimSpace(version),
		CgroupV1:          cgroups.Mode() != cgroups.Unified,
		ResolvConf:        "/etc/resolv.conf",
		PatchesDir:        patchesDir,
	}
	config, err := kubeadm.Init(in)
	if err != nil {
		return err
	}
	if config, err = floorConfig(config, kind == result.Plain); err != nil {
		return err
	}
	patches, err := kubeadm.Patches(in)
	if err != nil {
		return err
	}
	if err := kubeadm.WriteServing("/", time.Now()); err != nil {
		return err
	}
	network, err := cni.Config(node.PodCIDRs, 1500)
	if err != nil {
		return err
	}
	files := map[string][]byte{kubeadmConfig: config, cni.ConfigPath: network}
	for name, patch := range patches {
		files[filepath.Join(patchesDir, name)] = patch
	}
	for path, data := range files {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// floorConfig makes a configuration for one whole `kubeadm init` from that of a cluster's control
// plane: with all phases except preflight, and, if plain, without what this project changes for
// speed.
func floorConfig(config []byte, plain bool) ([]byte, error) {
	var out bytes.Buffer
	for i, text := range strings.Split(string(config), "---\n") {
		doc := map[string]any{}
		if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
			return nil, fmt.Errorf("reading kubeadm's configuration: %w", err)
		}
		switch doc["kind"] {
		case "InitConfiguration":
			doc["skipPhases"] = []string{"preflight"}
			if plain {
				for _, key := range []string{"patches", "timeouts"} {
					delete(doc, key)
				}
			}
		case "ClusterConfiguration":
			if plain {
				for _, key := range []string{"controllerManager", "scheduler", "etcd", "encryptionAlgorithm"} {
					delete(doc, key)
				}
			}
		case "KubeProxyConfiguration":
			if plain {
				for _, key := range []string{"iptables", "nftables"} {
					delete(doc, key)
				}
			}
		case "KubeletConfiguration":
			if plain {
				for key := range doc {
					switch key {
					case "apiVersion", "kind", "cgroupDriver", "failSwapOn", "failCgroupV1", "resolvConf", "evictionHard":
					default:
						delete(doc, key)
					}
				}
			}
		}
		data, err := yaml.Marshal(doc)
		if err != nil {
			return nil, fmt.Errorf("writing kubeadm's configuration: %w", err)
		}
		if i > 0 {
			out.WriteString("---\n")
		}
		out.Write(data)
	}
	return out.Bytes(), nil
}

// measureInit runs kubeadm, and waits until its node is Ready.
func measureInit(ctx context.Context, f *result.Floor) error {
	f.Begin = time.Now()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		_, err := run(ctx, "kubeadm", "init", "--config", kubeadmConfig)
		f.Init = result.Since(f.Begin, time.Now())
		return err
	})
	group.Go(func() error {
		data, err := waitForFile(ctx, adminKubeconfig)
		if err != nil {
			return err
		}
		config, err := kubeconfig.Parse(data)
		if err != nil {
			return err
		}
		api, err := kubeapi.New(config)
		if err != nil {
			return err
		}
		err = kubeapi.Follow(ctx, api, "/api/v1/nodes", func(nodes map[string]kubeapi.Node) bool {
			for _, n := range nodes {
				if ok, _ := kubeapi.Ready(n.Status.Conditions); ok {
					return true
				}
			}
			return false
		})
		f.Ready = result.Since(f.Begin, time.Now())
		return err
	})
	return group.Wait()
}

// measureProcesses starts etcd and kube-apiserver anew, with the programs, flags and certificates
// of the pods that run here, an empty database and nothing else beside them.
func measureProcesses(ctx context.Context, f *result.Floor) error {
	const dir, data = "/var/lib/etcd/floor", "/var/lib/etcd/floor/data"
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var commands [][]string
	for _, name := range []string{"etcd", "kube-apiserver"} {
		pid, args, err := findProcess(name)
		if err != nil {
			return err
		}
		program, err := os.ReadFile(fmt.Sprintf("/proc/%d/exe", pid))
		if err != nil {
			return err
		}
		args[0] = filepath.Join(dir, name)
		if err := os.WriteFile(args[0], program, 0o755); err != nil {
			return err
		}
		for i, a := range args {
			if strings.HasPrefix(a, "--data-dir=") {
				args[i] = "--data-dir=" + data
			}
		}
		commands = append(commands, args)
	}
	if _, err := run(ctx, "sh", "-c", "systemctl stop kubelet.service && crictl rmp --all --force"); err != nil {
		return err
	}
	unix.Sync()

	ctx, stop := context.WithCancel(ctx)
	group, ctx := errgroup.WithContext(ctx)
	begin := time.Now()
	for _, args := range commands {
		group.Go(func() error {
			out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("%s ended: %w: %s", filepath.Base(args[0]), err, lastBytes(out, 2000))
		})
	}
	group.Go(func() error {
		defer stop()
		for _, probe := range []struct {
			path string
			took *result.Seconds
		}{{"/livez", &f.Health}, {"/readyz", &f.Serving}} {
			if err := waitWell(ctx, "https://127.0.0.1:6443"+probe.path); err != nil {
				return err
			}
			*probe.took = result.Since(begin, time.Now())
		}
		return nil
	})
	return group.Wait()
}

// waitWell asks until the answer is 200. It does not verify the server, which is a child of this
// process.
func waitWell(ctx context.Context, url string) error {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer client.CloseIdleConnections()
	return retry(ctx, "GET "+url, func() error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	})
}

// findProcess returns the process that runs a program of that name, and its arguments.
func findProcess(name string) (pid int, args []string, err error) {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return 0, nil, err
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		args := strings.Split(strings.TrimRight(string(data), "\x00"), "\x00")
		if filepath.Base(args[0]) == name {
			_, err := fmt.Sscanf(file, "/proc/%d/", &pid)
			return pid, args, err
		}
	}
	return 0, nil, fmt.Errorf("no process runs %s", name)
}

// run runs a command and returns what it writes.
func run(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	// Children of the command may keep its output open.
	cmd.WaitDelay = 2 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, lastBytes(out, 2000))
	}
	return string(out), nil
}

func lastBytes(data []byte, n int) []byte { return bytes.TrimSpace(data[max(0, len(data)-n):]) }
