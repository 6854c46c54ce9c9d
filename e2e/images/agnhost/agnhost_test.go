// Package agnhost tests that the image is the one e2e.test asks for.
package agnhost

import (
	"archive/tar"
	"encoding/json"
	"flag"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

var (
	agnhost = flag.String("agnhost", "", "the program")
	e2e     = flag.String("e2e", "", "e2e.test of the same Kubernetes")
	image   = flag.String("image", "", "the image's tarball")
)

func tag(t *testing.T) string {
	t.Helper()
	f, err := os.Open(*image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tr := tar.NewReader(f)
	for {
		hdr, err := tr.Next()
		if err != nil {
			t.Fatalf("%s: manifest.json: %v", *image, err)
		}
		if hdr.Name != "manifest.json" {
			continue
		}
		text, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		var manifest []struct{ RepoTags []string }
		if err := json.Unmarshal(text, &manifest); err != nil || len(manifest) != 1 || len(manifest[0].RepoTags) != 1 {
			t.Fatalf("%s: manifest.json: %v: %s", *image, err, text)
		}
		return manifest[0].RepoTags[0]
	}
}

func TestImageIsTheOneAskedFor(t *testing.T) {
	out, err := exec.Command(*e2e, "--list-images").Output()
	if err != nil {
		t.Fatalf("e2e.test --list-images: %v", err)
	}
	if have := tag(t); !slices.Contains(strings.Fields(string(out)), have) {
		t.Errorf("e2e.test does not ask for %s, but for\n%s", have, out)
	}
}

func TestVersion(t *testing.T) {
	out, err := exec.Command(*agnhost, "--version").CombinedOutput()
	if err != nil {
		t.Fatalf("agnhost --version: %v\n%s", err, out)
	}
	_, version, _ := strings.Cut(tag(t), "agnhost:")
	if !strings.Contains(string(out), version) {
		t.Errorf("the image is of version %s, the program says %s", version, out)
	}
}
