package registry

import (
	"strings"
	"testing"

	"github.com/distribution/reference"
)

func TestParsePlace(t *testing.T) {
	for _, c := range []struct{ text, name, complaint string }{
		{text: "registry.example.com/team", name: "registry.example.com/team/dind-node"},
		{text: "registry.example.com/a/b/c", name: "registry.example.com/a/b/c/dind-node"},
		{text: "registry.example.com", name: "registry.example.com/dind-node"},
		{text: "registry.example.com:8443/team/", name: "registry.example.com:8443/team/dind-node"},
		{text: "localhost/team", name: "localhost/team/dind-node"},
		{text: "localhost:5000", name: "localhost:5000/dind-node"},
		{text: "[::1]:5000/team", name: "[::1]:5000/team/dind-node"},
		{text: "docker.io/someone", name: "docker.io/someone/dind-node"},

		{text: "", complaint: "no registry"},
		{text: "team", complaint: `write docker.io/team for Docker Hub`},
		{text: "team/images", complaint: "does not begin with a registry's host"},
		{text: "docker.io", complaint: "docker.io/NAME"},
		{text: "https://registry.example.com/team", complaint: `leave "https://" out: registry.example.com/team`},
		{text: "registry.example.com/team:v1", complaint: "--tag"},
		{text: "registry.example.com/Team", complaint: "lowercase"},
		{text: "registry.example.com/te am", complaint: "not REGISTRY/PATH"},
		{text: "registry.example.com//team", complaint: "not REGISTRY/PATH"},
		{text: "registry.example.com:http/team", complaint: "not REGISTRY/PATH"},
		{text: "registry.example.com/" + strings.Repeat("x", 300), complaint: "255"},
		{text: "me:hunter2@registry.example.com/team", complaint: `no "@"`},
		{text: "registry.example.com/team/image@sha256:00", complaint: `no "@"`},
	} {
		p, err := ParsePlace(c.text)
		switch {
		case c.complaint == "" && err != nil:
			t.Errorf("%q: %v", c.text, err)
		case c.complaint == "" && p.Name("dind-node") != c.name:
			t.Errorf("%q: image is %q, want %q", c.text, p.Name("dind-node"), c.name)
		case c.complaint != "" && (err == nil || !strings.Contains(err.Error(), c.complaint)):
			t.Errorf("%q: error %v, want %q in it", c.text, err, c.complaint)
		case err != nil && strings.Contains(err.Error(), "hunter2"):
			t.Errorf("%q: the error repeats the password: %v", c.text, err)
		}
	}
}

func FuzzParsePlace(f *testing.F) {
	for _, text := range []string{"", "localhost:5000/a", "[::1]:5000", "docker.io", "a/b", "x.y/é", "https://x", "h.x/a:b", "127.0.0.1:1/-", "a.b:/c"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePlace(text)
		if err != nil {
			return
		}
		full := p.Name("dind-node")
		named, err := reference.ParseNormalizedNamed(full)
		if err != nil {
			t.Fatalf("%q is taken, and others do not take %q: %v", text, full, err)
		}
		if host := reference.Domain(named); host != p.Host() {
			t.Errorf("%q: the registry is %q for us and %q for others", text, p.Host(), host)
		}
		repo, err := p.repository("dind-node", false)
		if err != nil {
			t.Fatalf("%q is taken, and go-containerregistry does not take it: %v", text, err)
		}
		if got := repo.RegistryStr(); got != p.Host() && p.Host() != "docker.io" {
			t.Errorf("%q: requests would go to %q", text, got)
		}
	})
}

func TestCheckTag(t *testing.T) {
	for tag, valid := range map[string]bool{
		"v1.37.2": true, "v1.37.2-0123456789ab-dirty": true, "_x": true, "A": true, strings.Repeat("x", 128): true,
		"": false, ".x": false, "-x": false, "a b": false, "a:b": false, "a/b": false, "é": false, "a\n": false, "v1+x": false, strings.Repeat("x", 129): false,
	} {
		if err := CheckTag(tag); (err == nil) != valid {
			t.Errorf("%q: %v", tag, err)
		}
	}
}

func TestThisMachine(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "localhost:5000": true, "127.0.0.1": true, "127.9.9.9:80": true, "[::1]": true, "[::1]:5000": true, "a.localhost:5000": true,
		"registry.example.com": false, "10.0.0.1:5000": false, "192.168.1.1": false, "localhost.example.com": false, "notlocalhost": false, "0.0.0.0:80": false,
		"127.0.0.1.example.com": false, "": false,
	} {
		if got := thisMachine(host); got != want {
			t.Errorf("%q: %v", host, got)
		}
	}
}
