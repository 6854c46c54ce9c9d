package debs

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	enabled = "etc/systemd/system/multi-user.target.wants/kubelet.service"
	kubelet = "etc/default/kubelet"
)

func dpkg(args ...string) []string {
	return append([]string{"dpkg", "--force-unsafe-io", "--no-pager"}, args...)
}

// upstreamVersion is the version of upstream that a package's file name tells.
func (r *debianRoot) upstreamVersion(t *testing.T, name string) string {
	t.Helper()
	parts := strings.Split(filepath.Base(r.debs[name]), "_")
	if len(parts) != 3 {
		t.Fatalf("there is no package %s, or its file is not NAME_VERSION_ARCHITECTURE.deb: %q", name, r.debs[name])
	}
	version, _, _ := strings.Cut(parts[1], "-")
	return version
}

// older makes a package of an earlier version, with another default for its conffile.
func (r *debianRoot) older(t *testing.T, name string) string {
	t.Helper()
	dir, out := "/tmp/older/"+name, "/tmp/"+name+"_older.deb"
	r.run(t, "sh", "-ec", `
		mkdir -p /tmp/older
		dpkg-deb -R "$1" "$2"
		sed -i 's/^Version: .*/Version: 1.2.0-1/' "$2/DEBIAN/control"
		if [ -e "$2/etc/default/kubelet" ]; then echo '# older' >> "$2/etc/default/kubelet"; fi
		dpkg-deb -Znone -b "$2" "$3" >/dev/null
		rm -r "$2"`, "sh", r.debs[name], dir, out)
	return out
}

// TestLifecycle takes our packages through what an administrator does to them.
func TestLifecycle(t *testing.T) {
	r := newRoot(t)
	if r.exists("run/systemd/system") {
		t.Fatal("the root claims that systemd runs")
	}

	// Debian's containerd and Docker are installed; everything of ours is older, then new.
	old := dpkg("-i")
	for _, name := range []string{"kubelet", "kubeadm", "kubernetes-cni"} {
		old = append(old, r.older(t, name))
	}
	r.run(t, old...)
	if !r.exists(enabled) {
		t.Errorf("installing did not enable the kubelet: no /%s", enabled)
	}
	r.write(t, kubelet, "KUBELET_EXTRA_ARGS=--v=4\n")

	all := dpkg("--force-confold", "-i")
	for _, deb := range r.debs {
		all = append(all, deb)
	}
	r.run(t, all...)
	if content, _ := os.ReadFile(filepath.Join(r.dir, kubelet)); string(content) != "KUBELET_EXTRA_ARGS=--v=4\n" {
		t.Errorf("the upgrade changed /%s, which the administrator had edited: %q", kubelet, content)
	}
	for name := range r.debs {
		if audit := r.run(t, dpkg("--audit", name)...); audit != "" {
			t.Errorf("dpkg --audit: %s", audit)
		}
	}
	// Dependencies of everything installed, among them those of docker.io on containerd.
	r.run(t, "apt-get", "-o", "APT::Sandbox::User=root", "check")
	for name := range r.debs {
		if out := r.run(t, dpkg("--verify", name)...); strings.ReplaceAll(out, "??5?????? c /"+kubelet+"\n", "") != "" {
			t.Errorf("dpkg --verify %s: %s", name, out)
		}
	}
	if out := r.run(t, "dpkg-query", "-W", "-f", "${Version}", "containerd"); !strings.HasPrefix(out, r.upstreamVersion(t, "containerd")+"-") {
		t.Errorf("containerd is %s: Debian's was not replaced", out)
	}

	t.Run("programs", func(t *testing.T) { testPrograms(t, r) })

	// An administrator's choice outlives an upgrade.
	if err := os.Remove(filepath.Join(r.dir, enabled)); err != nil {
		t.Error(err)
	}
	r.run(t, dpkg("-i", r.debs["kubelet"])...)
	if r.exists(enabled) {
		t.Error("upgrading enabled a kubelet that had been disabled")
	}

	r.run(t, dpkg("-r", "kubeadm", "kubelet")...)
	for _, path := range []string{"usr/bin/kubelet", "usr/bin/kubeadm", "usr/lib/systemd/system/kubelet.service.d"} {
		if r.exists(path) {
			t.Errorf("/%s is left after removal", path)
		}
	}
	if !r.exists(kubelet) {
		t.Errorf("removal took /%s, which is configuration", kubelet)
	}
	r.run(t, dpkg("-P", "kubelet", "kubeadm", "kubectl", "cri-tools", "kubernetes-cni")...)
	for _, path := range []string{kubelet, enabled, "etc/kubernetes", "var/lib/kubelet", "opt/cni", "usr/bin/kubectl", "usr/bin/crictl"} {
		if r.exists(path) {
			t.Errorf("/%s is left after purging", path)
		}
	}
	if matches, _ := filepath.Glob(filepath.Join(r.dir, "var/lib/systemd/deb-systemd-helper-*/kubelet*")); len(matches) > 0 {
		t.Errorf("left after purging: %s", matches)
	}
	if out, err := r.try(dpkg("-r", "containerd")...); err == nil {
		t.Errorf("containerd went away although docker.io depends on it:\n%s", out)
	}
}

// testPrograms checks that the installed programs run and say which version they are.
func testPrograms(t *testing.T, r *debianRoot) {
	kubernetes := "v" + r.upstreamVersion(t, "kubelet")
	if out := r.run(t, "kubelet", "--version"); out != "Kubernetes "+kubernetes+"\n" {
		t.Errorf("kubelet: %q", out)
	}

	var kubeadm, kubectl struct {
		ClientVersion    struct{ GitVersion, GitCommit, GitTreeState, BuildDate, GoVersion string }
		KustomizeVersion string
	}
	if err := json.Unmarshal([]byte(r.run(t, "kubeadm", "version", "-o", "json")), &kubeadm); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(r.run(t, "kubectl", "version", "--client", "-o", "json")), &kubectl); err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]struct{ GitVersion, GitCommit, GitTreeState, BuildDate, GoVersion string }{
		"kubeadm": kubeadm.ClientVersion, "kubectl": kubectl.ClientVersion,
	} {
		if v.GitVersion != kubernetes || v.GitTreeState != "clean" || strings.Contains(v.GitCommit, "$Format") {
			t.Errorf("%s: %+v", name, v)
		}
	}
	// It comes from the module list inside the program.
	if !strings.HasPrefix(kubectl.KustomizeVersion, "v5.") {
		t.Errorf("kubectl says kustomize is %q", kubectl.KustomizeVersion)
	}

	for _, c := range []struct {
		deb  string
		args []string
	}{
		{"cri-tools", []string{"crictl", "--version"}},
		{"containerd", []string{"containerd", "--version"}},
		{"containerd", []string{"containerd-shim-runc-v2", "-v"}},
		{"containerd", []string{"ctr", "--version"}},
		{"kubernetes-cni", []string{"/opt/cni/bin/bridge", "--version"}},
		{"kubernetes-cni", []string{"/opt/cni/bin/portmap", "--version"}},
	} {
		out, err := r.try(c.args...)
		if want := r.upstreamVersion(t, c.deb); err != nil || !strings.Contains(out, want) {
			t.Errorf("%s: %v, does not say %s:\n%s", strings.Join(c.args, " "), err, want, out)
		}
	}
}
