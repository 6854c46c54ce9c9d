package elsewhere

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func write(t *testing.T, path, content string, mode fs.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

// workspace makes a workspace whose scripts/bazel is a shell script, and a place for caches.
func workspace(t *testing.T, script string) Options {
	t.Helper()
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	source := t.TempDir()
	write(t, filepath.Join(source, "WORKSPACE"), "", 0o644)
	write(t, filepath.Join(source, ".git", "HEAD"), "", 0o644)
	write(t, filepath.Join(source, "pkg", "run"), "#!/bin/sh\n", 0o755)
	write(t, filepath.Join(source, "scripts", "bazel"), "#!/bin/bash\nset -eu\n"+script, 0o755)
	for link, target := range map[string]string{"bazel-out": "/nowhere", "pkg/link": "run"} {
		if err := os.Symlink(target, filepath.Join(source, link)); err != nil {
			t.Fatal(err)
		}
	}
	return Options{Source: source, Name: "test", Log: t.TempDir()}
}

func place(t *testing.T, o Options) *Place {
	t.Helper()
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(p.Dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left: %v", p.Dir, err)
		}
	})
	return p
}

// TestSurroundings runs a program elsewhere that tells where it is.
func TestSurroundings(t *testing.T) {
	o := workspace(t, `
printf '%s\n' "$PWD" "$(umask)" "$(cat /proc/sys/kernel/hostname)" "$(date +%s)" "$(env -u TZ date +%j)" "$(date +%j)" "${TEST_TMPDIR-none}" "$DIND_CLUSTER_DOCKER" "$*" >"$OUT"
touch made; find . | sort >>"$OUT"; stat -c '%a %Y' pkg/run made >>"$OUT"`)
	out := filepath.Join(t.TempDir(), "out")
	t.Setenv("OUT", out)
	t.Setenv("TEST_TMPDIR", "/elsewhere")
	p := place(t, o)
	if err := p.Bazel(t.Context(), nil, "build", "--x", "//..."); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(strings.TrimSpace(string(text)), "\n")
	here := time.Now()
	if got[0] != p.Workspace || got[1] != "0077" || got[6] != "none" || got[7] != "off" {
		t.Errorf("folder, umask, TEST_TMPDIR and DIND_CLUSTER_DOCKER are %q", []string{got[0], got[1], got[6], got[7]})
	}
	if !strings.HasPrefix(got[8], "--output_base="+p.base+" ") || !strings.HasSuffix(got[8], " --x //...") {
		t.Errorf("arguments %q", got[8])
	}
	if got[5] == fmt.Sprintf("%03d", here.YearDay()) {
		t.Errorf("the day by TZ is day %s, as here", got[5])
	}
	if slices.Contains(p.Differs, "the host name") {
		if got[2] != "another-host" {
			t.Errorf("host name %q", got[2])
		}
		if _, err := os.Stat("/etc/localtime"); err == nil && got[4] != got[5] {
			t.Errorf("the day by /etc/localtime is day %s, want %s", got[4], got[5])
		}
	} else if os.Getuid() == 0 {
		t.Error("root has no namespaces of its own here")
	}
	want := []string{".", "./WORKSPACE", "./made", "./pkg", "./pkg/link", "./pkg/run", "./scripts", "./scripts/bazel", "700 1000000000"}
	if files := got[9 : len(got)-1]; !slices.Equal(files, want) {
		t.Errorf("files %q, want %q", files, want)
	}
	if !strings.HasPrefix(got[len(got)-1], "600 ") {
		t.Errorf("a new file is %s", got[len(got)-1])
	}
	host, err := os.Hostname()
	if err != nil || host == "another-host" {
		t.Errorf("the host name here is %s, %v", host, err)
	}
}

func TestZone(t *testing.T) {
	for _, zone := range []*time.Location{time.UTC, time.FixedZone("", 14*3600), time.FixedZone("", -12*3600), time.FixedZone("", 5*3600+1800)} {
		for minute := range 24 * 60 {
			now := time.Date(2026, 3, 1, 0, minute, 0, 0, zone)
			offset := otherZone(now)
			there, err := time.LoadLocationFromTZData("there", zoneData(offset))
			if err != nil {
				t.Fatal(err)
			}
			if name, got := now.In(there).Zone(); got != offset || name != "ELSE" {
				t.Fatalf("zone %s, %d, want %d", name, got, offset)
			}
			if now.In(there).Day() == now.Day() {
				t.Fatalf("at %s it is the same day there, %s", now, now.In(there))
			}
		}
	}
}

func TestErrors(t *testing.T) {
	t.Run("a build that fails", func(t *testing.T) {
		p := place(t, workspace(t, "seq 1000 >&2; exit 7"))
		err := p.Bazel(t.Context(), nil, "build")
		if err == nil {
			t.Fatal("no error")
		}
		for _, want := range []string{"bazel build in " + p.Workspace, "exit status 7", "\n961\n", "\n1000\n", "bazel-test.log"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%v: no %q", err, want)
			}
		}
		if strings.Contains(err.Error(), "\n960\n") {
			t.Error("it shows all of it")
		}
	})
	t.Run("a test that is ended", func(t *testing.T) {
		p := place(t, workspace(t, `trap 'echo asked; exit 8' TERM; echo here; sleep 60 & wait`))
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() {
			for {
				if text, _ := os.ReadFile(p.log); len(text) > 0 {
					cancel(errors.New("enough"))
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
		}()
		begin := time.Now()
		err := p.Bazel(ctx, nil, "build")
		if err == nil || !strings.Contains(err.Error(), "enough") || !strings.Contains(err.Error(), "asked") || time.Since(begin) > 20*time.Second {
			t.Errorf("%v after %s", err, time.Since(begin))
		}
	})
	t.Run("two at once", func(t *testing.T) {
		o := workspace(t, "")
		place(t, o)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), "another test builds in") {
			t.Errorf("%v", err)
		}
	})
	t.Run("a full disk", func(t *testing.T) {
		o := workspace(t, "")
		o.Free = 1 << 60
		_, err := New(o)
		if err == nil || !strings.Contains(err.Error(), "XDG_CACHE_HOME") {
			t.Errorf("%v", err)
		}
		place(t, Options{Source: o.Source, Name: o.Name, Log: o.Log}) // Its lock is free again.
	})
}

// TestLeft has a place in the room of one that was killed: its files are gone, and its server too.
func TestLeft(t *testing.T) {
	o := workspace(t, "")
	base := filepath.Join(os.Getenv("XDG_CACHE_HOME"), "dind-cluster", "elsewhere", "test", "base")
	// What looks like the server: a process with its output base.
	server := exec.Command("/bin/sh", "-c", "read x", "--output_base="+base)
	in, err := server.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(base, "server", "server.pid.txt"), fmt.Sprint(server.Process.Pid), 0o644)
	write(t, filepath.Join(base, "external", "a", "b"), "", 0o644)
	if err := os.Chmod(filepath.Join(base, "external", "a"), 0o500); err != nil {
		t.Fatal(err)
	}
	p := place(t, o)
	if _, err := os.Lstat(base); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is left: %v", base, err)
	}
	err = server.Wait()
	if status, ok := server.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		t.Errorf("the server ended with %v", err)
	}
	// Another process that has got the number since.
	write(t, filepath.Join(p.base, "server", "server.pid.txt"), fmt.Sprint(os.Getpid()), 0o644)
	if err := p.clear(); err != nil {
		t.Error(err)
	}
}

func TestChanged(t *testing.T) {
	o := workspace(t, "")
	p := place(t, o)
	if changed, err := p.Changed(); err != nil || changed != "" {
		t.Errorf("changed %q, %v", changed, err)
	}
	write(t, filepath.Join(o.Source, "new"), "", 0o644)
	write(t, filepath.Join(o.Source, "pkg", "run"), "other", 0o755)
	write(t, filepath.Join(o.Source, ".git", "index"), "", 0o644)
	os.Remove(filepath.Join(o.Source, "WORKSPACE"))
	changed, err := p.Changed()
	for _, want := range []string{": WORKSPACE\n", ": new\n", "/pkg/run differ\n"} {
		if err != nil || !strings.Contains(changed, want) || strings.Count(changed, "\n") != 3 {
			t.Errorf("changed %q, %v; want %q", changed, err, want)
		}
	}
	if _, err := (&Place{source: "/no/such/directory", Workspace: p.Workspace}).Changed(); err == nil {
		t.Error("no error without sources")
	}
}

func TestDifference(t *testing.T) {
	archive := func(entries ...tar.Header) string {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, h := range entries {
			h.Size = int64(len(h.Name))
			if err := w.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
			fmt.Fprint(w, strings.ToUpper(h.Name))
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	one := archive(tar.Header{Name: "a", Mode: 0o644}, tar.Header{Name: "bin/b", Mode: 0o755})
	for name, c := range map[string]struct{ first, second, want string }{
		"a file's content":   {one, strings.Replace(one, "BIN/B", "other", 1), "entry 2:"},
		"a file's mode":      {one, archive(tar.Header{Name: "a", Mode: 0o600}, tar.Header{Name: "bin/b", Mode: 0o755}), "Mode:384"},
		"an entry less":      {one, archive(tar.Header{Name: "a", Mode: 0o644}), "(the end)"},
		"padding":            {one, one + "x", fmt.Sprintf("byte %d:", len(one))},
		"a field of a JSON":  {`{"a":1,"created":"2001"}`, `{"a":1,"created":"2026"}`, "byte 20:\n  \"{\\\"a\\\":1,\\\"created\\\":\\\"2001"},
		"nothing":            {one, one, "none"},
		"what is no archive": {"", "x", "byte 0:"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			first, second := filepath.Join(dir, "first"), filepath.Join(dir, "second")
			write(t, first, c.first, 0o644)
			write(t, second, c.second, 0o644)
			if got, err := Difference(first, second); err != nil || !strings.Contains(got, c.want) {
				t.Errorf("%s, %v; want %s", got, err, c.want)
			}
		})
	}
	if _, err := Difference("/no/such/file", os.Args[0]); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// result is an ActionResult of the remote execution API with output files, as protobuf encodes it.
func result(outputs ...string) string {
	var b []byte
	for _, o := range outputs {
		digest := "\x12\x44\x0a\x40" + strings.Repeat("0", 64) + "\x10\x20"
		b = append(b, 0x12, byte(2+len(o)+len(digest)), 0x0a, byte(len(o)))
		b = append(append(b, o...), digest...)
	}
	return string(b)
}

func TestUpstreamCache(t *testing.T) {
	dir := t.TempDir()
	key := func(c string) string { return strings.Repeat(c, 64) }
	put := func(kind, key, content string) { write(t, filepath.Join(dir, kind, key[:2], key), content, 0o644) }
	upstream := result("bazel-out/k8/bin/external/x/y/z.a", "bazel-out/k8/bin/external/x/y/z.x")
	put("ac", key("1"), upstream)
	put("ac", key("2"), result("bazel-out/k8/bin/tools/x.a", "bazel-out/k8/bin/tools/x.x"))
	put("ac", key("3"), result("bazel-out/k8/bin/external/x/y/z.a", "bazel-out/k8/bin/external/x/program"))
	put("ac", key("4"), "\xff")
	put("ac", key("5"), result("bazel-out/k8/bin/external/../tools/x.a"))
	put("cas", key("a"), "content")
	c := ServeUpstream(dir)
	defer c.Close()
	for _, tt := range []struct {
		method, path string
		status       int
		body         string
	}{
		{"GET", "/ac/" + key("1"), 200, upstream},
		{"GET", "/ac/" + key("2"), 404, ""},
		{"GET", "/ac/" + key("3"), 404, ""},
		{"GET", "/ac/" + key("4"), 404, ""},
		{"GET", "/ac/" + key("5"), 404, ""},
		{"GET", "/ac/" + key("6"), 404, ""},
		{"GET", "/cas/" + key("a"), 200, "content"},
		{"GET", "/cas/" + key("b"), 404, ""},
		{"PUT", "/ac/" + key("1"), 405, ""},
		{"PUT", "/cas/" + key("a"), 405, ""},
		{"GET", "/cas/" + key("a") + "/x", 405, ""},
	} {
		request, err := http.NewRequestWithContext(t.Context(), tt.method, c.URL+tt.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := c.Client().Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != tt.status || tt.status == 200 && string(body) != tt.body {
			t.Errorf("%s %s: %s, %q, %v; want %d", tt.method, tt.path, response.Status, body, err, tt.status)
		}
	}
	if got := []int32{c.Served.Load(), c.Withheld.Load(), c.Unknown.Load(), c.Rejected.Load()}; !slices.Equal(got, []int32{1, 4, 1, 3}) {
		t.Errorf("served, withheld, unknown, rejected: %d", got)
	}
}
