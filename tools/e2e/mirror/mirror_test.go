package mirror

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// TestServe writes an archive, and pulls its images from the mirror as a container runtime does.
func TestServe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "images.tar")
	images := map[name.Reference]v1.Image{}
	for _, ref := range []string{"registry.example/e2e/one:1", "registry.example/two:2.0", "other.example/three:3"} {
		image, err := random.Image(1024, 2)
		if err != nil {
			t.Fatal(err)
		}
		images[parse(t, ref)] = image
	}
	if err := tarball.MultiRefWriteToFile(path, images); err != nil {
		t.Fatal(err)
	}
	m, err := Serve(t.Context(), path, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if got, want := strings.Join(m.Hosts, " "), "other.example registry.example"; got != want {
		t.Errorf("hosts %q, want %q", got, want)
	}

	for ref, image := range images {
		there := parse(t, m.Address+"/"+ref.Context().RepositoryStr()+":"+ref.Identifier(), name.Insecure)
		got, err := remote.Image(there)
		if err != nil {
			t.Fatal(err)
		}
		if err := validate.Image(got); err != nil {
			t.Errorf("%s: %v", ref, err)
		}
		a, _ := image.ConfigName()
		b, err := got.ConfigName()
		if err != nil || a != b {
			t.Errorf("%s: config %s, want %s, %v", ref, b, a, err)
		}
		other, err := random.Image(1024, 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.Write(there, other); err == nil {
			t.Errorf("%s: could be written", ref)
		}
	}
	resp, err := http.Head("http://" + m.Address + "/v2/no/such/manifests/1")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("an image that is not there: %s, want 404", resp.Status)
	}
	address := m.Address
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if _, err := http.Get("http://" + address + "/v2/"); err == nil {
		t.Error("it answers after Close")
	}
}

func TestServeNoArchive(t *testing.T) {
	_, err := Serve(t.Context(), filepath.Join(t.TempDir(), "none.tar"), "127.0.0.1:0")
	if err == nil || !strings.Contains(err.Error(), "none.tar") {
		t.Errorf("error %v does not name the file", err)
	}
}

func TestHostsFile(t *testing.T) {
	got := hostsFile("registry.k8s.io", "10.250.0.1:5000")
	want := marker + `
server = "https://registry.k8s.io"

[host."http://10.250.0.1:5000"]
capabilities = ["pull", "resolve"]
`
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func parse(t *testing.T, ref string, options ...name.Option) name.Reference {
	t.Helper()
	r, err := name.ParseReference(ref, options...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
