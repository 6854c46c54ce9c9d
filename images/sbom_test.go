// Package images tests the bills of materials of the images that are shipped, against the images
// themselves.
package images

import (
	"archive/tar"
	"debug/buildinfo"
	"encoding/json"
	"flag"
	"io"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/dind-cluster/dind-cluster/image"
	"github.com/dind-cluster/dind-cluster/internal/repeated"
)

var (
	pairs     repeated.Strings
	kubelet   = flag.String("kubelet", "", "the kubelet of the same build")
	validator = flag.String("validator", "", "the sbom-utility program")
)

func TestMain(m *testing.M) {
	flag.Var(&pairs, "image", "IMAGE=DOCUMENT: an image's description, and its bill of materials; repeat")
	flag.Parse()
	os.Exit(m.Run())
}

// document is as much of SPDX's JSON as the tests look at, read without the library that wrote it.
type document struct {
	Packages      []*element
	Relationships []struct {
		From string `json:"spdxElementId"`
		To   string `json:"relatedSpdxElement"`
		Type string `json:"relationshipType"`
	}

	byID     map[string]*element
	contents map[string][]*element
	root     *element
}

type element struct {
	ID          string `json:"SPDXID"`
	Name        string
	VersionInfo string
	File        string `json:"packageFileName"`
	Purpose     string `json:"primaryPackagePurpose"`
	License     string `json:"licenseDeclared"`
	Checksums   []struct{ Algorithm, ChecksumValue string }
	References  []struct {
		URL string `json:"referenceLocator"`
	} `json:"externalRefs"`
}

func (e *element) url() string {
	if len(e.References) == 0 {
		return ""
	}
	return e.References[0].URL
}

func (e *element) sha256() string {
	for _, c := range e.Checksums {
		if c.Algorithm == "SHA256" {
			return c.ChecksumValue
		}
	}
	return ""
}

func readDocument(t *testing.T, file string) *document {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	d := &document{byID: map[string]*element{}, contents: map[string][]*element{}}
	if err := json.Unmarshal(text, d); err != nil {
		t.Fatal(err)
	}
	for _, p := range d.Packages {
		d.byID[p.ID] = p
	}
	for _, r := range d.Relationships {
		switch r.Type {
		case "CONTAINS":
			d.contents[r.From] = append(d.contents[r.From], d.byID[r.To])
		case "DESCRIBES":
			d.root = d.byID[r.To]
		}
	}
	if d.root == nil {
		t.Fatal("the document describes nothing")
	}
	return d
}

// within are all elements of a kind in an element, at any depth.
func (d *document) within(e *element, is func(*element) bool) []*element {
	seen := map[string]bool{}
	var found []*element
	var visit func(*element)
	visit = func(e *element) {
		for _, c := range d.contents[e.ID] {
			if seen[c.ID] {
				continue
			}
			seen[c.ID] = true
			if is(c) {
				found = append(found, c)
			}
			visit(c)
		}
	}
	visit(e)
	return found
}

func isDeb(e *element) bool { return strings.HasPrefix(e.url(), "pkg:deb/") && e.Purpose != "SOURCE" }

func isModule(e *element) bool { return strings.HasPrefix(e.url(), "pkg:golang/") }

func isProgram(e *element) bool { return e.Purpose == "APPLICATION" }

func forEach(t *testing.T, test func(t *testing.T, img v1.Image, d *document)) {
	if len(pairs) == 0 {
		t.Fatal("no -image: run this test with Bazel")
	}
	for _, pair := range pairs {
		description, file, _ := strings.Cut(pair, "=")
		files, err := image.ReadFiles(description, "..")
		if err != nil {
			t.Fatal(err)
		}
		t.Run(files.Name, func(t *testing.T) {
			img, err := image.Open(files)
			if err != nil {
				t.Fatal(err)
			}
			test(t, img, readDocument(t, file))
		})
	}
}

// TestValid holds the documents against SPDX's own schema, with a program of others.
func TestValid(t *testing.T) {
	for _, pair := range pairs {
		_, file, _ := strings.Cut(pair, "=")
		out, err := exec.Command(*validator, "validate", "--input-file", file).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", file, err, out)
		}
	}
}

func TestImage(t *testing.T) {
	forEach(t, func(t *testing.T, img v1.Image, d *document) {
		digest, err := img.Digest()
		if err != nil {
			t.Fatal(err)
		}
		if d.root.sha256() != digest.Hex || !strings.Contains(d.root.url(), digest.String()) {
			t.Errorf("the document is of sha256:%s, %s; the image is %s", d.root.sha256(), d.root.url(), digest)
		}
		manifest, err := img.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		var want, got []string
		for _, l := range manifest.Layers {
			want = append(want, l.Digest.Hex)
		}
		for _, e := range d.contents[d.root.ID] {
			if e.Purpose == "ARCHIVE" {
				got = append(got, e.sha256())
			}
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("layers\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

// TestPackages compares the packages with dpkg's record in the image.
func TestPackages(t *testing.T) {
	forEach(t, func(t *testing.T, img v1.Image, d *document) {
		want := map[string]string{}
		status := find(t, img, "var/lib/dpkg/status")
		for _, paragraph := range strings.Split(strings.TrimSpace(status), "\n\n") {
			want[field(t, paragraph, "Package")] = field(t, paragraph, "Version")
		}
		got := map[string]string{}
		for _, e := range d.contents[d.root.ID] {
			if isDeb(e) {
				got[e.Name] = e.VersionInfo
			}
		}
		if n := strings.Count(status, "\nPackage: ") + 1; n != len(want) || !maps.Equal(got, want) {
			t.Errorf("%d packages, dpkg has %d (%d by their names)\n%v\nwant\n%v", len(got), n, len(want), got, want)
		}
		for _, name := range []string{"openssl", "containerd"} {
			if got[name] == "" {
				t.Errorf("no package %s", name)
			}
		}
		t.Logf("%d packages, with those of the images inside %d", len(got), len(d.within(d.root, isDeb)))
	})
}

func field(t *testing.T, paragraph, name string) string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^` + name + `: (.+)$`).FindStringSubmatch(paragraph)
	if m == nil {
		t.Fatalf("no %s in %s", name, paragraph)
	}
	return m[1]
}

// find reads a file of an image: the one in the highest layer that has it.
func find(t *testing.T, img v1.Image, path string) string {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range slices.Backward(layers) {
		r, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		tr := tar.NewReader(r)
		for {
			h, err := tr.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if strings.TrimPrefix(h.Name, "./") == path {
				b, err := io.ReadAll(tr)
				if err != nil {
					t.Fatal(err)
				}
				return string(b)
			}
		}
	}
	t.Fatalf("the image has no /%s", path)
	return ""
}

// TestKubelet compares the modules of one program with what the program itself says.
func TestKubelet(t *testing.T) {
	info, err := buildinfo.ReadFile(*kubelet)
	if err != nil {
		t.Fatal(err)
	}
	version, _, _ := strings.Cut(strings.TrimPrefix(info.GoVersion, "go"), " ")
	want := []string{"stdlib " + version, info.Main.Path + " " + info.Main.Version}
	for _, m := range info.Deps {
		want = append(want, m.Path+" "+m.Version)
	}
	slices.Sort(want)
	content, err := os.Open(*kubelet)
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	sum, _, err := v1.SHA256(content)
	if err != nil {
		t.Fatal(err)
	}
	forEach(t, func(t *testing.T, _ v1.Image, d *document) {
		found := d.within(d.root, func(e *element) bool { return isProgram(e) && e.File == "/usr/bin/kubelet" })
		if d.root.Name == "dind-base" {
			if len(found) > 0 {
				t.Error("dind-base has no kubelet")
			}
			return
		}
		if len(found) != 1 || found[0].sha256() != sum.Hex || found[0].VersionInfo != info.Main.Version {
			t.Fatalf("kubelets %+v, want one of %s", found, sum)
		}
		var got []string
		for _, e := range d.contents[found[0].ID] {
			got = append(got, e.Name+" "+e.VersionInfo)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("modules\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		t.Logf("%d modules", len(got))
	})
}

// TestInside looks for what lies deep: programs of images in the node image, inside the cluster's.
func TestInside(t *testing.T) {
	want := map[string][]string{
		"dind-base": {"github.com/containerd/containerd/v2"},
		"dind-node": {
			"go.etcd.io/etcd/server/v3", "github.com/coredns/coredns", "k8s.io/kubernetes", "github.com/containernetworking/plugins", "sigs.k8s.io/cri-tools",
			"nftables", "pause", "iptables-wrapper", "registry.k8s.io/etcd", "registry.k8s.io/pause",
		},
	}
	want["dind-cluster"] = slices.Concat(want["dind-node"], []string{"dind-node", "e2e.test", "ginkgo", "golang-1.24"})
	want["dind-e2e"] = slices.Concat(want["dind-cluster"], []string{"registry.k8s.io/e2e-test-images/agnhost", "k8s.io/sample-apiserver"})
	forEach(t, func(t *testing.T, _ v1.Image, d *document) {
		names := map[string]bool{}
		for _, p := range d.Packages {
			names[p.Name] = true
		}
		for _, name := range slices.Concat(want[d.root.Name], want["dind-base"]) {
			if !names[name] {
				t.Errorf("no %s", name)
			}
		}
		// Nothing but what a Debian package without modules brought is without any.
		owners := map[string][]*element{}
		for id, contents := range d.contents {
			for _, e := range contents {
				owners[e.ID] = append(owners[e.ID], d.byID[id])
			}
		}
		programs := d.within(d.root, isProgram)
		for _, p := range programs {
			modules := d.within(p, isModule)
			debian := slices.ContainsFunc(owners[p.ID], func(e *element) bool { return strings.HasPrefix(e.url(), "pkg:deb/debian/") })
			if len(modules) < 2 && !debian && p.File != "/pause" {
				t.Errorf("%s has the modules %v", p.File, modules)
			}
			if len(p.sha256()) != 64 {
				t.Errorf("%s has no checksum", p.File)
			}
		}
		t.Logf("%d programs, %d modules, %d elements", len(programs), len(d.within(d.root, isModule)), len(d.Packages))
	})
}
