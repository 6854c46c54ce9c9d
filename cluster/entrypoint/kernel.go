package entrypoint

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// wanted has settings of the whole machine that the kubelet sets, with its values
// (setupKernelTunables in
// https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/kubelet/cm/container_manager_linux.go).
// It does not start where it cannot set them.
var wanted = map[string]string{
	"kernel/keys/root_maxbytes": "25000000",
	"kernel/keys/root_maxkeys":  "1000000",
	"kernel/panic":              "10",
	"kernel/panic_on_oops":      "1",
	"vm/overcommit_memory":      "1",
	"vm/panic_on_oom":           "0",
}

// protectKernel keeps what runs in the container from changing kernel settings of the whole
// machine, and shows the kubelet the values that it requires.
//
// The settings that systemd and others change when they start are read-only. systemd, which raises
// fs.nr_open and fs.file-max, accepts that. Unlike with systemd-nspawn, the rest of /proc/sys stays
// writable: crun writes a pod's securityContext.sysctls, those of its IPC namespace among them,
// through the /proc of the node. A nested container has a /proc of its own: as always, the kubelet
// and the runtime decide what a pod may set.
//
// The kernel lets a user namespace mount its own /proc or /sys only if it can see all of one
// already: nothing but an empty directory may be covered (mount_too_revealing in
// https://github.com/torvalds/linux/blob/v6.12/fs/namespace.c). So one of each, whole, is kept for
// pods with hostUsers: false.
func protectKernel(proc, run string) error {
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	whole := filepath.Join(run, "whole")
	if err := os.MkdirAll(whole, 0o700); err != nil {
		return err
	}
	for name, fsType := range map[string]string{"proc": "proc", "sys": "sysfs"} {
		target := filepath.Join(whole, name)
		if err := os.Mkdir(target, 0o700); err != nil {
			return err
		}
		if err := unix.Mount(fsType, target, fsType, flags, ""); err != nil {
			return fmt.Errorf("mounting %s on %s: %w", fsType, target, err)
		}
	}
	for _, name := range []string{"sys/vm", "sys/fs/file-max", "sys/fs/nr_open", "sys/fs/inotify", "sysrq-trigger"} {
		path := filepath.Join(proc, name)
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			continue // a kernel without SysRq
		}
		if err := bind(path, path, unix.MS_RDONLY|flags); err != nil {
			return err
		}
	}
	for name, value := range wanted {
		path := filepath.Join(proc, "sys", name)
		if err := replaceFile(path, filepath.Join(run, "kernel", name), value); err != nil {
			return err
		}
	}
	return nil
}

// replaceFile writes a line of text to file and mounts it over path. If path does not exist, it
// does nothing.
func replaceFile(path, file, text string) error {
	if _, err := os.Stat(path); err != nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(file, []byte(text+"\n"), 0o444); err != nil {
		return err
	}
	return bind(file, path, unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC)
}

// bind mounts source on target, with flags of its own.
func bind(source, target string, flags uintptr) error {
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mounting %s on %s: %w", source, target, err)
	}
	// A part of a shared mount that is bound to itself would propagate later mounts below it to
	// itself.
	if err := unix.Mount("", target, "", unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making the mount on %s private: %w", target, err)
	}
	if err := unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_BIND|flags, ""); err != nil {
		return fmt.Errorf("setting the flags of the mount on %s: %w", target, err)
	}
	return nil
}

// hideHardware gives the container a product UUID of its own where the machine's firmware has one.
// Otherwise all nodes would show the machine's, and the kubelet reports it as
// status.nodeInfo.systemUUID of its node, by which some controllers tell nodes apart. The product's
// name is hidden too: programs guess from it that they are in some cloud.
func hideHardware(dmi, run, machineID string) error {
	id := machineID
	uuid := fmt.Sprintf("%s-%s-%s-%s-%s", id[:8], id[8:12], id[12:16], id[16:20], id[20:])
	for name, text := range map[string]string{"product_name": "dind-cluster", "product_uuid": uuid} {
		if err := replaceFile(filepath.Join(dmi, name), filepath.Join(run, "dmi", name), text); err != nil {
			return err
		}
	}
	return nil
}
