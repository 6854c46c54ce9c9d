package proxy

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"golang.org/x/net/http/httpproxy"
)

func env(pairs ...string) func(string) string {
	return func(name string) string {
		for _, p := range pairs {
			if k, v, _ := strings.Cut(p, "="); k == name {
				return v
			}
		}
		return ""
	}
}

func TestFromEnv(t *testing.T) {
	for _, test := range []struct {
		env  []string
		want Settings
		err  string
	}{
		{},
		{env: []string{"HTTP_PROXY=http://a:1", "https_proxy=b:2", "no_proxy=x, y"}, want: Settings{HTTP: "http://a:1", HTTPS: "b:2", No: "x, y"}},
		{env: []string{"http_proxy=http://small", "HTTP_PROXY=http://capital"}, want: Settings{HTTP: "http://capital"}},
		{env: []string{"HTTPS_PROXY=socks5://me:secret@a:1"}, want: Settings{HTTPS: "socks5://me:secret@a:1"}},
		{env: []string{"HTTPS_PROXY=ftp://me:secret@a:1"}, err: "environment variable HTTPS_PROXY: want a proxy's URL"},
		{env: []string{"http_proxy=http://me:secret@a b"}, err: "environment variable http_proxy: want"},
		{env: []string{"HTTP_PROXY=http://a\nNODES=7:secret"}, err: "HTTP_PROXY has control characters"},
		{env: []string{"NO_PROXY=a\rsecret"}, err: "NO_PROXY has control characters"},
		{env: []string{"HTTP_PROXY=http://", "HTTPS_PROXY=:"}, err: "HTTPS_PROXY: want"},
	} {
		got, err := FromEnv(env(test.env...))
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%q: got %v, want an error with %q and no secret", test.env, err, test.err)
			}
		} else if err != nil || got != test.want {
			t.Errorf("%q: got %+v, %v", test.env, got, err)
		}
	}
}

// What the list means is up to the library by which all programs in Go read it.
func TestComplete(t *testing.T) {
	p := v1alpha1.Default()
	p.Networking.SetIPFamily(v1alpha1.Dual)
	s := Settings{HTTP: "http://proxy:1", HTTPS: "http://proxy:1", No: "corp.example, localhost"}.Complete(p)
	proxyFor := (&httpproxy.Config{HTTPProxy: s.HTTP, HTTPSProxy: s.HTTPS, NoProxy: s.No}).ProxyFunc()
	for target, proxied := range map[string]bool{
		"https://registry.example/v2/":      true,
		"http://192.0.2.1:5000/v2/":         true,
		"https://localhost.example":         true,
		"https://corp.example":              false,
		"https://x.corp.example":            false,
		"https://10.250.0.2:6443":           false,
		"https://control-plane:6443":        false,
		"https://worker2:10250":             false,
		"http://10.244.7.9:80":              false,
		"https://10.96.0.1":                 false,
		"https://kubernetes":                false,
		"https://kubernetes.default":        false,
		"https://kubernetes.default.svc":    false,
		"http://web.default.svc:80":         false,
		"http://web.x.svc.cluster.local:80": false,
		"http://[::1]:80":                   false,
		"https://[fd00:10:250::2]:6443":     false,
		"https://[fd00:10:96::1]":           false,
		"http://[fd00:10:244:7::9]:80":      false,
		"http://[fd00:10:251::1]:80":        false,
		"http://[fd00:10:252::1]:80":        true,
		"http://127.0.0.1:80":               false,
		"http://localhost:5000/v2/":         false,
	} {
		u, err := url.Parse(target)
		if err != nil {
			t.Fatal(err)
		}
		if through, err := proxyFor(u); err != nil || (through != nil) != proxied {
			t.Errorf("%s: got %v, %v, want a proxy: %v", target, through, err, proxied)
		}
	}
	if strings.Count(s.No, "localhost") != 1 {
		t.Errorf("it is there twice: %s", s.No)
	}
}

func TestShareAndUse(t *testing.T) {
	dir, units := filepath.Join(t.TempDir(), "nodes"), t.TempDir()
	addition := filepath.Join(units, "containerd.service.d", "proxy.conf")
	// Without proxies there is nothing.
	if err := (Settings{No: "x"}).Share(dir); err != nil {
		t.Fatal(err)
	}
	if err := Use(dir, units); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, addition} {
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("%s: %v", path, err)
		}
	}
	s := Settings{HTTPS: `http://me:p%24"$\@proxy:1`, No: "a,b"}
	if err := s.Share(dir); err != nil {
		t.Fatal(err)
	}
	if err := Use(dir, units); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, file)
	data, err := os.ReadFile(path)
	const quoted = `"http://me:p%24\"\$\\@proxy:1"`
	if want := "HTTPS_PROXY=" + quoted + "\nhttps_proxy=" + quoted + "\nNO_PROXY=\"a,b\"\nno_proxy=\"a,b\"\n"; err != nil || string(data) != want {
		t.Errorf("got %q, %v, want %q", data, err, want)
	}
	for path, mode := range map[string]os.FileMode{path: 0o600, dir: 0o700 | os.ModeDir} {
		if info, err := os.Stat(path); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v, want %v", path, info.Mode(), err, mode)
		}
	}
	if data, err := os.ReadFile(addition); err != nil || string(data) != "[Service]\nEnvironmentFile=-"+path+"\n" {
		t.Errorf("got %q, %v", data, err)
	}
	if err := (Settings{}).Share(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the proxies of an earlier start are still there: %v", err)
	}
}

func TestWarnings(t *testing.T) {
	p := v1alpha1.Default()
	for _, test := range []struct {
		s    Settings
		want string
	}{
		{s: Settings{}},
		{s: Settings{HTTP: "http://192.0.2.7:3128", HTTPS: "http://192.0.2.7:3128"}},
		{s: Settings{HTTPS: "http://me:secret@127.0.0.1:3128"}, want: "HTTPS_PROXY is at 127.0.0.1:3128, which is each container's own address"},
		{s: Settings{HTTP: "localhost:3128"}, want: "HTTP_PROXY is at localhost:3128"},
		{s: Settings{HTTP: "http://10.96.4.5:3128", HTTPS: "http://10.96.4.5:3128"}, want: "HTTP_PROXY 10.96.4.5:3128 is in the cluster's own subnet 10.96.0.0/16"},
		{s: Settings{HTTPS: "10.244.0.9:1"}, want: "--env POD_SUBNET=…"},
	} {
		got := strings.Join(test.s.Warnings(t.Context(), p.Networking), "\n")
		if !strings.Contains(got, test.want) || (got == "") != (test.want == "") || strings.Contains(got, "secret") || strings.Contains(got, "\n") {
			t.Errorf("%+v: got %q, want %q", test.s, got, test.want)
		}
	}
}

func TestIsVariable(t *testing.T) {
	for name, want := range map[string]bool{"HTTP_PROXY": true, "https_proxy": true, "no_proxy": true, "Http_Proxy": false, "ALL_PROXY": false, "NODES": false} {
		if got := IsVariable(name); got != want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}
