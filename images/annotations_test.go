package images

import (
	"flag"
	"maps"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/dind-cluster/dind-cluster/image"
)

var kubernetes = flag.String("kubernetes", "", "the version of Kubernetes in all images but dind-base: v1.37.2")

var project = flag.String("project", "", "the version of dind-cluster: 0.6.0")

// The annotations that an image has besides its labels.
var notLabels = []string{image.BaseName, image.BaseDigest, image.Packages}

// longest label, key and value together, that containerd takes.
const longest = 4096

// largest is how many bytes of layers a download of each image may take. A change that needs more
// says here what for: local-path-provisioner, for the default StorageClass, takes 7.4 MB.
var largest = map[string]int64{"dind-base": 46e6, "dind-node": 200e6, "dind-cluster": 260e6, "dind-e2e": 340e6}

// TestSizes keeps images from growing unnoticed.
func TestSizes(t *testing.T) {
	forEach(t, func(t *testing.T, img v1.Image, d *document) {
		manifest, err := img.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		var size int64
		for _, l := range manifest.Layers {
			size += l.Size
		}
		t.Logf("%.1f MB", float64(size)/1e6)
		if limit := largest[d.root.Name]; size > limit {
			t.Errorf("%d bytes of layers, at most %d: has something come in that no image needs?", size, limit)
		}
	})
}

// TestAnnotations holds what the images say about themselves against what they are.
func TestAnnotations(t *testing.T) {
	built := map[string]v1.Image{}
	forEach(t, func(t *testing.T, img v1.Image, d *document) { built[d.root.Name+":"+d.root.VersionInfo] = img })
	forEach(t, func(t *testing.T, img v1.Image, d *document) {
		manifest, err := img.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		config, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		says := manifest.Annotations
		labels := maps.Clone(says)
		for _, key := range notLabels {
			delete(labels, key)
		}
		if !maps.Equal(labels, config.Config.Labels) {
			t.Errorf("labels are\n%q, annotations\n%q", config.Config.Labels, labels)
		}
		for key, value := range labels {
			if len(key)+len(value) > longest {
				t.Errorf("%s is too long: %d bytes", key, len(value))
			}
		}
		version := *kubernetes
		if d.root.Name == "dind-base" {
			version = ""
		}
		role := ""
		if d.root.Name == "dind-cluster" || d.root.Name == "dind-e2e" {
			role = "cluster"
		}
		for key, want := range map[string]string{
			"org.opencontainers.image.title":    d.root.Name,
			"org.opencontainers.image.version":  d.root.VersionInfo,
			"org.opencontainers.image.source":   "https://github.com/dind-cluster/dind-cluster",
			"org.opencontainers.image.vendor":   "dind-cluster",
			"org.opencontainers.image.licenses": licences(d),
			"dind-cluster.kubernetes-version":   version,
			"dind-cluster.role":                 role,
			"dind-cluster.version":              *project,
			image.Packages:                      packages(d),
		} {
			if says[key] != want {
				t.Errorf("%s is\n%s, want\n%s", key, says[key], want)
			}
		}
		if says["org.opencontainers.image.description"] == "" {
			t.Error("no description")
		}
		// The commit is for pushed images: it would change what is built.
		if _, found := says["org.opencontainers.image.revision"]; found {
			t.Error("there is a revision")
		}
		checkBase(t, manifest, built)
		raw, err := img.RawManifest()
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("the manifest has %d bytes, %d of them the list of %d packages", len(raw), len(says[image.Packages]), strings.Count(says[image.Packages], "="))
	})
}

// checkBase compares an image with what it says is its base.
func checkBase(t *testing.T, m *v1.Manifest, built map[string]v1.Image) {
	t.Helper()
	name := m.Annotations[image.BaseName]
	if name == "" {
		if digest := m.Annotations[image.BaseDigest]; digest != "" {
			t.Errorf("no base has the digest %s", digest)
		}
		// Then there is no base: no image's layers are its first ones.
		for name, other := range built {
			below, err := other.Manifest()
			if err != nil {
				t.Fatal(err)
			}
			if len(below.Layers) < len(m.Layers) && startsWith(m, below) {
				t.Errorf("it does not say that its base is %s", name)
			}
		}
		return
	}
	base := built[name]
	if base == nil {
		t.Fatalf("its base is %s, which is none of ours", name)
	}
	below, err := base.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := base.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if m.Annotations[image.BaseDigest] != digest.String() {
		t.Errorf("its base %s has the digest %s, want %s", name, m.Annotations[image.BaseDigest], digest)
	}
	if len(below.Layers) >= len(m.Layers) || !startsWith(m, below) {
		t.Errorf("its layers do not begin with those of %s", name)
	}
}

func startsWith(m, below *v1.Manifest) bool {
	return slices.EqualFunc(m.Layers[:min(len(m.Layers), len(below.Layers))], below.Layers, func(a, b v1.Descriptor) bool { return a.Digest == b.Digest })
}

// packages lists the image's own Debian packages as the annotation does.
func packages(d *document) string {
	var all []string
	for _, e := range d.contents[d.root.ID] {
		if isDeb(e) {
			all = append(all, e.Name+"="+e.VersionInfo)
		}
	}
	slices.SortFunc(all, func(a, b string) int {
		a, _, _ = strings.Cut(a, "=")
		b, _, _ = strings.Cut(b, "=")
		return strings.Compare(a, b)
	})
	return strings.Join(all, " ")
}

// licences is an expression for all that is in the image: every licence that the document declares
// of a Debian package, and one name for those that it does not know.
func licences(d *document) string {
	var single []string
	var choices [][]string
	for _, e := range d.within(d.root, isDeb) {
		if e.License == "NOASSERTION" {
			continue
		}
		for _, part := range strings.Split(e.License, " AND ") {
			if choice := strings.Split(strings.Trim(part, "()"), " OR "); len(choice) > 1 {
				choices = append(choices, choice)
			} else {
				single = append(single, part)
			}
		}
	}
	slices.Sort(single)
	single = slices.Compact(single)
	for _, choice := range choices {
		// What applies anyway leaves no choice.
		if !slices.ContainsFunc(choice, func(one string) bool { return slices.Contains(single, one) }) {
			single = append(single, "("+strings.Join(choice, " OR ")+")")
		}
	}
	return strings.Join(append(single, "LicenseRef-other"), " AND ")
}
