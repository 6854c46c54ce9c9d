// Package components tests the images of Kubernetes' components as they are shipped: as tarballs.
package components

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/dind-cluster/dind-cluster/cluster/addon"
	"github.com/dind-cluster/dind-cluster/image/imagefiles"
	"github.com/dind-cluster/dind-cluster/internal/repeated"
)

var (
	kubeadm = flag.String("kubeadm", "", "the kubeadm of the same build")
	images  repeated.Strings
	addons  repeated.Strings
)

func TestMain(m *testing.M) {
	flag.Var(&images, "image", "tarball of an image; repeat")
	flag.Var(&addons, "addon", "tarball of an add-on's image; repeat")
	flag.Parse()
	os.Exit(m.Run())
}

// image has what a tarball says and holds.
type image struct {
	tags   []string
	config struct {
		Architecture string
		OS           string
		Created      string
		Config       struct {
			User       string
			Env        []string
			Entrypoint []string
			Cmd        []string
			WorkingDir string
		}
	}
	files imagefiles.Files // upper layers' over lower ones'
}

func load(t *testing.T, name string) *image {
	t.Helper()
	members := map[string][]byte{}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tr := tar.NewReader(f)
	links := map[string]string{}
	for {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if hdr.Typeflag == tar.TypeSymlink {
			links[hdr.Name] = path.Join(path.Dir(hdr.Name), hdr.Linkname)
			continue
		}
		if members[hdr.Name], err = io.ReadAll(tr); err != nil {
			t.Fatalf("%s: %s: %v", name, hdr.Name, err)
		}
	}
	for from, to := range links {
		members[from] = members[to]
	}
	var manifest []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	if err := json.Unmarshal(members["manifest.json"], &manifest); err != nil || len(manifest) != 1 {
		t.Fatalf("%s: manifest.json: %v, %d images", name, err, len(manifest))
	}
	i := &image{tags: manifest[0].RepoTags, files: imagefiles.Files{}}
	if err := json.Unmarshal(members[manifest[0].Config], &i.config); err != nil {
		t.Fatalf("%s: config: %v", name, err)
	}
	for _, layer := range manifest[0].Layers {
		files, err := imagefiles.ReadLayer(bytes.NewReader(members[layer]))
		if err != nil {
			t.Fatalf("%s: %s: %v", name, layer, err)
		}
		maps.Copy(i.files, files)
	}
	return i
}

func loadAll(t *testing.T) map[string]*image {
	t.Helper()
	all := map[string]*image{}
	for _, name := range images {
		all[strings.TrimSuffix(filepath.Base(name), ".tar")] = load(t, name)
	}
	return all
}

// TestNames holds the images against what kubeadm of the same build asks for.
func TestNames(t *testing.T) {
	version, err := exec.Command(*kubeadm, "version", "-o", "short").Output()
	if err != nil {
		t.Fatalf("kubeadm version: %v", err)
	}
	out, err := exec.Command(*kubeadm, "config", "images", "list", "--kubernetes-version", strings.TrimSpace(string(version))).Output()
	if err != nil {
		t.Fatalf("kubeadm config images list: %v", err)
	}
	want := strings.Fields(string(out))
	slices.Sort(want)
	var got []string
	for _, i := range loadAll(t) {
		got = append(got, i.tags...)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("the images are\n  %s\nkubeadm asks for\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}

	// A node's containerd must not take another one for pods' sandboxes, nor remove this one as
	// unused.
	config, err := os.ReadFile("images/node/containerd/config.toml")
	if err != nil {
		t.Fatal(err)
	}
	sandbox := regexp.MustCompile(`(?m)^ *sandbox = "(.*)"$`).FindSubmatch(config)
	if sandbox == nil || !slices.Contains(want, string(sandbox[1])) || !strings.Contains(string(sandbox[1]), "/pause:") {
		t.Errorf("containerd's sandbox image is %q, and kubeadm asks for\n  %s", sandbox, strings.Join(want, "\n  "))
	}
}

// TestConfig checks how each image runs: as upstream's does.
func TestConfig(t *testing.T) {
	want := map[string]struct{ user, entrypoint, program, capability string }{
		"coredns":                 {"nonroot:nonroot", "/coredns", "coredns", "cap_net_bind_service"},
		"etcd":                    {"0", "", "usr/local/bin/etcd", ""},
		"kube-apiserver":          {"0", "/go-runner", "usr/local/bin/kube-apiserver", "cap_net_bind_service"},
		"kube-controller-manager": {"0", "/go-runner", "usr/local/bin/kube-controller-manager", ""},
		"kube-proxy":              {"0", "/go-runner", "usr/local/bin/kube-proxy", ""},
		"kube-scheduler":          {"0", "/go-runner", "usr/local/bin/kube-scheduler", ""},
		"pause":                   {"65535:65535", "/pause", "pause", ""},
	}
	all := loadAll(t)
	if len(all) != len(want) {
		t.Errorf("there are %d images, the test knows %d", len(all), len(want))
	}
	for name, w := range want {
		i, ok := all[name]
		if !ok {
			t.Errorf("%s: no such image", name)
			continue
		}
		c := i.config
		if c.OS != "linux" || c.Architecture != "amd64" {
			t.Errorf("%s is for %s/%s", name, c.OS, c.Architecture)
		}
		if c.Config.User != w.user {
			t.Errorf("%s runs as %q, want %q", name, c.Config.User, w.user)
		}
		if got := strings.Join(c.Config.Entrypoint, " "); got != w.entrypoint {
			t.Errorf("%s: entrypoint is %q, want %q", name, got, w.entrypoint)
		}
		f := i.files[w.program]
		if f == nil || f.Mode&0o111 != 0o111 {
			t.Errorf("%s has no program /%s", name, w.program)
			continue
		}
		var capability string
		if strings.HasPrefix(f.PAXRecords["SCHILY.xattr.security.capability"], "\x01\x00\x00\x02\x00\x04\x00\x00") {
			capability = "cap_net_bind_service"
		}
		if capability != w.capability {
			t.Errorf("%s: capabilities of /%s: %q, want %q", name, w.program, capability, w.capability)
		}
	}
}

// TestAddons holds the images of add-ons against what their manifests name.
func TestAddons(t *testing.T) {
	named := map[string]bool{}
	for _, a := range addon.All {
		for _, m := range regexp.MustCompile(`(?m)^ *(?:- )?image: (\S+)$`).FindAllStringSubmatch(a.Manifest, -1) {
			named[m[1]] = true
		}
	}
	for _, name := range addons {
		i := load(t, name)
		if len(i.tags) != 1 || !named[i.tags[0]] {
			t.Errorf("%s is called %q, add-ons name %q", name, i.tags, slices.Sorted(maps.Keys(named)))
		}
		for _, tag := range i.tags {
			delete(named, tag)
		}
		i.checkContents(t, strings.TrimSuffix(filepath.Base(name), ".tar"))
	}
	for name := range named {
		t.Errorf("there is no image %s, which an add-on names", name)
	}
}

// TestContents checks that programs find what they need and that nothing surprising is in an image.
func TestContents(t *testing.T) {
	for name, i := range loadAll(t) {
		i.checkContents(t, name)
	}
}

func (i *image) checkContents(t *testing.T, name string) {
	t.Helper()
	for p, f := range i.files {
		if f.Mode&0o6000 != 0 {
			t.Errorf("%s: /%s has mode %o", name, p, f.Mode)
		}
		if f.Typeflag == tar.TypeSymlink && !strings.HasPrefix(p, "usr/share/zoneinfo/") && i.files.Resolve(p) == nil {
			t.Errorf("%s: /%s points to %s, which is not there", name, p, f.Linkname)
		}
		if base := path.Base(p); name != "kube-proxy" && (base == "sh" || base == "bash" || strings.Contains(base, ".so")) {
			t.Errorf("%s: /%s is in an image of a static program", name, p)
		}
		if f.Typeflag == tar.TypeReg && bytes.HasPrefix(f.Content, []byte(elf.ELFMAG)) {
			for _, missing := range i.missingLibraries(t, f.Content) {
				t.Errorf("%s: /%s needs %s, which is not there", name, p, missing)
			}
		}
	}
	if name == "pause" {
		if len(i.files) != 1 {
			t.Errorf("pause has %d files", len(i.files))
		}
		return
	}
	for _, p := range []string{"etc/passwd", "etc/group", "etc/ssl/certs/ca-certificates.crt", "usr/share/zoneinfo/Europe/Berlin", "tmp"} {
		if i.files[p] == nil {
			t.Errorf("%s: no /%s", name, p)
		}
	}
}

func (i *image) missingLibraries(t *testing.T, content []byte) []string {
	t.Helper()
	e, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	libraries, err := e.ImportedLibraries()
	if err != nil {
		t.Fatal(err)
	}
	var missing []string
	for _, l := range libraries {
		if i.files.Resolve("usr/lib/x86_64-linux-gnu/"+l) == nil {
			missing = append(missing, l)
		}
	}
	for _, p := range e.Progs {
		if p.Type == elf.PT_INTERP {
			interpreter, err := io.ReadAll(p.Open())
			if err != nil {
				t.Fatal(err)
			}
			if name := strings.Trim(string(interpreter), "/\x00"); i.files.Resolve(name) == nil {
				missing = append(missing, name)
			}
		}
	}
	return missing
}

// TestKubeProxyPrograms runs the programs kube-proxy calls, as they are in its image.
func TestKubeProxyPrograms(t *testing.T) {
	i := loadAll(t)["kube-proxy"]
	if i == nil {
		t.Fatal("no image kube-proxy")
	}
	root := t.TempDir()
	var paths []string
	for p := range i.files {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	for _, p := range paths {
		f, to := i.files[p], filepath.Join(root, p)
		var err error
		switch f.Typeflag {
		case tar.TypeDir:
			err = os.MkdirAll(to, 0o755)
		case tar.TypeSymlink:
			err = os.Symlink(f.Linkname, to)
		case tar.TypeReg:
			err = os.WriteFile(to, f.Content, os.FileMode(f.Mode).Perm())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	lib := filepath.Join(root, "usr/lib/x86_64-linux-gnu")
	for _, c := range []struct {
		program, argv0 string
		args           []string
		want           string
	}{
		{"usr/sbin/xtables-nft-multi", "iptables", []string{"--version"}, "(nf_tables)"},
		{"usr/sbin/xtables-legacy-multi", "iptables", []string{"--version"}, "(legacy)"},
		{"usr/sbin/xtables-nft-multi", "ip6tables-restore", []string{"--version"}, "(nf_tables)"},
		{"usr/sbin/nft", "nft", []string{"--version"}, "nftables v"},
		{"usr/sbin/ipset", "ipset", []string{"--help"}, "ipset v"},
		{"usr/bin/kmod", "modprobe", []string{"--version"}, "kmod version"},
		{"usr/local/bin/kube-proxy", "kube-proxy", []string{"--version"}, "Kubernetes v"},
	} {
		// Through the image's own loader and libraries, so that nothing of the machine helps.
		args := append([]string{"--library-path", lib, "--argv0", c.argv0, filepath.Join(root, c.program)}, c.args...)
		cmd := exec.Command(filepath.Join(lib, "ld-linux-x86-64.so.2"), args...)
		if c.argv0 == "kube-proxy" {
			cmd = exec.Command(filepath.Join(root, c.program), c.args...)
		}
		cmd.Env = []string{"XTABLES_LIBDIR=" + filepath.Join(lib, "xtables")}
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), c.want) {
			t.Errorf("%s as %s: %v\n%s", c.program, c.argv0, err, out)
		}
	}
	for _, name := range []string{"iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"} {
		if f := i.files["usr/sbin/"+name]; f == nil || f.Linkname != "iptables-wrapper" {
			t.Errorf("/usr/sbin/%s does not lead to iptables-wrapper", name)
		}
	}
}
