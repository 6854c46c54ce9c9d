package document

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	purl "github.com/package-url/packageurl-go"
	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx"
	"github.com/spdx/tools-golang/spdxlib"

	"github.com/dind-cluster/dind-cluster/image/sbom/contents"
)

var (
	update    = flag.Bool("update", false, "write the golden document instead of comparing with it")
	validator = flag.String("validator", "", "the sbom-utility program; Bazel gives it")
)

func hash(digit string) v1.Hash { return v1.Hash{Algorithm: "sha256", Hex: strings.Repeat(digit, 64)} }

// small returns an image with one of everything.
func small() *contents.Image {
	openssl := &contents.Package{
		Name: "openssl", Version: "1:3.5.7-1~deb13u2", Architecture: "amd64", Homepage: "https://openssl-library.org",
		Maintainer: "Debian OpenSSL Team <pkg-openssl-devel@alioth-lists.debian.net>", Summary: "Secure Sockets Layer toolkit",
		Source:    contents.SourcePackage{Name: "openssl", Version: "3.5.7-1"},
		Copyright: []byte("Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nLicense: GPL-2+ or Expat\n\nFiles: x\nLicense: Apache-2.0\n"),
	}
	docker := &contents.Package{
		Name: "docker.io", Version: "26.1.5+dfsg1-9", Architecture: "amd64", Homepage: "not a URL",
		Maintainer: "Some One <someone@example.org>", Source: contents.SourcePackage{Name: "docker.io", Version: "26.1.5+dfsg1-9"},
		BuiltUsing: []contents.SourcePackage{{Name: "golang-1.24", Version: "1.24.4-1"}},
		Copyright:  []byte("Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nLicense: public-domain\n"),
	}
	kubelet := &contents.Package{
		Name: "kubelet", Version: "1.37.2-1", Architecture: "amd64", Source: contents.SourcePackage{Name: "kubelet", Version: "1.37.2-1"},
	}
	os := &contents.OS{ID: "debian", Name: "Debian GNU/Linux 13 (trixie)", VersionID: "13", Codename: "trixie"}
	deps := []*debug.Module{
		{Path: "github.com/Azure/go-ansiterm", Version: "v0.0.0-20250102033503-faa5f7b0171c"},
		{Path: "example.org/replaced", Version: "v1.0.0", Replace: &debug.Module{Path: "example.org/by", Version: "v2.0.0+incompatible"}},
	}
	nested := &contents.Image{
		Name: "registry.k8s.io/coredns/coredns:v1.14.6", Path: "/usr/lib/dind-cluster/images/coredns.tar", Digest: hash("c"), IsID: true,
		Architecture: "amd64", Layers: []contents.Layer{{Digest: hash("d")}}, OS: os,
		Programs: []*contents.Program{{Path: "/pause", SHA256: hash("e").Hex}},
	}
	embedded := &contents.Image{
		Name: "dind-node:v1.37.2", Path: "/usr/lib/dind-cluster/node-image", Digest: hash("9"), Architecture: "amd64", OS: os,
		Layers:   []contents.Layer{{Digest: hash("b"), CreatedBy: "//images/base:debian"}},
		Packages: []*contents.Package{openssl}, Images: []*contents.Image{nested},
	}
	return &contents.Image{
		Name: "dind-cluster:v1.37.2", Digest: hash("a"), Created: time.Unix(1, 0), Architecture: "amd64", OS: os,
		Layers:   []contents.Layer{{Digest: hash("b"), CreatedBy: "//images/base:debian"}},
		Packages: []*contents.Package{docker, kubelet, openssl},
		Programs: []*contents.Program{
			{Path: "/usr/bin/kubelet", SHA256: hash("1").Hex, Package: kubelet, Go: &debug.BuildInfo{
				GoVersion: "go1.26.10 X:nothing", Path: "k8s.io/kubernetes/cmd/kubelet", Main: debug.Module{Path: "k8s.io/kubernetes", Version: "v1.37.2"}, Deps: deps,
			}},
			{Path: "/usr/bin/runner", SHA256: hash("2").Hex, Go: &debug.BuildInfo{
				GoVersion: "go1.26.10", Path: "example.org/m/runner", Main: debug.Module{Path: "example.org/m", Version: "(devel)"}, Deps: deps[:1],
			}},
			{Path: "/usr/sbin/dockerd", SHA256: hash("3").Hex, Package: docker, Go: &debug.BuildInfo{GoVersion: "go1.24.4", Path: "github.com/docker/docker/cmd/dockerd"}},
		},
		Images: []*contents.Image{embedded},
	}
}

var options = Options{Vendor: "dind-cluster", Archive: map[string]ArchiveFile{
	"openssl 1:3.5.7-1~deb13u2 amd64": {Name: "openssl_3.5.7-1~deb13u2_amd64.deb", SHA256: hash("4").Hex},
	"docker.io 26.1.5+dfsg1-9 amd64":  {Name: "docker.io_26.1.5+dfsg1-9_amd64.deb", SHA256: hash("5").Hex},
}}

func write(t *testing.T, img *contents.Image) []byte {
	t.Helper()
	doc, err := New(img, options)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := Write(&b, doc); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestGolden shows a review what changes in documents.
func TestGolden(t *testing.T) {
	const golden = "testdata/small.spdx.json"
	got := write(t, small())
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the document is not the one in %s; to write it: go test ./image/sbom/document -update\n%s", golden, got)
	}
	// Map order must not show.
	for range 20 {
		if !bytes.Equal(write(t, small()), got) {
			t.Fatal("the same image makes another document")
		}
	}
}

// TestRead reads a document again and looks at what readers rely on.
func TestRead(t *testing.T) {
	text := write(t, small())
	var doc spdx.Document
	if err := spdxjson.ReadInto(bytes.NewReader(text), &doc); err != nil {
		t.Fatal(err)
	}
	if err := spdxlib.ValidateDocument(&doc); err != nil {
		t.Error(err)
	}
	described, err := spdxlib.GetDescribedPackageIDs(&doc)
	if err != nil || len(described) != 1 || described[0] != doc.Packages[0].PackageSPDXIdentifier {
		t.Errorf("described %v, %v", described, err)
	}
	ids := map[string]bool{}
	valid := regexp.MustCompile(`^[a-zA-Z0-9.-]+$`)
	var urls []string
	for _, p := range doc.Packages {
		id := string(p.PackageSPDXIdentifier)
		if ids[id] || !valid.MatchString(id) {
			t.Errorf("identifier %s", id)
		}
		ids[id] = true
		for _, r := range p.PackageExternalReferences {
			u, err := purl.FromString(r.Locator)
			if err != nil || u.ToString() != r.Locator {
				t.Errorf("package URL %s: %s, %v", r.Locator, u.ToString(), err)
			}
			urls = append(urls, r.Locator)
		}
	}
	for _, want := range []string{
		"pkg:deb/debian/openssl@1:3.5.7-1~deb13u2?arch=amd64&distro=trixie",
		"pkg:deb/debian/docker.io@26.1.5%2Bdfsg1-9?arch=amd64&distro=trixie",
		"pkg:deb/debian/golang-1.24@1.24.4-1?arch=source&distro=trixie",
		"pkg:deb/dind-cluster/kubelet@1.37.2-1?arch=amd64&distro=trixie",
		"pkg:golang/k8s.io/kubernetes@v1.37.2",
		"pkg:golang/stdlib@1.26.10",
		"pkg:golang/stdlib@1.24.4",
		"pkg:golang/example.org/by@v2.0.0%2Bincompatible",
		"pkg:oci/dind-cluster@sha256:" + hash("a").Hex + "?arch=amd64&tag=v1.37.2",
		"pkg:docker/coredns@sha256:" + hash("c").Hex + "?arch=amd64&repository_url=registry.k8s.io%2Fcoredns&tag=v1.14.6",
	} {
		if !slices.Contains(urls, want) {
			t.Errorf("no %s in %q", want, urls)
		}
	}
}

// TestNamespace: documents of one name are one document.
func TestNamespace(t *testing.T) {
	space := func(o Options) string {
		doc, err := New(small(), o)
		if err != nil {
			t.Fatal(err)
		}
		return doc.DocumentNamespace
	}
	one := space(options)
	if !strings.HasPrefix(one, spaceRoot+"dind-cluster:v1.37.2/sha256-aaaa") {
		t.Errorf("namespace %s", one)
	}
	if other := space(Options{Vendor: "another"}); other == one {
		t.Errorf("another document has the same namespace %s", other)
	}
}

func TestLocalModule(t *testing.T) {
	img := &contents.Image{Name: "x:1", Digest: hash("a"), Programs: []*contents.Program{{Path: "/x", SHA256: hash("b").Hex, Go: &debug.BuildInfo{
		GoVersion: "go1.26", Deps: []*debug.Module{{Path: "example.org/a", Version: "v1.0.0", Replace: &debug.Module{Path: "../a"}}},
	}}}}
	if _, err := New(img, Options{}); err == nil || !strings.Contains(err.Error(), "/x: module ../a is a directory") {
		t.Error(err)
	}
}

func TestSupplier(t *testing.T) {
	for maintainer, want := range map[string]string{
		"Some One <someone@example.org>":                        "Person: Some One (someone@example.org)",
		"Debian Foo Team <foo@example.org>":                     "Organization: Debian Foo Team (foo@example.org)",
		"Foo <foo@lists.debian.org>":                            "Organization: Foo (foo@lists.debian.org)",
		"László (GCS) <gcs@debian.org>":                         "Person: László (GCS) (gcs@debian.org)",
		"no address":                                            "Person: no address",
		"<only@example.org>":                                    "Person: <only@example.org>",
		"Teamsters <a@example.org>":                             "Person: Teamsters (a@example.org)",
		"Debian QA Group <packages@qa.debian.org>":              "Organization: Debian QA Group (packages@qa.debian.org)",
		"The dind-cluster authors <x@users.noreply.github.com>": "Organization: The dind-cluster authors (x@users.noreply.github.com)",
	} {
		s := supplier(maintainer)
		if got := s.SupplierType + ": " + s.Supplier; got != want {
			t.Errorf("%s: %s, want %s", maintainer, got, want)
		}
	}
	if supplier("") != nil {
		t.Error("nobody supplies")
	}
}

// TestValidator holds a document against SPDX's own schema, with a program of others.
func TestValidator(t *testing.T) {
	if *validator == "" {
		t.Skip("no -validator: Bazel runs this test with it")
	}
	text := write(t, small())
	for name, c := range map[string]struct {
		text  []byte
		valid bool
	}{
		"good": {text, true},
		"bad":  {bytes.Replace(text, []byte(`"CONTAINS"`), []byte(`"HOLDS"`), 1), false},
	} {
		file := filepath.Join(t.TempDir(), name+".json")
		if err := os.WriteFile(file, c.text, 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(*validator, "validate", "--input-file", file).CombinedOutput()
		if (err == nil) != c.valid {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

func TestSplitName(t *testing.T) {
	digest := "@sha256:" + strings.Repeat("0", 64)
	for name, want := range map[string][2]string{
		"dind-node:v1":                     {"dind-node", "v1"},
		"localhost:5000/a/b":               {"localhost:5000/a/b", ""},
		"localhost:5000/a/b:1":             {"localhost:5000/a/b", "1"},
		"registry.k8s.io/pause:3" + digest: {"registry.k8s.io/pause", "3"},
		"registry.k8s.io/pause" + digest:   {"registry.k8s.io/pause", ""},
		"":                                 {"", ""},
	} {
		if repository, tag := splitName(name); [2]string{repository, tag} != want {
			t.Errorf("%q: %q, %q, want %q", name, repository, tag, want)
		}
	}
}
