package scripts_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestCredentialHelper enters a root that has no more than the shell, and asks a helper there: it runs on the host.
func TestCredentialHelper(t *testing.T) {
	if ids, err := os.ReadFile("/proc/self/uid_map"); os.Geteuid() != 0 || err != nil || !strings.Contains(string(ids), "4294967295") {
		t.Skip("only this machine's own root can enter another root")
	}
	if out, err := exec.Command("unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt").CombinedOutput(); err != nil {
		t.Skipf("no mounts here: %v\n%s", err, out)
	}
	h := newHost(t)
	root := filepath.Join(h.dir, "root")
	for _, name := range []string{"bash", "mount", "umount", "nsenter"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Skip(err)
		}
		out, err := exec.Command("ldd", path).Output()
		if err != nil {
			t.Skipf("ldd %s: %v", path, err)
		}
		for _, file := range append(regexp.MustCompile(`/\S+`).FindAllString(string(out), -1), path) {
			copyFile(t, file, filepath.Join(root, file))
		}
		copyFile(t, path, filepath.Join(root, "bin", name))
	}
	h.program(t, "docker-credential-demo", `read -r line
[[ -e /etc/passwd ]] && echo "on the host: $* $line $HOME $(readlink /proc/self/ns/mnt)"`)
	own, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("bash", "-c", `SCRIPTS=$1 ROOT=$2
. "$1/lib/log.sh"; . "$1/lib/root.sh"
root_path() { echo "$ROOT"; }
in_root bash -c '[[ ! -e /etc/passwd ]] && docker-credential-demo get "a b" <<<registry.test'`, "-", filepath.Join(h.dir, "scripts"), root)
	cmd.Env = append([]string{"PATH=" + h.bin + ":/usr/sbin:/usr/bin:/sbin:/bin"}, h.env[1:]...)
	want := "on the host: get a b registry.test " + h.dir + " " + own + "\n"
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != want {
		t.Errorf("got %q, %v; want %q", out, err, want)
	}
}
