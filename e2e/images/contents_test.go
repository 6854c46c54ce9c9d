package images

import (
	"archive/tar"
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestConfig checks how each image runs: as its Dockerfile says, or as the image does that the
// Dockerfile is from.
func TestConfig(t *testing.T) {
	want := map[string]struct{ user, entrypoint, cmd, ports string }{
		"agnhost":                {"", "/agnhost", "pause", "5000 80 8080 8081 9376"},
		"busybox":                {"", "", "sh", ""},
		"distroless-iptables":    {"0", "", "", ""},
		"glibc-dns-testing":      {"", "", "bash", ""},
		"ipc-utils":              {"", "", "/bin/sh", ""},
		"kitten":                 {"", "/agnhost", "test-webserver", "5000 80 8080 8081 9376"},
		"nautilus":               {"", "/agnhost", "test-webserver", "5000 80 8080 8081 9376"},
		"nginx":                  {"", "/docker-entrypoint.sh", "nginx -g daemon off;", "80"},
		"nonewprivs":             {"", "", "nnp", ""},
		"nonroot":                {"1234", "", "bash", ""},
		"regression-issue-74839": {"", "/regression-issue-74839", "", ""},
		"resource-consumer":      {"", "/consumer", "", "8080"},
		"sample-apiserver":       {"", "/sample-apiserver", "", ""},
		"sample-device-plugin":   {"", "/sampledeviceplugin -alsologtostderr", "", ""},
	}
	seen := map[string]bool{}
	for _, full := range names(t, *archive) {
		short := path.Base(full)
		name, tag, _ := strings.Cut(short, ":")
		seen[name] = true
		w, ok := want[name]
		if !ok {
			t.Errorf("the test does not know %s: add how it runs", name)
			continue
		}
		i := load(t, short)
		c := i.config.Config
		var ports []string
		for p := range c.ExposedPorts {
			ports = append(ports, strings.TrimSuffix(p, "/tcp"))
		}
		slices.Sort(ports)
		for _, v := range []struct{ what, got, want string }{
			{"platform", i.config.OS + "/" + i.config.Architecture, "linux/amd64"},
			{"user", c.User, w.user},
			{"entrypoint", strings.Join(c.Entrypoint, " "), w.entrypoint},
			{"command", strings.Join(c.Cmd, " "), w.cmd},
			{"ports", strings.Join(ports, " "), w.ports},
			{"label image_version", c.Labels["image_version"], tag},
		} {
			if v.got != v.want {
				t.Errorf("%s: %s is %q, want %q", short, v.what, v.got, v.want)
			}
		}
		if !slices.ContainsFunc(c.Env, func(e string) bool { return strings.HasPrefix(e, "PATH=/usr/local/sbin:") }) {
			t.Errorf("%s: no PATH in %q", short, c.Env)
		}
	}
	for name := range want {
		if !seen[name] {
			t.Errorf("%s is not in the archive", name)
		}
	}
}

// TestFiles checks what each image is there for.
func TestFiles(t *testing.T) {
	for short, files := range map[string][]struct {
		path    string
		mode    int64
		content string // a part of it
	}{
		"agnhost:2.66.1": {
			{"agnhost", 0o755, ""}, {"agnhost-2", 0o755, ""}, {"coredns", 0o755, ""}, {"localhost.crt", 0o644, "BEGIN CERTIFICATE"},
			{"uploads", 0o755, ""}, {"etc/group", 0o644, "group-defined-in-image:*:50000:user-defined-in-image"},
			{"bin/bash", 0o755, ""}, {"usr/bin/dig", 0o755, ""}, {"usr/bin/curl", 0o755, ""}, {"bin/nc", 0o755, ""},
			{"usr/local/bin/iperf", 0o755, ""}, {"usr/bin/socat", 0o755, ""}, {"bin/ip", 0o755, ""},
			{"var/registry/pause/manifests/testing", 0o644, "sha256:"},
		},
		"agnhost:2.55": {{"agnhost", 0o755, ""}},
		"busybox:1.37.0-2": {
			{"bin/sh", 0o755, ""}, {"tmp", 0o1777, ""}, {"root", 0o700, ""}, {"home", 0o755, ""},
			{"etc/passwd", 0o644, "root:x:0:0:"}, {"etc/group", 0o644, "nobody:x:65534:"},
		},
		"busybox:1.36.1-1": {{"bin/sh", 0o755, ""}},
		"distroless-iptables:v0.9.9": {
			{"go-runner", 0o755, ""}, {"usr/sbin/iptables", 0o755, ""}, {"usr/sbin/nft", 0o755, ""}, {"usr/sbin/ipset", 0o755, ""},
			// The spec of kube-proxy's time-outs runs these.
			{"bin/sh", 0o755, ""}, {"bin/cat", 0o755, ""}, {"bin/grep", 0o755, ""}, {"bin/sleep", 0o755, ""},
		},
		"glibc-dns-testing:2.1.1": {
			{"coredns", 0o755, ""}, {"usr/bin/dig", 0o755, ""}, {"usr/bin/nslookup", 0o755, ""}, {"usr/bin/host", 0o755, ""},
			{"usr/bin/getent", 0o755, ""}, {"usr/bin/hostname", 0o755, ""}, {"etc/nsswitch.conf", 0o644, "hosts:"},
		},
		"ipc-utils:1.4": {{"usr/bin/ipcs", 0o755, ""}},
		"kitten:1.8":    {{"kitten.jpg", 0o644, "\xff\xd8\xff"}, {"data.json", 0o644, "kitten.jpg"}, {"etc/os-release", 0o644, "Alpine Linux"}},
		"nautilus:1.8":  {{"nautilus.jpg", 0o644, "\xff\xd8\xff"}, {"data.json", 0o644, "nautilus.jpg"}},
		"nginx:1.27.0-2": {
			{"usr/sbin/nginx", 0o755, ""}, {"usr/share/nginx/html/index.html", 0o644, "Welcome to nginx"},
			{"etc/nginx/nginx.conf", 0o644, ""}, {"docker-entrypoint.sh", 0o755, "exec"},
		},
		"nginx:1.28.0-2":             {{"usr/sbin/nginx", 0o755, ""}},
		"nonewprivs:1.4":             {{"usr/local/bin/nnp", 0o6755, ""}},
		"nonroot:1.5":                {{"bin/sh", 0o755, ""}},
		"regression-issue-74839:1.5": {{"regression-issue-74839", 0o755, ""}},
		"resource-consumer:1.14":     {{"consumer", 0o755, ""}, {"consume-cpu/consume-cpu", 0o755, ""}, {"usr/bin/stress", 0o755, ""}},
		"sample-apiserver:1.29.2":    {{"sample-apiserver", 0o755, ""}},
		"sample-device-plugin:1.7":   {{"sampledeviceplugin", 0o755, ""}},
	} {
		i := load(t, short)
		for _, w := range files {
			f := i.files.Resolve(w.path)
			if f == nil {
				t.Errorf("%s: no /%s", short, w.path)
				continue
			}
			if f.Mode&0o7777 != w.mode {
				t.Errorf("%s: /%s has mode %o, want %o", short, w.path, f.Mode&0o7777, w.mode)
			}
			if !bytes.Contains(f.Content, []byte(w.content)) {
				t.Errorf("%s: /%s holds no %q", short, w.path, w.content)
			}
		}
	}
}

// TestSetuid looks for programs that give rights away: only one image has one, on purpose.
func TestSetuid(t *testing.T) {
	for _, full := range names(t, *archive) {
		short := path.Base(full)
		for p, f := range load(t, short).files {
			if f.Typeflag == tar.TypeReg && f.Mode&0o6000 != 0 && p != "usr/local/bin/nnp" && !debianSetuid[p] {
				t.Errorf("%s: /%s has mode %o", short, p, f.Mode)
			}
		}
	}
}

// debianSetuid are programs of the Debian root that are installed so.
var debianSetuid = map[string]bool{
	"usr/bin/su":           true,
	"usr/sbin/unix_chkpwd": true,
}

// TestTagsDiffer checks that the images of one name are different ones, as specs that update from
// one to the other expect.
func TestTagsDiffer(t *testing.T) {
	seen := map[string]string{}
	for _, full := range names(t, *archive) {
		short := path.Base(full)
		labels := load(t, short).config.Config.Labels
		name, _, _ := strings.Cut(short, ":")
		key := name + " " + strings.Join(slices.Sorted(maps.Values(labels)), " ")
		if other := seen[key]; other != "" {
			t.Errorf("%s and %s are the same image", short, other)
		}
		seen[key] = short
	}
}

// TestBusybox checks that busybox has all the names that it answers to.
func TestBusybox(t *testing.T) {
	i := load(t, "busybox:1.37.0-2")
	out, err := exec.Command(i.program(t, "usr/bin/busybox"), "--list").Output()
	if err != nil {
		t.Fatalf("busybox --list: %v", err)
	}
	applets := strings.Fields(string(out))
	if len(applets) < 200 {
		t.Errorf("busybox has %d names only", len(applets))
	}
	for _, a := range applets {
		if a == "sh" {
			continue // TestBusyboxShell
		}
		if f := i.files.Resolve("bin/" + a); f == nil || f != i.files["usr/bin/busybox"] {
			t.Errorf("/bin/%s is not busybox: add it to //e2e/images/busybox:applets.yaml", a)
		}
	}
	for p, f := range i.files {
		if f.Typeflag == tar.TypeSymlink && f.Linkname == "busybox" && !slices.Contains(applets, path.Base(p)) {
			t.Errorf("busybox does not answer to %s: remove it from //e2e/images/busybox:applets.yaml", path.Base(p))
		}
	}
}

// TestBusyboxShell checks that the shell hands variables of any name on, and complains in the words
// of ash: specs look for both.
func TestBusyboxShell(t *testing.T) {
	i := load(t, "busybox:1.37.0-2")
	bin := t.TempDir()
	for _, name := range []string{"sh", "bash-static", "busybox", "env"} {
		if err := os.Rename(i.program(t, "usr/bin/"+name), filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	sh := filepath.Join(bin, "sh")
	for _, test := range []struct{ variable, script, want string }{
		{"data-1=value-1", "env", "data-1=value-1"},
		{"data=value-1", "env", "data=value-1"},
		{"data=value-1", "echo test > /", sh + ": can't create /: Is a directory"},
	} {
		cmd := exec.Command(sh, "-c", test.script)
		cmd.Env = []string{"PATH=" + bin, test.variable}
		out, _ := cmd.CombinedOutput()
		if !slices.Contains(strings.Split(string(out), "\n"), test.want) {
			t.Errorf("%s sh -c %q prints\n%s\nwant %s", test.variable, test.script, out, test.want)
		}
	}
}

// TestLibraries checks that the Debian programs that images add to the root below find their
// libraries there.
func TestLibraries(t *testing.T) {
	for short, p := range map[string]string{
		"distroless-iptables:v0.9.9": "usr/bin/grep",
		"nginx:1.28.0-2":             "usr/sbin/nginx",
		"resource-consumer:1.14":     "usr/bin/stress",
	} {
		i := load(t, short)
		f := i.files[p]
		if f == nil {
			t.Errorf("%s: no /%s", short, p)
			continue
		}
		e, err := elf.NewFile(bytes.NewReader(f.Content))
		if err != nil {
			t.Fatalf("%s: /%s: %v", short, p, err)
		}
		libraries, err := e.ImportedLibraries()
		if err != nil || len(libraries) == 0 {
			t.Fatalf("%s: /%s: libraries %q, %v", short, p, libraries, err)
		}
		for _, l := range libraries {
			if i.files.Resolve("usr/lib/x86_64-linux-gnu/"+l) == nil {
				t.Errorf("%s: /%s needs %s", short, p, l)
			}
		}
	}
}

// TestSampleAPIServer holds the version of the program against the image's tag, which has a 1 for
// the module's 0.
func TestSampleAPIServer(t *testing.T) {
	for _, full := range names(t, *archive) {
		name, tag, _ := strings.Cut(path.Base(full), ":")
		if name != "sample-apiserver" {
			continue
		}
		info, err := buildinfo.ReadFile(load(t, path.Base(full)).program(t, "sample-apiserver"))
		if err != nil {
			t.Fatal(err)
		}
		if want := "v0." + strings.TrimPrefix(tag, "1."); info.Main.Path != "k8s.io/sample-apiserver" || info.Main.Version != want {
			t.Errorf("the program is %s %s, want version %s", info.Main.Path, info.Main.Version, want)
		}
	}
}

// TestNonewprivs runs the program of nonewprivs as the present user.
func TestNonewprivs(t *testing.T) {
	out, err := exec.Command(load(t, "nonewprivs:1.4").program(t, "usr/local/bin/nnp")).Output()
	if err != nil || !strings.HasPrefix(string(out), "Effective uid: ") {
		t.Errorf("nnp: %v, %q", err, out)
	}
}
