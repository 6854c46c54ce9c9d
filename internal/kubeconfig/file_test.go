package kubeconfig

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sigs.k8s.io/yaml"
)

// theirs is a user's file, with fields that this package does not know.
const theirs = `apiVersion: v1
kind: Config
preferences:
  colors: true
clusters:
- name: work
  cluster:
    server: https://work:6443
    tls-server-name: tls.work
contexts:
- name: work
  context: {cluster: work, user: me, namespace: mine, extensions: [{name: x, extension: {size: 1}}]}
users:
- name: me
  user:
    exec: {apiVersion: client.authentication.k8s.io/v1, command: login, args: ["1"]}
current-context: work
`

// ours is what a cluster prints.
const ours = `apiVersion: v1
kind: Config
clusters:
- name: kubernetes
  cluster: {server: "https://172.30.0.2:6443", certificate-authority-data: QUJD}
contexts:
- name: kubernetes-admin@kubernetes
  context: {cluster: kubernetes, user: kubernetes-admin}
users:
- name: kubernetes-admin
  user: {client-certificate-data: REVG, client-key-data: R0hJ}
current-context: kubernetes-admin@kubernetes
`

func single(t *testing.T, name string) Config {
	t.Helper()
	c, err := Parse([]byte(ours))
	if err != nil {
		t.Fatal(err)
	}
	c.Name, c.Server = name, "https://127.0.0.1:40001"
	return c
}

func write(t *testing.T, path, content string, mode fs.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// same compares YAML by value.
func same(t *testing.T, got, want string) {
	t.Helper()
	g, err := yaml.YAMLToJSON([]byte(got))
	if err != nil {
		t.Fatal(err)
	}
	w, err := yaml.YAMLToJSON([]byte(want))
	if err != nil {
		t.Fatal(err)
	}
	if string(g) != string(w) {
		t.Errorf("got\n%s\nwant\n%s", g, w)
	}
}

func TestAddToNoFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "config")
	if err := At(path).Add(t.Context(), single(t, "dind-cluster")); err != nil {
		t.Fatal(err)
	}
	same(t, read(t, path), `
apiVersion: v1
kind: Config
clusters:
- name: dind-cluster
  cluster: {server: "https://127.0.0.1:40001", certificate-authority-data: QUJD}
contexts:
- name: dind-cluster
  context: {cluster: dind-cluster, user: dind-cluster}
users:
- name: dind-cluster
  user: {client-certificate-data: REVG, client-key-data: R0hJ}
current-context: dind-cluster
`)
	checkMode(t, path)
	checkTidy(t, filepath.Dir(path), "config")
}

func TestAddAndRemoveKeepTheRest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config")
	write(t, path, theirs, 0o644)
	for range 2 { // again: replaces, does not double
		if err := At(path).Add(t.Context(), single(t, "a")); err != nil {
			t.Fatal(err)
		}
	}
	checkMode(t, path)
	got := read(t, path)
	for text, want := range map[string]int{"name: a\n": 3, "name: work\n": 2, "colors: true": 1, "namespace: mine": 1, "command: login": 1, "size: 1": 1, "current-context: a": 1} {
		if n := strings.Count(got, text); n != want {
			t.Errorf("%q is there %d times, want %d:\n%s", text, n, want, got)
		}
	}
	found, err := At(path).Remove(t.Context(), "a")
	if err != nil || !found {
		t.Fatalf("Remove: %v, %v", found, err)
	}
	same(t, read(t, path), strings.Replace(theirs, "current-context: work", `current-context: ""`, 1))

	before := read(t, path)
	found, err = At(path).Remove(t.Context(), "a")
	if err != nil || found {
		t.Errorf("second Remove: %v, %v", found, err)
	}
	if read(t, path) != before {
		t.Error("a Remove that found nothing wrote the file")
	}
}

func TestRemoveWithoutFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none", "config")
	if found, err := At(path).Remove(t.Context(), "a"); err != nil || found {
		t.Errorf("got %v, %v", found, err)
	}
	if _, err := os.Stat(filepath.Dir(path)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("made a directory to remove something from it: %v", err)
	}
}

func TestCheckChangesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "config")
	write(t, path, theirs, 0o640)
	if err := At(path).Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if read(t, path) != theirs {
		t.Error("the file changed")
	}
	checkTidy(t, dir, "config")

	none := filepath.Join(t.TempDir(), "config")
	if err := At(none).Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	checkTidy(t, filepath.Dir(none))
}

func TestSymlinkStays(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "dotfiles", "kube")
	write(t, target, theirs, 0o600)
	link := filepath.Join(dir, "config")
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	if err := At(link).Add(t.Context(), single(t, "a")); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v, %v", info, err)
	}
	if !strings.Contains(read(t, target), "current-context: a") {
		t.Error("the target did not change")
	}
}

// odd has what a program that reads values and writes them does not keep.
const odd = `# mine
apiVersion: v1
kind: Config
clusters:
- cluster:
    server: https://work:6443 # over the VPN
    extensions:
    - name: x
      extension: {id: 9007199254740993, mask: 0123, big: 12345678901234567890123, float: 1.50, yes: no, when: 2026-01-02}
  name: work
users:
- &me
  name: me
  user:
    token: 0123
    exec:
      command: 'login'
      args:
      - "0123"
      - |
        two
        lines
contexts:
- name: work
  context: {cluster: work, user: me}
current-context: "work"
---
# another document
kind: Other
list: [&me2 0777, *me2]
`

func TestKeepsWhatIsWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config")
	write(t, path, odd, 0o600)
	if err := At(path).Add(t.Context(), single(t, "a")); err != nil {
		t.Fatal(err)
	}
	added := read(t, path)
	for _, line := range []string{"    certificate-authority-data: QUJD\n", "- context:\n    cluster: a\n    user: a\n  name: a\n", "current-context: a\n"} {
		if !strings.Contains(added, line) {
			t.Errorf("%q is not in\n%s", line, added)
		}
	}
	if found, err := At(path).Remove(t.Context(), "a"); err != nil || !found {
		t.Fatalf("got %v, %v", found, err)
	}
	want := strings.Replace(odd, `current-context: "work"`, `current-context: ""`, 1)
	if got := read(t, path); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// Lists that begin empty, or not at all, are written as kubectl does.
func TestLayout(t *testing.T) {
	const want = `apiVersion: v1
kind: Config
clusters:
- cluster:
    certificate-authority-data: QUJD
    server: https://127.0.0.1:40001
  name: a
contexts:
- context:
    cluster: a
    user: a
  name: a
users:
- name: a
  user:
    client-certificate-data: REVG
    client-key-data: R0hJ
current-context: a
`
	for _, before := range []string{
		"apiVersion: v1\nkind: Config\nclusters: []\ncontexts: null\nusers: []\ncurrent-context: \"\"\n",
		"apiVersion: v1\nkind: Config\nclusters: []\ncontexts:\nusers:\ncurrent-context: b\n",
	} {
		path := filepath.Join(t.TempDir(), "config")
		write(t, path, before, 0o600)
		if err := At(path).Add(t.Context(), single(t, "a")); err != nil {
			t.Fatal(err)
		}
		if got := read(t, path); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	}
	for _, before := range []string{"", "{}", "---\n", "null\n", "# nothing\n"} {
		path := filepath.Join(t.TempDir(), "config")
		write(t, path, before, 0o600)
		if err := At(path).Add(t.Context(), single(t, "a")); err != nil {
			t.Fatal(err)
		}
		same(t, read(t, path), want)
		if n := strings.Count(read(t, path), "\n"); n < 15 {
			t.Errorf("%q: got %d lines\n%s", before, n, read(t, path))
		}
	}
}

// kubectl locks the path that it is given, whatever that leads to.
func TestLockOfLink(t *testing.T) {
	dir := t.TempDir()
	link, file := filepath.Join(dir, "config"), filepath.Join(dir, "dotfiles", "kube")
	write(t, file, theirs, 0o600)
	if err := os.Symlink("dotfiles/kube", link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{link, file} {
		write(t, path+".lock", "", 0o600)
		synctest.Test(t, func(t *testing.T) {
			err := At(link).Add(t.Context(), single(t, "a"))
			if err == nil || !strings.Contains(err.Error(), path+".lock") {
				t.Errorf("got %v, want an error that names the lock of %s", err, path)
			}
		})
		if err := os.Remove(path + ".lock"); err != nil {
			t.Error(err)
		}
	}
	if err := At(link).Add(t.Context(), single(t, "a")); err != nil {
		t.Fatal(err)
	}
	checkTidy(t, dir, "config", "dotfiles")
	checkTidy(t, filepath.Dir(file), "kube")
}

// A link to a file that is not there yet stays one, too.
func TestDanglingLink(t *testing.T) {
	dir := t.TempDir()
	link, file := filepath.Join(dir, "config"), filepath.Join(dir, "dotfiles", "kube")
	if err := os.Symlink("dotfiles/kube", link); err != nil {
		t.Fatal(err)
	}
	if err := At(link).Add(t.Context(), single(t, "a")); err != nil {
		t.Fatal(err)
	}
	if to, err := os.Readlink(link); err != nil || to != "dotfiles/kube" {
		t.Errorf("got %s, %v", to, err)
	}
	checkMode(t, file)
	if err := os.Symlink("loop", filepath.Join(dir, "loop")); err != nil {
		t.Fatal(err)
	}
	if err := At(filepath.Join(dir, "loop")).Add(t.Context(), single(t, "a")); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("got %v, want %v", err, syscall.ELOOP)
	}
}

func TestBad(t *testing.T) {
	for _, test := range []struct {
		name string
		make func(t *testing.T, dir string) (path string)
		want string
	}{{
		name: "not YAML",
		make: func(t *testing.T, dir string) string {
			write(t, filepath.Join(dir, "config"), "{", 0o600)
			return filepath.Join(dir, "config")
		},
		want: "did not find expected",
	}, {
		name: "not a kubeconfig",
		make: func(t *testing.T, dir string) string {
			write(t, filepath.Join(dir, "config"), "clusters: 3\n", 0o600)
			return filepath.Join(dir, "config")
		},
		want: "clusters: want a list",
	}, {
		name: "entry without a name",
		make: func(t *testing.T, dir string) string {
			write(t, filepath.Join(dir, "config"), "users: [{}]\n", 0o600)
			return filepath.Join(dir, "config")
		},
		want: "users[0]: want a name",
	}, {
		name: "twice the same",
		make: func(t *testing.T, dir string) string {
			write(t, filepath.Join(dir, "config"), "users: []\nusers: []\n", 0o600)
			return filepath.Join(dir, "config")
		},
		want: `"users" already set`,
	}, {
		name: "put together",
		make: func(t *testing.T, dir string) string {
			write(t, filepath.Join(dir, "config"), "x: &x {users: []}\n<<: *x\n", 0o600)
			return filepath.Join(dir, "config")
		},
		want: "the merge key <<",
	}, {
		name: "an alias",
		make: func(t *testing.T, dir string) string {
			write(t, filepath.Join(dir, "config"), "x: &x []\nusers: *x\n", 0o600)
			return filepath.Join(dir, "config")
		},
		want: "users: it is an alias",
	}, {
		name: "a directory",
		make: func(t *testing.T, dir string) string { return dir },
		want: "not a regular file",
	}, {
		name: "below a file",
		make: func(t *testing.T, dir string) string {
			write(t, filepath.Join(dir, "file"), "", 0o600)
			return filepath.Join(dir, "file", "config")
		},
		want: "not a directory",
	}, {
		name: "no such file system",
		// Even root cannot write here.
		make: func(t *testing.T, dir string) string { return "/proc/self/config" },
		want: "/proc/self/config",
	}} {
		t.Run(test.name, func(t *testing.T) {
			path := test.make(t, t.TempDir())
			f := At(path)
			for what, err := range map[string]error{"Check": f.Check(t.Context()), "Add": f.Add(t.Context(), single(t, "a"))} {
				if err == nil {
					t.Errorf("%s: no error", what)
				} else if !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "cannot update kubeconfig "+path) {
					t.Errorf("%s: error %q does not name the file and %q", what, err, test.want)
				}
			}
		})
	}
}

func TestReadOnly(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may write everything")
	}
	path := filepath.Join(t.TempDir(), "config")
	write(t, path, theirs, 0o400)
	if err := At(path).Check(t.Context()); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("got %v, want a permission error", err)
	}
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config")
	synctest.Test(t, func(t *testing.T) {
		write(t, path+".lock", "", 0o600)
		go func() {
			time.Sleep(4 * time.Second)
			os.Remove(path + ".lock")
		}()
		if err := At(path).Add(t.Context(), single(t, "a")); err != nil {
			t.Errorf("did not wait for the lock: %v", err)
		}

		write(t, path+".lock", "", 0o600)
		start := time.Now()
		err := At(path).Add(t.Context(), single(t, "a"))
		if err == nil || !strings.Contains(err.Error(), path+".lock") || time.Since(start) != 5*time.Second {
			t.Errorf("got %v after %v, want an error that names the lock after 5 s", err, time.Since(start))
		}
		if _, err := os.Stat(path + ".lock"); err != nil {
			t.Errorf("removed another's lock: %v", err)
		}
	})
}

func TestParallelAdds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config")
	names := []string{"a", "b", "c", "d", "e", "f"}
	var wg sync.WaitGroup
	for _, name := range names {
		config := single(t, name)
		wg.Go(func() {
			if err := At(path).Add(t.Context(), config); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	got := read(t, path)
	for _, name := range names {
		if strings.Count(got, "name: "+name+"\n") != 3 {
			t.Errorf("cluster %s got lost:\n%s", name, got)
		}
	}
}

func TestDefault(t *testing.T) {
	home := t.TempDir()
	one, two := filepath.Join(home, "one"), filepath.Join(home, "two")
	t.Setenv("HOME", home)
	for _, test := range []struct {
		name, env, exists, want string
	}{
		{name: "home", want: filepath.Join(home, ".kube", "config")},
		{name: "only empty parts", env: string(filepath.ListSeparator), want: filepath.Join(home, ".kube", "config")},
		{name: "one", env: one, want: one},
		{name: "none exists", env: one + ":" + two, want: two},
		{name: "first exists", env: one + ":" + two, exists: one, want: one},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("KUBECONFIG", test.env)
			if test.exists != "" {
				write(t, test.exists, "", 0o600)
			}
			f, err := Default()
			if err != nil {
				t.Fatal(err)
			}
			if f.Path() != test.want {
				t.Errorf("got %s, want %s", f.Path(), test.want)
			}
		})
	}
}

func TestRelativePathUnderBazelRun(t *testing.T) {
	t.Setenv("BUILD_WORKING_DIRECTORY", "/where/the/user/is")
	if got, want := At("config").Path(), "/where/the/user/is/config"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := At("/abs").Path(), "/abs"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(theirs))
	f.Add([]byte(ours))
	f.Add([]byte(odd))
	f.Add([]byte("clusters: [1]"))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parseText(data)
		if err != nil {
			return
		}
		had := c.remove("fuzz")
		if err := c.merge(single(t, "fuzz")); err != nil {
			t.Fatalf("it took what it does not merge into: %v", err)
		}
		out, err := c.encode()
		if err != nil {
			return
		}
		again, err := parseText(out)
		if err != nil {
			t.Fatal(err)
		}
		if found := again.remove("fuzz"); !found {
			t.Fatal("what was added is not there")
		}
		if had {
			return
		}
		// The lists and the rest mean what they did.
		var before, after map[string]any
		yaml.Unmarshal(data, &before)
		out, err = again.encode()
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal(out, &after); err != nil {
			t.Fatal(err)
		}
		for key, value := range before {
			switch key {
			case "apiVersion", "kind", "current-context":
			default:
				if !reflect.DeepEqual(after[key], value) && value != nil {
					t.Errorf("%s is %v, was %v", key, after[key], value)
				}
			}
		}
	})
}

func checkMode(t *testing.T, path string) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o600 {
		t.Errorf("mode %v, want 0600", info.Mode())
	}
}

// checkTidy wants nothing but the named files in a directory: no lock, no temporary file.
func checkTidy(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("the directory has %q, want %q", got, want)
	}
}
