package entrypoint

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// inMountNamespace does the rest of a test in a mount namespace of its own, of the whole machine's
// privileges.
func inMountNamespace(t *testing.T) {
	t.Helper()
	// The test of a machine where nothing is mapped: in a user namespace the kernel refuses more.
	if ids, err := os.ReadFile("/proc/self/uid_map"); err != nil || strings.Join(strings.Fields(string(ids)), " ") != "0 0 4294967295" || os.Geteuid() != 0 {
		t.Skip("this needs root, outside of a user namespace")
	}
	// The thread is never unlocked, so it ends with the test and no other goroutine gets its
	// namespace.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		t.Skip(err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
}

// rewrite writes into a kernel setting what it says already, as far as one can see.
func rewrite(t *testing.T, name string) error {
	t.Helper()
	path := filepath.Join("/proc/sys", name)
	value, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return os.WriteFile(path, value, 0)
}

func TestProtectKernel(t *testing.T) {
	inMountNamespace(t)
	before := map[string][]byte{}
	for name := range wanted {
		var err error
		if before[name], err = os.ReadFile(filepath.Join("/proc/sys", name)); err != nil {
			t.Fatal(err)
		}
	}
	// Not a TempDir: its cleanup must not remove files of a /proc or /sys that could not be
	// unmounted.
	run, err := os.MkdirTemp("", "protect-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, m := range []string{filepath.Join(run, "whole/proc"), filepath.Join(run, "whole/sys")} {
			if err := unix.Unmount(m, unix.MNT_DETACH); err != nil {
				t.Fatalf("unmounting %s: %v", m, err)
			}
		}
		os.RemoveAll(run)
	})
	if err := protectKernel("/proc", run); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"fs/nr_open", "fs/file-max", "fs/inotify/max_user_watches", "vm/max_map_count", "kernel/panic", "vm/overcommit_memory"} {
		if err := rewrite(t, name); !errors.Is(err, unix.EROFS) {
			t.Errorf("%s can be written: %v", name, err)
		}
	}
	// What is of the network namespace must stay writable: for Docker, kube-proxy and the pod
	// network.
	if err := rewrite(t, "net/ipv4/ip_forward"); err != nil {
		t.Error(err)
	}
	// So must what is of the IPC namespace: crun sets it for a pod.
	for _, name := range []string{"kernel/shm_rmid_forced", "kernel/msgmax", "kernel/sem", "fs/mqueue/msg_max"} {
		script := "f=/proc/sys/" + name + "; v=$(cat $f) && echo \"$v\" >$f"
		if out, err := exec.Command("unshare", "--ipc", "sh", "-c", script).CombinedOutput(); err != nil {
			t.Errorf("%s of an IPC namespace cannot be set: %v: %s", name, err, out)
		}
	}
	for name, value := range wanted {
		if got, err := os.ReadFile(filepath.Join("/proc/sys", name)); err != nil || string(got) != value+"\n" {
			t.Errorf("the kubelet would find %s to be %q, %v, and wants %s", name, got, err, value)
		}
		if real, err := os.ReadFile(filepath.Join(run, "whole/proc/sys", name)); err != nil || !bytes.Equal(real, before[name]) {
			t.Errorf("%s of the machine is %q, %v, was %q", name, real, err, before[name])
		}
	}
	// As a pod with hostUsers: false gets its own /proc and, with its own network, /sys.
	script := "mount -t proc -o nosuid,nodev,noexec proc $0 && mount -t sysfs -o ro,nosuid,nodev,noexec sysfs $0"
	out, err := exec.Command("unshare", "--user", "--map-root-user", "--mount", "--pid", "--net", "--fork", "sh", "-c", script, t.TempDir()).CombinedOutput()
	if err != nil {
		t.Errorf("a user namespace gets no /proc and /sys: %v: %s", err, out)
	}
}

func TestHideHardware(t *testing.T) {
	// A machine without DMI.
	const id = "0123456789abcdef0123456789abcdef"
	if err := hideHardware(filepath.Join(t.TempDir(), "none"), t.TempDir(), id); err != nil {
		t.Error(err)
	}
	inMountNamespace(t)
	dmi := t.TempDir()
	for name, text := range map[string]string{"product_uuid": "d0c5a0de-0000-0000-0000-000000000000", "product_name": "Google Compute Engine"} {
		if err := os.WriteFile(filepath.Join(dmi, name), []byte(text+"\n"), 0o400); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(filepath.Join(dmi, name), 0) })
	}
	// A read-only one, as /sys is by then.
	if err := bind(dmi, dmi, unix.MS_RDONLY); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dmi, unix.MNT_DETACH) })
	if err := hideHardware(dmi, t.TempDir(), id); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"product_uuid": "01234567-89ab-cdef-0123-456789abcdef\n", "product_name": "dind-cluster\n"} {
		if got, err := os.ReadFile(filepath.Join(dmi, name)); err != nil || string(got) != want {
			t.Errorf("%s: got %q, %v, want %q", name, got, err, want)
		}
	}
}

func TestMachineID(t *testing.T) {
	path := filepath.Join(t.TempDir(), "machine-id")
	first, err := ensureMachineID(path)
	if err != nil || len(first) != 32 || first[12] != '4' {
		t.Fatalf("got %q, %v, want a UUID of version 4", first, err)
	}
	if again, err := ensureMachineID(path); err != nil || again != first {
		t.Errorf("got %q, %v, was %q", again, err, first)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != first+"\n" {
		t.Errorf("the file says %q, %v", data, err)
	}
}
