// Package rules_test runs a real Bazel on the two input channels: against a Debian mirror and a Go
// module proxy of its own, good and bad.
package rules_test

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/dirhash"
)

const debianWorkspace = `workspace(name = "dind_cluster")
load("//rules:debian.bzl", "debian_packages")
debian_packages(name = "demo", lock = "//:demo.lock.json")
load("@demo//:packages.bzl", "debian_package_repositories")
debian_package_repositories()
`

const goWorkspace = `workspace(name = "dind_cluster")
load("//rules:go.bzl", "go_module")
go_module(
    name = "demo",
    files = {"BUILD.bazel": 'exports_files(["hello.txt"])'},
    module = "example.org/demo",
    sum = "%s",
    version = "v1.0.0",
)
`

func TestDebianPackage(t *testing.T) {
	bazel := newBazel(t)
	bazel.copyRules(t)
	deb := []byte("not a real package: the channel does not look inside\n")
	mirror := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/debian/pool/main/h/hello/hello_1.0_amd64.deb" {
			http.NotFound(w, r)
			return
		}
		w.Write(deb)
	}))
	defer mirror.Close()
	good := fmt.Sprintf("%x", sha256.Sum256(deb))
	bad := strings.Repeat("0", 64)

	for _, tc := range []struct {
		name, path, sha256 string
		want               []string
	}{
		{name: "right", path: "pool/main/h/hello/hello_1.0_amd64.deb", sha256: good},
		{
			name: "wrong hash in the lock", path: "pool/main/h/hello/hello_1.0_amd64.deb", sha256: bad,
			want: []string{"could not fetch hello 1.0", "demo.lock.json", bad, good, mirror.URL, "scripts/lock debian demo"},
		},
		{
			name: "gone from the mirror", path: "pool/main/h/hello/hello_0.9_amd64.deb", sha256: strings.Repeat("1", 64),
			want: []string{"could not fetch hello 1.0", "demo.lock.json", "hello_0.9_amd64.deb", mirror.URL, "404", "scripts/lock debian demo"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			lock, err := json.Marshal(map[string]any{
				"suite": "trixie", "snapshot": "20260102T030405Z",
				"packages": []map[string]any{{
					"name": "hello", "version": "1.0", "architecture": "amd64",
					"path": tc.path, "size": len(deb), "sha256": tc.sha256,
				}},
			})
			if err != nil {
				t.Fatal(err)
			}
			bazel.write("WORKSPACE", debianWorkspace)
			bazel.write("demo.lock.json", string(lock))
			bazel.check(t, tc.want, []string{"DEBIAN_MIRROR=" + mirror.URL + "/debian"}, "deps(@demo//:hello)")
		})
	}
}

// Where packages come from is the machine's own affair: the environment, else apt's sources. It is
// no input of what was fetched, so that one Bazel server serves callers with and without
// scripts/bazel's environment.
func TestDebianMirror(t *testing.T) {
	bazel := newBazel(t)
	bazel.copyRules(t)
	deb := []byte("a package\n")
	requests := 0
	mirror := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests++
		w.Write(deb)
	}))
	defer mirror.Close()
	bazel.write("WORKSPACE", debianWorkspace)
	bazel.write("demo.lock.json", fmt.Sprintf(`{"suite": "trixie", "snapshot": "20260102T030405Z", "packages": [
		{"name": "hello", "version": "1.0", "architecture": "amd64", "path": "pool/h/hello.deb", "size": %d, "sha256": "%x"}]}`,
		len(deb), sha256.Sum256(deb)))
	bazel.write("none/x", "")
	bazel.write("apt/sources.list", "deb "+mirror.URL+"/debian trixie main\n")
	apt := func(directory string) string { return "APT_ETC=" + filepath.Join(bazel.workspace, directory) }
	for _, tc := range []struct {
		name     string
		env      []string
		want     []string
		requests int
	}{
		{"none known", []string{apt("none")}, []string{"no mirror of the archive debian is known", "export DEBIAN_MIRROR="}, 0},
		{"bad", []string{apt("apt"), "DEBIAN_MIRROR=nonsense"}, []string{`DEBIAN_MIRROR is "nonsense"`, "http://…/debian"}, 0},
		{"gone", []string{apt("apt"), "DEBIAN_MIRROR=http://127.0.0.1:9/debian"}, []string{"could not fetch hello 1.0", "mirror: http://127.0.0.1:9/debian"}, 0},
		// A failure is not kept.
		{"apt's own", []string{apt("apt")}, nil, 1},
		{"the same", []string{apt("apt")}, nil, 1},
		{"another does not matter", []string{apt("none"), "DEBIAN_MIRROR=http://127.0.0.1:9/debian"}, nil, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bazel.check(t, tc.want, append([]string{"DEBIAN_MIRROR=", "DEBIAN_SECURITY_MIRROR="}, tc.env...), "deps(@demo//:hello)")
			if requests != tc.requests {
				t.Errorf("%d requests so far, want %d", requests, tc.requests)
			}
		})
	}
}

// A mirror's user and password are in no message.
func TestDebianLogin(t *testing.T) {
	bazel := newBazel(t)
	bazel.copyRules(t)
	deb := []byte("a company's package\n")
	mirror := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "alice" || password != "s@cret%/:" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if r.URL.Path != "/debian/pool/h/hello.deb" {
			http.NotFound(w, r)
			return
		}
		w.Write(deb)
	}))
	defer mirror.Close()
	bazel.write("WORKSPACE", debianWorkspace)
	env := []string{"DEBIAN_MIRROR=" + strings.Replace(mirror.URL, "//", "//alice:s%40cret%25%2F%3A@", 1) + "/debian"}
	for path, want := range map[string][]string{
		"pool/h/hello.deb": nil,
		"pool/h/gone.deb":  {"could not fetch hello 1.0", "mirror: " + mirror.URL + "/debian", "404"},
	} {
		bazel.write("demo.lock.json", fmt.Sprintf(`{"suite": "trixie", "snapshot": "20260102T030405Z", "packages": [
			{"name": "hello", "version": "1.0", "architecture": "amd64", "path": "%s", "size": %d, "sha256": "%x"}]}`,
			path, len(deb), sha256.Sum256(deb)))
		if out := bazel.check(t, want, env, "deps(@demo//:hello)"); strings.Contains(out, "cret") {
			t.Errorf("the password is in what bazel says:\n%s", out)
		}
	}
}

// A security update comes from an archive of its own.
func TestDebianSecurity(t *testing.T) {
	bazel := newBazel(t)
	bazel.copyRules(t)
	deb := []byte("a safe package\n")
	mirror := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/debian-security/20260102T030405Z/pool/updates/main/h/hello_1+b~1.deb" {
			http.NotFound(w, r)
			return
		}
		w.Write(deb)
	}))
	defer mirror.Close()
	bazel.write("WORKSPACE", debianWorkspace)
	bazel.write("none/x", "")
	for i, tc := range []struct {
		name, main, security string
		want                 []string
	}{
		{name: "none known", main: mirror.URL, want: []string{"fetching hello: no mirror of the archive debian-security is known", "export DEBIAN_SECURITY_MIRROR="}},
		{name: "without the package", main: mirror.URL + "/debian", want: []string{"could not fetch hello 1.1", "mirror: " + mirror.URL + "/debian-security", "set DEBIAN_SECURITY_MIRROR to"}},
		{name: "next to the main one", main: mirror.URL + "/debian/{snapshot}"},
		{name: "elsewhere", main: "http://127.0.0.1:9/debian", security: mirror.URL + "/debian-security/{snapshot}"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			// Another version, so that it is fetched again.
			bazel.write("demo.lock.json", fmt.Sprintf(`{"suite": "trixie", "updates": ["trixie-security"], "snapshot": "20260102T030405Z", "packages": [
				{"name": "hello", "version": "1.%d", "architecture": "amd64", "archive": "debian-security",
				 "path": "pool/updates/main/h/hello_1+b~1.deb", "size": %d, "sha256": "%x"}]}`, i, len(deb), sha256.Sum256(deb)))
			bazel.check(t, tc.want, []string{
				"APT_ETC=" + filepath.Join(bazel.workspace, "none"), "DEBIAN_MIRROR=" + tc.main, "DEBIAN_SECURITY_MIRROR=" + tc.security,
			}, "deps(@demo//:hello)")
		})
	}
}

func TestGoModule(t *testing.T) {
	goCommand := needGo(t)
	bazel := newBazel(t)
	bazel.copyRules(t)
	proxy := t.TempDir()
	sum := publish(t, proxy, "example.org/demo", map[string]string{"go.mod": "module example.org/demo\n", "hello.txt": "hello\n"})
	gone := filepath.Join(t.TempDir(), "gone")
	changed := []string{"example.org/demo@v1.0.0 as it was published", "the files in Go's module cache were changed", "locked: " + sum, "there:  "}

	for _, tc := range []struct {
		name, proxy, sum string
		change           func(dir string) error // what becomes of the module in the cache before Bazel asks for it
		want             []string
	}{
		{name: "right", proxy: proxy, sum: sum},
		{name: "right, from the cache", proxy: proxy, sum: sum, change: func(string) error { return nil }},
		{
			name: "wrong hash in the lock", proxy: proxy, sum: "h1:AAAA",
			want: []string{"example.org/demo@v1.0.0 has the wrong hash", "locked:  h1:AAAA", "fetched: " + sum},
		},
		{
			name: "the proxy does not serve it", proxy: gone, sum: "h1:BBBB",
			want: []string{"fetching example.org/demo@v1.0.0 through GOPROXY=file://" + gone},
		},
		{name: "a file added in the cache", proxy: proxy, sum: sum, want: changed, change: func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "new.txt"), nil, 0o644)
		}},
		{name: "a file changed in the cache", proxy: proxy, sum: sum, want: changed, change: func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "hello.txt"), []byte("bye\n"), 0o644)
		}},
		{name: "a link in the cache", proxy: proxy, sum: sum, want: []string{changed[0], "there:  ./link is neither a file nor a directory"}, change: func(dir string) error {
			return os.Symlink("hello.txt", filepath.Join(dir, "link"))
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bazel.write("WORKSPACE", fmt.Sprintf(goWorkspace, tc.sum))
			cache := t.TempDir()
			env := moduleEnv(tc.proxy, cache)
			if tc.change != nil {
				fill(t, goCommand, env, "example.org/demo@v1.0.0")
				if err := tc.change(filepath.Join(cache, "example.org/demo@v1.0.0")); err != nil {
					t.Fatal(err)
				}
			}
			bazel.check(t, tc.want, env, "@demo//:hello.txt")
		})
	}
}

// A toolchain that a go command has switched to has files more in the module cache.
func TestGoToolchain(t *testing.T) {
	goCommand := needGo(t)
	bazel := newBazel(t)
	bazel.copyRules(t)
	proxy := t.TempDir()
	release := "go1.999.0"
	version := "v0.0.1-" + release + "." + runtime.GOOS + "-" + runtime.GOARCH
	sum := publishVersion(t, proxy, "golang.org/toolchain", version, map[string]string{
		"go.mod":          "module golang.org/toolchain\n",
		"hello.txt":       "hello\n",
		"bin/go":          "#!/bin/sh\necho another go\n",
		"bin/gofmt":       "",
		"lib/x":           "",
		"pkg/tool/x":      "",
		"src/_go.mod":     "module std\n",
		"src/cmd/_go.mod": "module cmd\n",
	})
	toolchain := strings.NewReplacer("example.org/demo", "golang.org/toolchain", "v1.0.0", version)
	bazel.write("WORKSPACE", fmt.Sprintf(toolchain.Replace(goWorkspace), sum))
	changed := []string{"golang.org/toolchain@" + version + " as it was published", "locked: " + sum}

	for name, tc := range map[string]struct {
		change func(dir string) error
		want   []string
	}{
		"used": {func(string) error { return nil }, nil},
		"a copy changed": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "src/go.mod"), []byte("module other\n"), 0o644)
		}, changed},
		"a go.mod that is no copy": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "bin/go.mod"), []byte("module std\n"), 0o644)
		}, changed},
	} {
		t.Run(name, func(t *testing.T) {
			cache := t.TempDir()
			env := moduleEnv(proxy, cache)
			use := exec.Command(goCommand, "version")
			use.Dir = t.TempDir()
			use.Env = append(append(os.Environ(), env...), "GONOSUMDB=*", "GOTOOLCHAIN="+release, "GOWORK=off")
			if out, err := use.CombinedOutput(); err != nil || !strings.Contains(string(out), "another go") {
				t.Fatalf("%s: %v\n%s", use, err, out)
			}
			dir := filepath.Join(cache, "golang.org/toolchain@"+version)
			if _, err := os.Stat(filepath.Join(dir, "src/cmd/go.mod")); err != nil {
				t.Fatal("the go command leaves no copies any more: ", err)
			}
			if err := tc.change(dir); err != nil {
				t.Fatal(err)
			}
			bazel.check(t, tc.want, env, "@demo//:hello.txt")
		})
	}
}

const vendorWorkspace = `workspace(name = "dind_cluster")
load("//rules:go.bzl", "go_module")
go_module(
    name = "demo",
    files = {"BUILD.bazel": 'exports_files(["vendor/example.org/dep/dep.go"])'},
    module = "example.org/demo",
    sum = "%s",
    vendor = True,
    version = "v1.0.0",
)
`

// The dependencies of a module come through the same cache.
func TestVendoredModules(t *testing.T) {
	goCommand := needGo(t)
	bazel := newBazel(t)
	bazel.copyRules(t)
	proxy := t.TempDir()
	const depMod = "module example.org/dep\n"
	depSum := publish(t, proxy, "example.org/dep", map[string]string{"go.mod": depMod, "dep.go": "package dep\n"})
	depModSum, err := dirhash.Hash1([]string{"go.mod"}, func(string) (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(depMod)), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{
		"go.mod":  "module example.org/demo\n\ngo 1.21\n\nrequire example.org/dep v1.0.0\n",
		"go.sum":  "example.org/dep v1.0.0 " + depSum + "\nexample.org/dep v1.0.0/go.mod " + depModSum + "\n",
		"demo.go": "package demo\n\nimport _ \"example.org/dep\"\n",
	}
	bazel.write("WORKSPACE", fmt.Sprintf(vendorWorkspace, publish(t, proxy, "example.org/demo", files)))
	target := "@demo//:vendor/example.org/dep/dep.go"

	for name, change := range map[string]func(dir string) error{
		"right": nil,
		"a file added": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "new.go"), []byte("package dep\n"), 0o644)
		},
		"a file changed": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "dep.go"), []byte("package dep // changed\n"), 0o644)
		},
	} {
		t.Run(name, func(t *testing.T) {
			cache := t.TempDir()
			env := moduleEnv(proxy, cache)
			fill(t, goCommand, env, "example.org/dep@v1.0.0")
			var want []string
			if change != nil {
				if err := change(filepath.Join(cache, "example.org/dep@v1.0.0")); err != nil {
					t.Fatal(err)
				}
				want = []string{"the dependencies of example.org/demo: go mod verify", "example.org/dep v1.0.0: dir has been modified"}
			}
			bazel.check(t, want, env, target)
		})
	}
}

// The hash of files that lie unpacked is the one that the go command computes of an archive.
func TestDirHash(t *testing.T) {
	run := func(dir string) (string, error) {
		out, err := exec.Command("bash", "private/go/dirhash.sh", dir, "example.org/Demo@v1.0.0-pre+incompatible").CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	want := func(dir string) string {
		sum, err := dirhash.HashDir(dir, "example.org/Demo@v1.0.0-pre+incompatible", dirhash.Hash1)
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	dir := t.TempDir()
	same := func(what string) {
		t.Helper()
		if got, err := run(dir); err != nil || got != want(dir) {
			t.Errorf("%s: %s, %v; want %s", what, got, err, want(dir))
		}
	}
	// Names that sort differently with and without directories, and in locales; a hash with bytes
	// of all kinds.
	for i, name := range []string{
		"a", "a.b", "a/b", "a-b", "B/c", "b", "with space", "-option", "ä.txt", "*", "$x", "'quoted'", "x/.hidden", "x/y/z/deep",
	} {
		file := filepath.Join(dir, name)
		if name == "a" {
			file += ".first"
		}
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, bytes.Repeat([]byte{byte(i), 0, '\n'}, i), 0o644); err != nil {
			t.Fatal(err)
		}
		same(name)
	}
	for i := range 40 {
		if err := os.WriteFile(filepath.Join(dir, "b"), fmt.Append(nil, i), 0o644); err != nil {
			t.Fatal(err)
		}
		same(fmt.Sprint("content ", i))
	}
	if err := os.Symlink("b", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if got, err := run(dir); err == nil || !strings.Contains(got, "./link is neither a file nor a directory") {
		t.Errorf("a link: %q, %v", got, err)
	}
	if out, err := run(filepath.Join(dir, "gone")); err == nil {
		t.Errorf("a directory that is not there has the hash %s", out)
	}
}

// needGo returns the go command; there is none in some environments.
func needGo(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("go")
	if err != nil {
		t.Skip("no go command on PATH")
	}
	return path
}

// moduleEnv has modules come from a proxy in a directory into an empty cache.
func moduleEnv(proxy, cache string) []string {
	return []string{
		"GOPROXY=file://" + proxy,
		// -modcacherw: so that the test can change its directory, and remove it.
		"GOFLAGS=-modcacherw",
		"GOMODCACHE=" + cache,
	}
}

// fill brings a module into the cache.
func fill(t *testing.T, goCommand string, env []string, module string) {
	t.Helper()
	cmd := exec.Command(goCommand, "mod", "download", module)
	cmd.Dir = t.TempDir()
	cmd.Env = append(append(os.Environ(), env...), "GONOSUMDB=*", "GOTOOLCHAIN=local", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
}

// check makes Bazel fetch what expression needs: it succeeds where want is empty, and else says all
// that want lists. What it says is the result.
func (b *bazel) check(t *testing.T, want, env []string, expression string) string {
	t.Helper()
	args := []string{"query", "--noenable_bzlmod", "--enable_workspace", "--repository_cache="}
	out, err := b.run(env, append(args, expression)...)
	if len(want) == 0 {
		if err != nil {
			t.Fatalf("bazel: %v\n%s", err, out)
		}
		return out
	}
	if err == nil {
		t.Fatalf("bazel accepted it:\n%s", out)
	}
	for _, w := range want {
		if !strings.Contains(out, w) {
			t.Errorf("bazel does not say %q:\n%s", w, out)
		}
	}
	return out
}

// publish puts version v1.0.0 of a module into a proxy's directory and gives its hash.
func publish(t *testing.T, proxy, module string, files map[string]string) (sum string) {
	t.Helper()
	return publishVersion(t, proxy, module, "v1.0.0", files)
}

// publishVersion puts a module into a proxy's directory, as `go help goproxy` describes it, and
// gives its hash.
func publishVersion(t *testing.T, proxy, module, version string, files map[string]string) (sum string) {
	t.Helper()
	var archive bytes.Buffer
	w := zip.NewWriter(&archive)
	var names []string
	contents := map[string]string{}
	for name, content := range files {
		name = module + "@" + version + "/" + name
		f, err := w.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(f, content)
		names = append(names, name)
		contents[name] = content
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	sum, err := dirhash.Hash1(names, func(name string) (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(contents[name])), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	versions := filepath.Join(proxy, module, "@v")
	if err := os.MkdirAll(versions, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"list":            version + "\n",
		version + ".info": `{"Version":"` + version + `","Time":"2026-01-02T03:04:05Z"}`,
		version + ".mod":  files["go.mod"],
		version + ".zip":  archive.String(),
	} {
		if err := os.WriteFile(filepath.Join(versions, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return sum
}
