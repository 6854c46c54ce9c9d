package elsewhere

import (
	"bytes"
	"context"
	"encoding/binary"
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

	"google.golang.org/protobuf/encoding/protowire"
)

func TestMain(m *testing.M) {
	Main()
	os.Exit(m.Run())
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
	if err := p.Bazel(t.Context(), "build", "--x", "//..."); err != nil {
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
	if want := "--output_base=" + p.base + " --max_idle_secs=30 build --color=no --curses=no --show_progress_rate_limit=10 --x //..."; got[8] != want {
		t.Errorf("arguments %q, want %q", got[8], want)
	}
	if got[5] == fmt.Sprintf("%03d", here.YearDay()) {
		t.Errorf("the day by TZ is day %s, as here", got[5])
	}
	if slices.Contains(p.Differs, "the host name") {
		if got[2] != hostName {
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
	if err != nil || host == hostName {
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
		err := p.Bazel(t.Context(), "build")
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
		err := p.Bazel(ctx, "build")
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
	if changed, err := p.Changed(); err != nil || len(changed) > 0 {
		t.Errorf("changed %q, %v", changed, err)
	}
	write(t, filepath.Join(o.Source, "new"), "", 0o644)
	write(t, filepath.Join(o.Source, "pkg", "run"), "other", 0o755)
	write(t, filepath.Join(o.Source, ".git", "index"), "", 0o644)
	os.Remove(filepath.Join(o.Source, "WORKSPACE"))
	if changed, err := p.Changed(); err != nil || !slices.Equal(changed, []string{"WORKSPACE", "new", "pkg/run"}) {
		t.Errorf("changed %q, %v", changed, err)
	}
}

// TestExecutionLog reads a log that Bazel 7.7.1 wrote of //internal/progress, with a part of it from a cache. Inputs,
// arguments and environment, which are most of a log, were taken out of it.
func TestExecutionLog(t *testing.T) {
	spawns, err := ReadExecutionLog("testdata/execution.log")
	if err != nil {
		t.Fatal(err)
	}
	var own []Spawn
	hits := 0
	for _, s := range spawns {
		if s.Mnemonic == "" || s.Label == "" || s.Runner == "" || len(s.Outputs) == 0 || len(s.Key) != 64 {
			t.Errorf("incomplete: %+v", s)
		}
		if s.CacheHit != strings.HasSuffix(s.Runner, "cache hit") {
			t.Errorf("%+v", s)
		}
		if s.CacheHit {
			hits++
		}
		if strings.HasPrefix(s.Label, "//tools/internal/progress") {
			own = append(own, s)
		}
	}
	if len(own) != 1 || own[0].Mnemonic != "GoCompilePkg" || own[0].CacheHit || !own[0].RemoteCacheable ||
		!slices.Contains(own[0].Outputs, "bazel-out/k8-fastbuild/bin/tools/internal/progress/progress.a") {
		t.Errorf("own: %+v", own)
	}
	if len(spawns) != 4 || hits != 1 {
		t.Errorf("%d processes, %d hits", len(spawns), hits)
	}
}

func TestBadExecutionLog(t *testing.T) {
	good := protowire.AppendBytes(nil, protowire.AppendString(protowire.AppendTag(nil, spawnMnemonic, protowire.BytesType), "Genrule"))
	for _, tt := range []struct {
		name, want string
		log        []byte
	}{
		{"cut off in a process", "process 1: unexpected EOF", append(slices.Clone(good), good[:len(good)-1]...)},
		{"cut off in a size", "process 1: unexpected EOF", append(slices.Clone(good), 0x80)},
		{"too large", "more than", binary.AppendUvarint(nil, 1<<40)},
		{"nonsense", "process 0", []byte{2, 0xff, 0xff}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "log")
			write(t, path, string(tt.log), 0o644)
			if _, err := ReadExecutionLog(path); err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("%v", err)
			}
		})
	}
}

func FuzzExecutionLog(f *testing.F) {
	real, err := os.ReadFile("testdata/execution.log")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(real)
	f.Add([]byte{2, 8, 1})
	f.Fuzz(func(t *testing.T, log []byte) {
		if spawns, err := readExecutionLog(bytes.NewReader(log)); err == nil && len(spawns) > len(log) {
			t.Errorf("%d processes in %d bytes", len(spawns), len(log))
		}
		if outputs, err := resultOutputs(log); err == nil && UpstreamPackages(outputs) && len(outputs) == 0 {
			t.Error("no outputs are no package")
		}
	})
}

func TestMetrics(t *testing.T) {
	const events = `{"id":{"started":{}},"started":{"uuid":"x"}}
{"id":{"buildMetrics":{}},"buildMetrics":{"actionSummary":{"actionsExecuted":"8","actionData":[{"mnemonic":"GoCompilePkg","actionsExecuted":"2"},{"mnemonic":"GoStdlib","actionsExecuted":"1"}],"runnerCount":[{"name":"total","count":8},{"name":"remote cache hit","count":1,"execKind":"Remote"}]},"timingMetrics":{"wallTimeInMs":"1500","executionPhaseTimeInMs":"250"}}}
`
	m, err := readMetrics(strings.NewReader(events))
	if err != nil || m.Runners["remote cache hit"] != 1 || m.Runners["total"] != 8 || m.Actions["GoCompilePkg"] != 2 || len(m.Actions) != 2 ||
		m.Wall != 1500*time.Millisecond || m.Execution != 250*time.Millisecond {
		t.Errorf("%+v, %v", m, err)
	}
	for _, bad := range []string{"", `{"started":{}}`, `{"buildMetrics"`, "\xff"} {
		if m, err := readMetrics(strings.NewReader(bad)); err == nil {
			t.Errorf("%q: %+v", bad, m)
		}
	}
	if _, err := ReadMetrics(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// result is an ActionResult with output files.
func result(outputs ...string) string {
	var b []byte
	for _, o := range outputs {
		b = protowire.AppendTag(b, 2, protowire.BytesType)
		b = protowire.AppendBytes(b, protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), o))
	}
	return string(b)
}

func TestDiskCache(t *testing.T) {
	dir := t.TempDir()
	key := func(c string) string { return strings.Repeat(c, 64) }
	put := func(kind, key, content string) { write(t, filepath.Join(dir, kind, key[:2], key), content, 0o644) }
	upstream := result("bazel-out/k8-fastbuild/bin/external/x/y/z.a", "bazel-out/k8-fastbuild/bin/external/x/y/z.x")
	put("ac", key("1"), upstream)
	put("ac", key("2"), result("bazel-out/k8-fastbuild/bin/tools/x.a", "bazel-out/k8-fastbuild/bin/tools/x.x"))
	put("ac", key("3"), result("bazel-out/k8-fastbuild/bin/external/x/y/z.a", "bazel-out/k8-fastbuild/bin/external/x/program"))
	put("ac", key("4"), "\xff")
	put("ac", key("5"), result())
	put("cas", key("a"), "content")
	c, err := ServeDiskCache(dir, UpstreamPackages)
	if err != nil {
		t.Fatal(err)
	}
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
		{"GET", "/ac/../../etc/passwd", 405, ""},
		{"GET", "/cas/" + key("a") + "/x", 405, ""},
	} {
		request, err := http.NewRequestWithContext(t.Context(), tt.method, c.URL+tt.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != tt.status || tt.status == 200 && string(body) != tt.body {
			t.Errorf("%s %s: %s, %q, %v; want %d", tt.method, tt.path, response.Status, body, err, tt.status)
		}
	}
	answers := c.Answers()
	for k, want := range map[string]Answer{"1": Served, "2": Withheld, "3": Withheld, "4": Withheld, "5": Withheld, "6": Unknown} {
		if got, ok := answers[key(k)]; !ok || got != want {
			t.Errorf("answer to %s: %v, want %v", k, got, want)
		}
	}
	if rejected := c.Rejected(); len(rejected) != 3 {
		t.Errorf("rejected %q", rejected)
	}
}
