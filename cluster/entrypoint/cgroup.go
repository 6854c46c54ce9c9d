package entrypoint

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/cgroups/v3"
	"golang.org/x/sys/unix"
)

const cgroupRoot = "/sys/fs/cgroup"

// private reports whether a process with these cgroups, by controller and in the unified hierarchy,
// sees itself at the root of every hierarchy, as in a cgroup namespace of its own.
func private(controllers map[string]string, unified string) bool {
	for _, path := range controllers {
		if path != "/" {
			return false
		}
	}
	return unified == "" || unified == "/"
}

// setUpCgroups gives the container a cgroup tree of its own, and reports whether it is cgroup v1.
//
// With cgroup v1 (always) and when the engine is configured so, Docker runs a container in the
// host's cgroup namespace. systemd and the kubelet would then see the host's whole tree and treat
// the container as a part of it. A process may make a new namespace rooted at its own cgroups
// (cgroup_namespaces(7)), which are exactly those that Docker made for the container and removes
// with it.
//
// The new namespace belongs to the calling thread until it executes another program.
func setUpCgroups() (v1 bool, err error) {
	controllers, unified, err := cgroups.ParseCgroupFileUnified("/proc/self/cgroup")
	if err != nil {
		return false, fmt.Errorf("reading the container's cgroups: %w", err)
	}
	v1, own := cgroups.Mode() != cgroups.Unified, private(controllers, unified)
	if !own {
		if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
			return v1, fmt.Errorf("making a cgroup namespace: %w", err)
		}
	}
	if v1 {
		return v1, scopeCgroupV1()
	}
	if !own {
		// What is mounted shows the host's root, or the container's cgroup as a part of it.
		if err := remountCgroupV2(); err != nil {
			return v1, err
		}
	}
	return v1, nil
}

func remountCgroupV2() error {
	if err := unix.Unmount(cgroupRoot, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmounting the host's cgroups: %w", err)
	}
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	if err := unix.Mount("cgroup2", cgroupRoot, "cgroup2", flags, "nsdelegate"); err != nil {
		return fmt.Errorf("mounting the container's cgroups: %w", err)
	}
	return nil
}

// scopeCgroupV1 leaves in view only those hierarchies in which the container has a cgroup of its
// own.
//
// A hierarchy that the engine's runc does not know (misc, for one) shows the host's root. Cgroups
// that a nested container made there would never be removed. So such a hierarchy is unmounted, and
// hidden from /proc/cgroups, by which systemd decides what to mount.
func scopeCgroupV1() error {
	// Mounts and unmounts here must not propagate to the engine's bind mounts, nor the other way
	// round.
	if err := unix.Mount("", cgroupRoot, "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making %s private: %w", cgroupRoot, err)
	}
	mounts, err := readMountinfo()
	if err != nil {
		return err
	}
	scoped := map[string]bool{}
	for _, m := range mounts {
		if m.fsType != "cgroup" || !strings.HasPrefix(m.point, cgroupRoot+"/") {
			continue
		}
		// Only the true root of a hierarchy has this file.
		_, err := os.Stat(filepath.Join(m.point, "cgroup.sane_behavior"))
		if errors.Is(err, os.ErrNotExist) {
			for _, option := range strings.Split(m.superOptions, ",") {
				scoped[option] = true
			}
			continue
		}
		if err := unix.Unmount(m.point, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmounting the host's %s: %w", m.point, err)
		}
		os.Remove(m.point)
	}
	all, err := os.ReadFile("/proc/cgroups")
	if err != nil {
		return err
	}
	visible := filterControllers(all, scoped)
	if bytes.Equal(visible, all) {
		return nil
	}
	const path = "/run/dind-cluster/proc-cgroups"
	if err := os.WriteFile(path, visible, 0o444); err != nil {
		return err
	}
	if err := unix.Mount(path, "/proc/cgroups", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("hiding cgroup controllers that are not the container's: %w", err)
	}
	return nil
}

// filterControllers returns the lines of /proc/cgroups that are about the wanted controllers, and
// the heading.
func filterControllers(procCgroups []byte, wanted map[string]bool) []byte {
	var out bytes.Buffer
	for line := range bytes.Lines(procCgroups) {
		name, _, _ := strings.Cut(string(line), "\t")
		if strings.HasPrefix(name, "#") || wanted[name] {
			out.Write(line)
		}
	}
	return out.Bytes()
}
