// Package entrypoint is process 1 of a container until systemd takes over.
//
// It turns the container of a plain `docker run --privileged` into what systemd, Docker and the
// kubelet expect of a machine, at both levels alike. Errors go to the container's own output,
// before anything has started.
package entrypoint

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/cluster/manifest"
	"github.com/dind-cluster/dind-cluster/cluster/node"
	"github.com/dind-cluster/dind-cluster/cluster/paths"
	"github.com/dind-cluster/dind-cluster/cluster/proxy"
	"github.com/dind-cluster/dind-cluster/cluster/settings"
	"github.com/dind-cluster/dind-cluster/cluster/snapshot"
	"github.com/dind-cluster/dind-cluster/cluster/store"
	"github.com/dind-cluster/dind-cluster/internal/progress"
	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

const systemd = "/lib/systemd/systemd"

// Run prepares the container and becomes systemd. It returns only if something is wrong.
func Run(getenv func(string) string) error {
	if os.Getpid() != 1 {
		return errors.New("the entrypoint must be process 1 of its container: " +
			"start the container without --init and --pid, and with --init=false if Docker's daemon.json says \"init\": true")
	}
	// A new cgroup namespace belongs to this thread until it becomes systemd.
	runtime.LockOSThread()

	data, err := os.ReadFile(paths.Role)
	if err != nil {
		return fmt.Errorf("reading the image's role: %w", err)
	}
	role := strings.TrimSpace(string(data))

	own, err := readStatus()
	if err != nil {
		return err
	}
	mounts, err := readMountinfo()
	if err != nil {
		return err
	}
	// This check comes first: a /sys of another network namespace may be read-only just because of
	// that.
	around, err := ownNamespaces()
	if err != nil {
		return err
	}
	if err := around.checkPrivateNamespaces(mounts); err != nil {
		return err
	}
	if err := checkPrivileged(own, mounts); err != nil {
		return err
	}
	var cluster v1alpha1.Cluster
	var saved *snapshot.File
	if role == "cluster" {
		base := v1alpha1.Default()
		if saved, err = findSnapshot(&base); err != nil {
			return err
		}
		if cluster, err = settings.Read(base, paths.Config, os.Environ()); err != nil {
			return err
		}
		if _, err := manifest.Read(cluster); err != nil {
			return err
		}
		if _, err := manifest.Read(cluster); err != nil {
			return err
		}
		// Errors in the proxies, too, must show before anything has been changed.
		if _, err := proxy.FromEnv(getenv); err != nil {
			return err
		}
	}
	if err := prepareMounts(mounts); err != nil {
		return err
	}
	v1, err := setUpCgroups()
	if err != nil {
		return err
	}
	machineID, err := ensureMachineID("/etc/machine-id")
	if err != nil {
		return err
	}
	if err := hideHardware("/sys/class/dmi/id", paths.Run, machineID); err != nil {
		return err
	}
	if err := makeLoopDevices("/dev", "/sys/module/loop/parameters/max_part"); err != nil {
		return err
	}
	raiseLimits()
	if err := protectKernel("/proc", paths.Run); err != nil {
		return err
	}
	if err := keepJournal("/run/systemd/journal"); err != nil {
		return err
	}

	var containerd string
	switch role {
	case "cluster":
		containerd = paths.DockerContainerd
		err = errors.Join(
			settings.Save(cluster),
			writeDeadlines("/run/systemd/system", time.Duration(cluster.Start.Timeout)),
			warnOfTaskLimit(os.Stdout, cgroupRoot, len(cluster.Expand())),
			heedSurroundings(getenv, cluster, os.Stdout),
			trust("/", cluster.AdditionalCACertificates),
		)
	case "node":
		containerd = paths.Containerd
		err = errors.Join(
			writeContainerdConfig(own.bounding.has(unix.CAP_SYS_RESOURCE)),
			limitFiles(paths.NodeConfig, "/run/systemd/system"),
			showLimits(paths.NodeConfig, "/proc", "/sys", paths.Run),
			proxy.Use(proxy.NodeDir, "/run/systemd/system"),
			trustAsTold(paths.NodeConfig),
		)
	default:
		err = fmt.Errorf("%s says %q: want cluster or node", paths.Role, role)
	}
	if err != nil {
		return err
	}
	if saved != nil {
		if err := restore(saved, cluster.Start.FreshKeys); err != nil {
			return err
		}
	}
	if err := seedImages(containerd); err != nil {
		return err
	}
	if err := startConsole(); err != nil {
		return err
	}
	env := []string{"container=docker", "LANG=C.UTF-8", "PATH=" + os.Getenv("PATH")}
	return fmt.Errorf("becoming systemd: %w", unix.Exec(systemd, systemdArgs(v1), env))
}

// systemdArgs returns the command line of process 1, which in a container stands for the kernel's:
// systemd reads it there in place of /proc/cmdline.
func systemdArgs(cgroupV1 bool) []string {
	args := []string{systemd}
	if cgroupV1 {
		// systemd 256 and later refuses cgroup v1 without both options
		// (https://github.com/systemd/systemd/blob/master/NEWS).
		args = append(args, "systemd.unified_cgroup_hierarchy=0", "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1")
	}
	return args
}

func readStatus() (status, error) {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return status{}, err
	}
	return parseStatus(data)
}

func readMountinfo() ([]mount, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	return parseMountinfo(bytes.NewReader(data))
}

func prepareMounts(mounts []mount) error {
	for _, dir := range []struct {
		path, options string
	}{{"/run", "mode=755"}, {"/tmp", "mode=1777"}} {
		if _, ok := at(mounts, dir.path); ok {
			continue
		}
		// Files left from before a restart would mislead every daemon with a PID file.
		if err := unix.Mount("tmpfs", dir.path, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, dir.options); err != nil {
			return fmt.Errorf("mounting a tmpfs on %s: %w", dir.path, err)
		}
	}
	if err := os.MkdirAll(paths.Run, 0o755); err != nil {
		return err
	}
	// Volumes of pods are mounted after the containers that need them have started, so mounts must
	// propagate.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("making mounts shared: %w", err)
	}
	// systemd takes a read-only /sys as the sign that the hardware is not the container's, and
	// starts no udev (https://systemd.io/CONTAINER_INTERFACE). The cgroups below are mounts of
	// their own and stay writable.
	if err := unix.Mount("", "/sys", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("remounting /sys read-only: %w", err)
	}
	// The kubelet reads the kernel's log to see when a process was killed for lack of memory
	// (https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/kubelet/oom/oom_watcher_linux.go).
	return mknod("/dev/kmsg", unix.S_IFCHR|0o600, unix.Mkdev(1, 11))
}

// ensureMachineID gives the container an identity of its own that a restart keeps. The image has
// none; systemd would make one too, but treat the start as a machine's first boot and apply its
// presets (machine-id(5)).
func ensureMachineID(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	if id := string(bytes.TrimSpace(data)); len(id) == 32 {
		return id, nil
	}
	raw := make([]byte, 16)
	if _, err := rand.Read(raw); err != nil {
		return "", err
	}
	// As systemd does it: the ID is a UUID of version 4, too.
	raw[6] = raw[6]&0x0f | 0x40
	raw[8] = raw[8]&0x3f | 0x80
	id := hex.EncodeToString(raw)
	return id, os.WriteFile(path, []byte(id+"\n"), 0o444)
}

// keepJournal makes systemd-journald write to /var/log/journal from its first message on. By
// default it writes to memory until `journalctl --flush`, once /var is there, makes it copy what it
// has. The file marks that as done (server_flushed_flag_is_set in
// https://github.com/systemd/systemd/blob/v257/src/journal/journald-server.c).
func keepJournal(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "flushed"), nil, 0o644)
}

// raiseLimits raises the host's limits on inotify, which its containers share and of which systemd,
// containerd and the kubelet of every node take a few dozen each. The defaults suffice for three
// nodes or so. Where raising fails, clusters up to that size still work.
func raiseLimits() {
	for name, least := range map[string]int{
		"fs/inotify/max_user_instances": 8192,
		"fs/inotify/max_user_watches":   524288,
	} {
		path := filepath.Join("/proc/sys", name)
		data, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		if have, err := strconv.Atoi(strings.TrimSpace(string(data))); err == nil && have < least {
			_ = os.WriteFile(path, []byte(strconv.Itoa(least)), 0)
		}
	}
}

// writeContainerdConfig adapts the runtime's configuration to the host.
func writeContainerdConfig(mayRaiseLimits bool) error {
	data, err := os.ReadFile(paths.ContainerdTemplate)
	if err != nil {
		return err
	}
	config, err := adaptContainerdConfig(data, mayRaiseLimits)
	if err != nil {
		return err
	}
	// Without a configuration there are no patches either; the node's runner says that it is missing.
	if node, err := node.ReadConfig(paths.NodeConfig); err == nil {
		var files map[string][]byte
		if config, files, err = v1alpha1.PatchContainerd(config, node.Topology.ContainerdPatches, node.Topology.Registries); err != nil {
			return err
		}
		for name, data := range files {
			if err := writeSecret(filepath.Join(v1alpha1.RegistriesDir, name), data); err != nil {
				return err
			}
		}
	}
	return writeSecret(paths.ContainerdConfig, config)
}

// writeSecret writes a file for root alone, with the directories above it.
func writeSecret(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return renameio.WriteFile(path, data, 0o600, renameio.IgnoreUmask())
}

func adaptContainerdConfig(template []byte, mayRaiseLimits bool) ([]byte, error) {
	if mayRaiseLimits {
		return template, nil
	}
	// Without CAP_SYS_RESOURCE no process may lower its OOM score (proc_pid_oom_score_adj(5)), as
	// pods in the guaranteed class require.
	setting := []byte("restrict_oom_score_adj = false")
	if bytes.Count(template, setting) != 1 {
		return nil, fmt.Errorf("%s does not have the line %q", paths.ContainerdTemplate, setting)
	}
	return bytes.Replace(template, setting, []byte("restrict_oom_score_adj = true"), 1), nil
}

// seedImages gives containerd, which has not started yet, the images that came unpacked with the
// container's own image.
func seedImages(root string) error {
	groups, err := store.Groups(paths.Stores)
	if err != nil {
		return err
	}
	step := progress.New(os.Stdout).Step("images")
	if err := os.MkdirAll(root, 0o711); err != nil {
		step.Fail("")
		return err
	}
	result, err := store.Seed(context.Background(), root, groups)
	if err != nil {
		step.Fail("")
		return err
	}
	step.Done("%v", result)
	return result.Write(paths.Seeded)
}

// startConsole starts a child that copies what the units write into a named pipe to the container's
// output. systemd itself closes its output, so without the child `docker logs` would show nothing.
func startConsole() error {
	if err := os.Remove(paths.Console); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := unix.Mkfifo(paths.Console, 0o600); err != nil {
		return fmt.Errorf("making the console's pipe: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, "console")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting the console: %w", err)
	}
	return nil
}
