package debian

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestReadList(t *testing.T) {
	file := filepath.Join(t.TempDir(), "demo.Packages")
	if err := os.WriteFile(file, []byte("# a list\nbash\n\n  dash # a shell\n!containerd\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	wanted, provided, err := readList(file)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(wanted, []string{"bash", "dash"}) || !slices.Equal(provided, []string{"containerd"}) {
		t.Errorf("wanted %q, provided %q", wanted, provided)
	}
	if err := os.WriteFile(file, []byte("# nothing\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := readList(file); err == nil {
		t.Error("an empty list is no error")
	}
}

// Every lock holds what its list asks for, and nothing that the repository rules could not check.
func TestLocks(t *testing.T) {
	directory := filepath.Join("..", "..", "..", "third_party", "debian")
	lists, err := filepath.Glob(filepath.Join(directory, "*.packages"))
	if err != nil || len(lists) == 0 {
		t.Fatalf("no lists in %s: %v", directory, err)
	}
	for _, list := range lists {
		name := strings.TrimSuffix(list, ".packages")
		data, err := os.ReadFile(name + ".lock.json")
		if err != nil {
			t.Error(err)
			continue
		}
		var lock lockFile
		if err := json.Unmarshal(data, &lock); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		has := map[string]bool{}
		for _, p := range lock.Packages {
			has[p.Name] = true
			if !sha256Form.MatchString(p.SHA256) || p.Size <= 0 || p.Version == "" {
				t.Errorf("%s: entry of %s is not complete", filepath.Base(name), p.Name)
			}
			if want := map[string]string{"": "pool/main/", securityArchive: "pool/updates/main/"}[p.Archive]; want == "" || !strings.HasPrefix(p.Path, want) {
				t.Errorf("%s: path %q of %s is not one of archive %q", filepath.Base(name), p.Path, p.Name, p.Archive)
			}
		}
		wanted, provided, err := readList(list)
		if err != nil {
			t.Error(err)
		}
		for _, w := range wanted {
			if !has[w] {
				t.Errorf("%s asks for %s, which its lock does not hold: run scripts/lock debian %s", filepath.Base(list), w, filepath.Base(name))
			}
		}
		for _, p := range provided {
			if has[p] {
				t.Errorf("%s provides %s itself, but its lock holds it", filepath.Base(list), p)
			}
		}
	}
}

// archive is a Debian archive of one package, in a directory as mirrors serve it.
type archive struct {
	suite, date, packages string
}

func (a archive) write(t *testing.T, root string) {
	t.Helper()
	index := "main/binary-amd64/Packages"
	release := fmt.Sprintf("Suite: %s\nCodename: %s\nDate: %s\nArchitectures: amd64\nComponents: main\nSHA256:\n %x %d %s\n",
		a.suite, a.suite, a.date, sha256.Sum256([]byte(a.packages)), len(a.packages), index)
	for path, text := range map[string]string{"Release": release, index: a.packages} {
		file := filepath.Join(root, "dists", a.suite, path)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func record(name, version, depends, path string, hash byte) string {
	return fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: amd64\nMaintainer: none\nDepends: %s\nDescription: x\nFilename: %s\nSize: 7\nSHA256: %s\n\n",
		name, version, depends, path, strings.Repeat(string(hash), 64))
}

// TestRun runs the real apt against mirrors of its own.
func TestRun(t *testing.T) {
	if _, err := exec.LookPath("apt-get"); err != nil {
		t.Skip("no apt-get on PATH")
	}
	config := filepath.Join(t.TempDir(), "apt.conf")
	if err := os.WriteFile(config, []byte("Acquire::Retries \"0\";\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("APT_CONFIG", config)
	var (
		stable = archive{"stable", "Sat, 03 Jan 2026 10:00:00 UTC",
			record("hello", "1:1.0+b1", "libhello, gone", "pool/main/h/hello/hello_1.0+b1_amd64.deb", 'a') +
				record("libhello", "2.0~rc1", "", "pool/main/h/hello/libhello_2.0~rc1_amd64.deb", 'b') +
				record("gone", "1", "", "pool/main/g/gone/gone_1_amd64.deb", 'c')}
		updates  = archive{"stable-updates", "Sun, 04 Jan 2026 10:00:00 UTC", ""}
		security = archive{"stable-security", "Mon, 5 Jan 2026 11:12:13 UTC",
			record("libhello", "2.0-1+deb99u1", "", "pool/updates/main/h/hello/libhello_2.0-1+deb99u1_amd64.deb", 'd')}
		sid = archive{"sid", "Tue, 06 Jan 2026 10:00:00 UTC", stable.packages}
	)
	hello := locked{Name: "hello", Version: "1:1.0+b1", Architecture: "amd64", Path: "pool/main/h/hello/hello_1.0+b1_amd64.deb", Size: 7, SHA256: strings.Repeat("a", 64)}
	lib := locked{Name: "libhello", Version: "2.0~rc1", Architecture: "amd64", Path: "pool/main/h/hello/libhello_2.0~rc1_amd64.deb", Size: 7, SHA256: strings.Repeat("b", 64)}
	safeLib := locked{Name: "libhello", Version: "2.0-1+deb99u1", Architecture: "amd64", Archive: securityArchive, Path: "pool/updates/main/h/hello/libhello_2.0-1+deb99u1_amd64.deb", Size: 7, SHA256: strings.Repeat("d", 64)}

	for _, tt := range []struct {
		name     string
		suite    string
		old      string // the present lock
		main     []archive
		security []archive
		unknown  bool   // no security mirror is known
		down     string // the mirror that refuses connections
		want     lockFile
		log      []string
		err      []string
	}{
		{name: "with updates", suite: "stable", main: []archive{stable, updates}, security: []archive{security},
			want: lockFile{Suite: "stable", Updates: []string{"stable-updates", "stable-security"}, Snapshot: "20260105T111213Z", Packages: []locked{hello, safeLib}},
			log:  []string{"2 packages of stable + stable-updates + stable-security"}},
		{name: "the present lock's suite", old: `{"suite": "stable"}`, main: []archive{stable, updates}, security: []archive{security},
			want: lockFile{Suite: "stable", Updates: []string{"stable-updates", "stable-security"}, Snapshot: "20260105T111213Z", Packages: []locked{hello, safeLib}}},
		{name: "a mirror without updates", suite: "stable", main: []archive{stable},
			want: lockFile{Suite: "stable", Snapshot: "20260103T100000Z", Packages: []locked{hello, lib}},
			log:  []string{"/debian has no suite stable-updates: locking without it", "/debian-security has no suite stable-security: locking without it"}},
		{name: "no security mirror known", suite: "stable", main: []archive{stable, updates}, unknown: true,
			want: lockFile{Suite: "stable", Updates: []string{"stable-updates"}, Snapshot: "20260104T100000Z", Packages: []locked{hello, lib}},
			log:  []string{"no security archive is known", "DEBIAN_SECURITY_MIRROR"}},
		{name: "a suite that is updated itself", suite: "sid", main: []archive{sid},
			want: lockFile{Suite: "sid", Snapshot: "20260106T100000Z", Packages: []locked{hello, lib}}},
		{name: "a security mirror that is down", suite: "stable", main: []archive{stable, updates}, down: "security", err: []string{"looking for suite stable-security", "127.0.0.1:9"}},
		{name: "a mirror that is down", suite: "stable", down: "main", err: []string{"looking for suite stable-updates", "127.0.0.1:9"}},
		{name: "no such suite", suite: "stabel", main: []archive{stable}, err: []string{"apt-get update", "/dists/stabel/", "404"}},
		{name: "a package that apt does not find", suite: "stable", main: []archive{{"stable", stable.date, record("libhello", "1", "", "pool/main/x.deb", 'a')}}, err: []string{"Unable to locate package hello"}},
		{name: "no suite", err: []string{"does not exist yet: name a suite"}},
		{name: "a broken lock", old: "{", err: []string{"reading", "lock.json"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, a := range tt.main {
				a.write(t, filepath.Join(dir, "www/debian"))
			}
			for _, a := range tt.security {
				a.write(t, filepath.Join(dir, "www/debian-security"))
			}
			files := http.FileServer(http.Dir(filepath.Join(dir, "www")))
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if user, password, _ := r.BasicAuth(); user != "alice" || password != "s@cret" {
					w.WriteHeader(http.StatusUnauthorized)
					return
				}
				files.ServeHTTP(w, r)
			}))
			defer server.Close()
			url := strings.Replace(server.URL, "//", "//alice:s%40cret@", 1)
			var log bytes.Buffer
			o := Options{
				Packages: filepath.Join(dir, "demo.Packages"), Suite: tt.suite, Output: filepath.Join(dir, "demo.lock.json"),
				Main: url + "/debian", Security: url + "/debian-security",
				Log: &log, trust: "trusted=yes",
			}
			switch {
			case tt.unknown:
				o.Security = ""
			case tt.down == "security":
				o.Security = "http://alice:s%40cret@127.0.0.1:9/debian-security"
			case tt.down == "main":
				o.Main = "http://alice:s%40cret@127.0.0.1:9/debian"
			}
			if err := os.WriteFile(o.Packages, []byte("hello\n!gone\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			if tt.old != "" {
				if err := os.WriteFile(o.Output, []byte(tt.old), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			err := Lock(t.Context(), o)
			for _, want := range tt.log {
				if !strings.Contains(log.String(), want) {
					t.Errorf("the log %q does not say %q", &log, want)
				}
			}
			if said := fmt.Sprint(&log, err); strings.Contains(said, "cret") {
				t.Errorf("the password is in %q", said)
			}
			data, readErr := os.ReadFile(o.Output)
			if tt.err != nil {
				if err == nil {
					t.Fatal("no error")
				}
				for _, want := range tt.err {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("error %q does not say %q", err, want)
					}
				}
				if string(data) != tt.old {
					t.Errorf("the lock has become %q", data)
				}
				return
			}
			if err != nil || readErr != nil {
				t.Fatal(err, readErr)
			}
			var got lockFile
			if err := json.Unmarshal(data, &got); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got\n%+v\nwant\n%+v", got, tt.want)
			}
		})
	}
}

func TestParseURIs(t *testing.T) {
	m := mirrors{main: "http://a.test/debian", security: "http://a.test/debian-security"}
	hash := strings.Repeat("0", 64)
	for line, want := range map[string]string{
		"'http://a.test/debian/pool/main/h/hello_1_all.deb' hello_1_all.deb 7":                                         "form that is not known",
		"'http://b.test/debian/pool/main/h/hello_1_all.deb' hello_1_all.deb 7 SHA256:" + hash:                          "elsewhere than its mirrors",
		"'http://a.test/debian/dists/hello_1_all.deb' hello_1_all.deb 7 SHA256:" + hash:                                "outside its mirror's pool",
		"'http://a.test/debian/pool/%zz' hello_1_all.deb 7 SHA256:" + hash:                                             "%zz",
		"'http://a.test/debian/pool/main/h/hello_1_all.deb' hello_1.deb 7 SHA256:" + hash:                              "not as NAME_VERSION_ARCHITECTURE.deb",
		"'http://a.test/debian/pool/main/h/hello_1_all.deb' hello_1_all.deb 0 SHA256:" + hash:                          "size",
		"'http://a.test/debian/pool/main/h/hello_1_all.deb' hello_1_all.deb 7 MD5Sum:d41d8cd98f00b204e9800998ecf8427e": "not a SHA-256",
	} {
		if _, err := parseURIs(line+"\n", m); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error that says %q", line, err, want)
		}
	}
}

// Whatever apt may print: what is taken from it has the form that the repository rules rely on.
func FuzzParseURIs(f *testing.F) {
	m := mirrors{main: "http://a.test/debian", security: "http://a.test/debian-security"}
	f.Add("'http://a.test/debian/pool/main/h/hello_1%2b1_all.deb' hello_1%3a1+1_all.deb 7 SHA256:" + strings.Repeat("0", 64) + "\n")
	f.Add("'http://a.test/debian-security/pool/updates/x.deb' x_1_all.deb 7 SHA256:" + strings.Repeat("a", 64) + "\n")
	f.Fuzz(func(t *testing.T, plan string) {
		packages, err := parseURIs(plan, m)
		if err != nil {
			return
		}
		for _, p := range packages {
			if p.Name == "" || p.Version == "" || p.Architecture == "" || p.Size <= 0 || len(p.SHA256) != 64 || !strings.HasPrefix(p.Path, "pool/") {
				t.Errorf("%+v", p)
			}
		}
	})
}

func TestReleaseDate(t *testing.T) {
	for release, want := range map[string]string{
		"Suite: x\nDate: Sat, 12 Sep 2026 07:55:41 UTC\n": "2026-09-12T07:55:41Z",
		"Suite: x\n":           "",
		"Date: yesterday\n":    "",
		" Date: not a field\n": "",
	} {
		got, err := releaseDate(release)
		if (err == nil) != (want != "") || err == nil && got.Format(time.RFC3339) != want {
			t.Errorf("%q: got %v, %v; want %q", release, got, err, want)
		}
	}
}
