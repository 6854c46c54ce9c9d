// Package scripts_test tries the decisions of scripts/bazel with tiny programs in Bazel's and Docker's place.
package scripts_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// tools are the host's programs that the scripts may call; nothing else is on PATH.
var tools = []string{
	"awk", "bash", "cat", "cut", "df", "dirname", "flock", "grep", "id", "mkdir", "readlink", "rm", "sed", "sha256sum",
	"sleep", "tail", "timeout",
}

// finder finds Debian's archives, for the repository rules too.
const finder = "../rules/private/debian/mirrors.sh"

type host struct {
	dir string // a checkout with scripts/ and .bazelversion
	bin string // all of PATH
	env []string
}

// newHost copies the scripts into a checkout of their own, on a machine that is no Debian.
func newHost(t *testing.T) *host {
	t.Helper()
	dir := t.TempDir()
	h := &host{dir: dir, bin: filepath.Join(dir, "bin")}
	for _, name := range []string{"bazel", "docker", "docker-engine"} {
		copyFile(t, name, filepath.Join(dir, "scripts", name))
	}
	libs, err := filepath.Glob("lib/*.sh")
	if err != nil || len(libs) == 0 {
		t.Fatalf("no scripts in lib: %v", err)
	}
	for _, lib := range libs {
		copyFile(t, lib, filepath.Join(dir, "scripts", lib))
	}
	copyFile(t, finder, filepath.Join(dir, "rules/private/debian/mirrors.sh"))
	write(t, filepath.Join(dir, ".bazelversion"), "7.7.1\n", 0o644)
	write(t, filepath.Join(dir, "os-release"), "ID=fedora\n", 0o644)
	for _, tool := range tools {
		path, err := exec.LookPath(tool)
		if err != nil {
			t.Skipf("this machine has no %s", tool)
		}
		if err := os.MkdirAll(h.bin, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(h.bin, tool)); err != nil {
			t.Fatal(err)
		}
	}
	h.env = []string{
		"PATH=" + h.bin, "HOME=" + dir, "XDG_CACHE_HOME=" + filepath.Join(dir, "cache"),
		"OS_RELEASE=" + filepath.Join(dir, "os-release"), "APT_LISTS=" + filepath.Join(dir, "apt", "lists"),
	}
	return h
}

// program puts a shell program on PATH.
func (h *host) program(t *testing.T, name, body string) {
	t.Helper()
	write(t, filepath.Join(h.bin, name), "#!/bin/bash\n"+body+"\n", 0o755)
}

func (h *host) command(env []string, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(h.dir, "scripts", name), args...)
	cmd.Env = append(append([]string{}, h.env...), env...)
	return cmd
}

func (h *host) run(t *testing.T, env []string, name string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	cmd := h.command(env, name, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// fakeBazel answers --version as the real ones do and says what it was called with.
func fakeBazel(name, version string) string {
	return fmt.Sprintf(`if [[ $* == --version ]]; then echo "bazel %s"; exit; fi; echo "%s ran"`, version, name)
}

func TestWhichBazel(t *testing.T) {
	unreachable := `echo "could not download Bazel" >&2; exit 1`
	for _, tt := range []struct {
		name     string
		programs map[string]string
		want     string // what ran; "" if none fits
	}{
		{"the version", map[string]string{"bazel": fakeBazel("bazel", "7.7.1")}, "bazel"},
		{"a later patch", map[string]string{"bazel": fakeBazel("bazel", "7.7.12")}, "bazel"},
		{"Debian's spelling", map[string]string{"bazel": fakeBazel("bazel", "7.7.1-")}, "bazel"},
		{"Debian's other spelling", map[string]string{"bazel": fakeBazel("bazel", "7.7.1- (@non-git)")}, "bazel"},
		{"an older patch", map[string]string{"bazel": fakeBazel("bazel", "7.7.0")}, ""},
		{"an older minor", map[string]string{"bazel": fakeBazel("bazel", "7.6.2")}, ""},
		{"a later minor", map[string]string{"bazel": fakeBazel("bazel", "7.10.1")}, ""},
		{"another major", map[string]string{"bazel": fakeBazel("bazel", "8.7.1")}, ""},
		{"a version that is none", map[string]string{"bazel": fakeBazel("bazel", "no_version")}, ""},
		{"Bazelisk", map[string]string{"bazelisk": fakeBazel("bazelisk", "7.7.1")}, "bazelisk"},
		{"Bazelisk that cannot download", map[string]string{"bazelisk": unreachable}, ""},
		{"the wrong Bazel, then Bazelisk", map[string]string{
			"bazel": fakeBazel("bazel", "6.5.0"), "bazelisk": fakeBazel("bazelisk", "7.7.1"),
		}, "bazelisk"},
		{"Bazelisk that cannot download, named bazel", map[string]string{
			"bazel": unreachable, "bazelisk": fakeBazel("bazelisk", "7.7.1"),
		}, "bazelisk"},
		{"none", nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t)
			for name, body := range tt.programs {
				h.program(t, name, body)
			}
			out, errs, status := h.run(t, nil, "bazel", "build", "//...")
			if tt.want != "" {
				if want := tt.want + " ran\n"; out != want || status != 0 {
					t.Errorf("got %q, status %d, %s; want %q", out, status, errs, want)
				}
				return
			}
			if status != 36 || out != "" || !strings.Contains(errs, "not Debian") || !strings.Contains(errs, "Install Bazel 7.7.1") {
				t.Errorf("status %d, output %q, errors %q; want advice", status, out, errs)
			}
		})
	}
}

func TestItselfOnPath(t *testing.T) {
	h := newHost(t)
	if err := os.Symlink(filepath.Join(h.dir, "scripts", "bazel"), filepath.Join(h.bin, "bazel")); err != nil {
		t.Fatal(err)
	}
	if _, errs, status := h.run(t, nil, "bazel", "build"); status != 36 {
		t.Errorf("status %d: %s", status, errs)
	}
	h.program(t, "bazelisk", fakeBazel("bazelisk", "7.7.1"))
	if out, errs, _ := h.run(t, nil, "bazel", "build"); out != "bazelisk ran\n" {
		t.Errorf("got %q: %s", out, errs)
	}
}

func TestArgumentsInputAndStatus(t *testing.T) {
	h := newHost(t)
	h.program(t, "bazel", `if [[ $* == --version ]]; then echo "bazel 7.7.1"; exit; fi
printf '<%s>' "$@"; cat; exit "${STATUS:-0}"`)
	args := []string{"--output_base=/x y", "build", "", "*", "a'b\"c", "--", "--name=ä", "\\"}
	for _, status := range []int{0, 1, 3, 8, 36, 200} {
		cmd := h.command([]string{fmt.Sprint("STATUS=", status)}, "bazel", args...)
		cmd.Stdin = strings.NewReader("first\nlast")
		out, _ := cmd.Output()
		want := "<" + strings.Join(args, "><") + ">first\nlast"
		if string(out) != want || cmd.ProcessState.ExitCode() != status {
			t.Errorf("got %q, status %d; want %q, status %d", out, cmd.ProcessState.ExitCode(), want, status)
		}
	}
}

func TestSignals(t *testing.T) {
	h := newHost(t)
	h.program(t, "bazel", `if [[ $* == --version ]]; then echo "bazel 7.7.1"; exit; fi
trap 'exit 42' INT TERM HUP QUIT
echo $$
while :; do sleep 0.01; done`)
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT} {
		t.Run(signal.String(), func(t *testing.T) {
			cmd := h.command(nil, "bazel", "build")
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			timer := time.AfterFunc(30*time.Second, func() { cmd.Process.Kill() })
			defer timer.Stop()
			var pid int
			if _, err := fmt.Fscan(out, &pid); err != nil {
				t.Fatal(err)
			}
			// Bazel is the very process that was started: every signal is its own.
			if pid != cmd.Process.Pid {
				t.Errorf("Bazel is process %d, not %d", pid, cmd.Process.Pid)
			}
			if err := cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			cmd.Wait()
			if status := cmd.ProcessState.ExitCode(); status != 42 {
				t.Errorf("status %d, want 42", status)
			}
		})
	}
}

func TestWhenDockerIsNeeded(t *testing.T) {
	const advice = "(DOCKER_HOST)"
	for _, tt := range []struct {
		args  string
		env   string
		asked bool
	}{
		{"run //images:dind-cluster", "", true},
		{"test //...", "", true},
		{"coverage //...", "", true},
		{"--output_base /tmp/x test //...", "", true},
		{"--batch run //a", "", true},
		{"build //...", "", false},
		{"build //run:test", "", false},
		{"query test", "", false},
		{"help run", "", false},
		{"version", "", false},
		{"", "", false},
		{"test //...", "DIND_CLUSTER_DOCKER=off", false},
	} {
		t.Run(tt.args+tt.env, func(t *testing.T) {
			h := newHost(t)
			h.program(t, "bazel", fakeBazel("bazel", "7.7.1"))
			h.program(t, "docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1")
			out, errs, status := h.run(t, []string{"DOCKER_HOST=tcp://192.0.2.1:1", tt.env}, "bazel", strings.Fields(tt.args)...)
			if asked := strings.Contains(errs, advice); asked != tt.asked || asked != (status == 36) || asked == (out == "bazel ran\n") {
				t.Errorf("output %q, errors %q, status %d; want Docker asked: %v", out, errs, status, tt.asked)
			}
		})
	}
}

func TestDockerVersion(t *testing.T) {
	for version, want := range map[string]int{"28.5.2": 0, "28.5.2+dfsg4": 0, "26.1.5": 0, "23.0.1": 0, "20.10.24": 36, "19.03.15": 36, "1.13.1": 36, "dev": 0} {
		h := newHost(t)
		h.program(t, "bazel", fakeBazel("bazel", "7.7.1"))
		h.program(t, "docker", "echo "+version)
		_, errs, status := h.run(t, nil, "bazel", "run", "//a")
		if status != want || (status != 0) != strings.Contains(errs, "Docker "+version+" is too old") {
			t.Errorf("Docker %s: status %d, %q; want %d", version, status, errs, want)
		}
	}
}

// An engine that was killed leaves its process number behind. It must not keep the next one from starting.
func TestEnginePID(t *testing.T) {
	h := newHost(t)
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	copyFile(t, sleep, filepath.Join(h.dir, "dockerd"))
	if err := os.Chmod(filepath.Join(h.dir, "dockerd"), 0o755); err != nil {
		t.Fatal(err)
	}
	running := func(pid int) bool {
		file := filepath.Join(h.dir, "engine.pid")
		write(t, file, fmt.Sprint(pid), 0o644)
		cmd := exec.Command("bash", "-c", `CACHE=$1 . "$1/scripts/lib/engine.sh"; ENGINE_PID=$2; engine_pid`, "-", h.dir, file)
		out, err := cmd.Output()
		if err == nil && strings.TrimSpace(string(out)) != fmt.Sprint(pid) {
			t.Errorf("engine_pid says %q, want %d", out, pid)
		}
		return err == nil
	}
	engine := exec.Command(filepath.Join(h.dir, "dockerd"), "60")
	if err := engine.Start(); err != nil {
		t.Fatal(err)
	}
	pid := engine.Process.Pid
	if !running(pid) {
		t.Error("a running engine is not seen")
	}
	if err := engine.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	// Nobody has waited for it yet: once it is dead it is a zombie.
	for end := time.Now().Add(10 * time.Second); running(pid); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("a killed engine counts as running")
		}
	}
	if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err != nil || !strings.Contains(string(stat), ") Z ") {
		t.Errorf("the test wants a zombie, has %q, %v", stat, err)
	}
	engine.Wait()
	if running(pid) {
		t.Error("an engine that is gone counts as running")
	}
	if running(os.Getpid()) {
		t.Error("another program with the engine's number counts as the engine")
	}
}

// engine runs COMMAND with the functions of lib/engine.sh, for a socket other than the usual one.
func (h *host) engine(t *testing.T, socket, command string) (output string, status int) {
	t.Helper()
	cmd := exec.Command("bash", "-c", `set -euo pipefail
SCRIPTS=$1
. "$1/lib/log.sh"; . "$1/lib/root.sh"; . "$1/lib/engine.sh"
ENGINE_SOCKET=$2 SOCKET_PATIENCE=1 ENGINE_PATIENCE=1
`+command, "-", filepath.Join(h.dir, "scripts"), socket)
	cmd.Env = append(append([]string{}, h.env...), "DOCKER_API_VERSION=9.99")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// needPerl puts it on PATH.
func (h *host) needPerl(t *testing.T) {
	t.Helper()
	path, err := exec.LookPath("perl")
	if err != nil {
		t.Skip("this machine has no Perl")
	}
	if err := os.Symlink(path, filepath.Join(h.bin, "perl")); err != nil {
		t.Fatal(err)
	}
}

// A client that fails does not mean that there is no engine. The socket tells.
func TestSecondEngine(t *testing.T) {
	const failing, working = "echo 'client version 9.99 is too new' >&2; exit 1", "echo 28.5.2"
	answer := func(status int) func(net.Listener) {
		return func(l net.Listener) {
			http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/_ping" {
					status = http.StatusTeapot
				}
				w.WriteHeader(status)
			}))
		}
	}
	for _, tt := range []struct {
		name   string
		listen func(net.Listener) // nil: nobody listens
		stale  bool               // a socket is there, whoever listened is not
		client string
		want   string // what is said; "start" if an engine may be started, "use" if there is one after all
	}{
		{name: "nobody", client: failing, want: "start"},
		{name: "the socket of an engine that was killed", stale: true, client: failing, want: "start"},
		{name: "an engine that the client does not get through to", listen: answer(http.StatusOK), client: failing, want: "client version 9.99 is too new"},
		{name: "its variables are named", listen: answer(http.StatusOK), client: failing, want: "the variables DOCKER_API_VERSION, "},
		{name: "an engine that has come up meanwhile", listen: answer(http.StatusOK), client: working, want: "use"},
		{name: "something else", listen: answer(http.StatusNotFound), client: failing, want: "is no Docker engine"},
		{name: "an engine that is busy", listen: func(l net.Listener) {
			conn, err := l.Accept()
			if err == nil {
				defer conn.Close()
				io.Copy(io.Discard, conn) // until the other side has had enough
			}
		}, client: failing, want: "gives no answer within 1 seconds"},
		{name: "one that does not even accept", listen: func(net.Listener) {}, client: failing, want: "gives no answer within 1 seconds"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t)
			h.needPerl(t)
			h.program(t, "docker", tt.client)
			// A socket's path has 107 characters at most.
			dir, err := os.MkdirTemp("", "engine")
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			socket := filepath.Join(dir, "docker.sock")
			if tt.listen != nil || tt.stale {
				l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				if tt.stale {
					l.SetUnlinkOnClose(false)
					l.Close()
				} else {
					go tt.listen(l)
				}
			}
			// This machine's own engines do not count here.
			out, status := h.engine(t, socket, `foreign_engine() { return 1; }
if refuse_second_engine "$(engine_version || true)"; then echo start; else echo use; fi`)
			refused := tt.want != "start" && tt.want != "use"
			if !strings.Contains(out, tt.want) || refused != (status == 36) || refused && strings.Contains(out, "start\n") {
				t.Errorf("status %d, %q; want %q", status, out, tt.want)
			}
			if _, err := os.Lstat(socket); (tt.listen != nil || tt.stale) && err != nil {
				t.Errorf("the socket is gone: %v", err)
			}
		})
	}
}

// An engine that listens elsewhere works on the same packet filters.
func TestForeignEngine(t *testing.T) {
	h := newHost(t)
	h.needPerl(t)
	h.program(t, "docker", "exit 1")
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	dockerd := filepath.Join(h.dir, "dockerd")
	copyFile(t, sleep, dockerd)
	engine := exec.Command(dockerd, "60")
	if err := engine.Start(); err != nil {
		t.Fatal(err)
	}
	defer engine.Wait()
	defer engine.Process.Kill()
	socket := filepath.Join(h.dir, "docker.sock")
	want := "runs, but does not listen at " + socket
	if out, status := h.engine(t, socket, `refuse_second_engine none; echo start`); status != 36 || !strings.Contains(out, want) || strings.Contains(out, "start\n") {
		t.Errorf("status %d, %q; want %q", status, out, want)
	}
}

// Whoever has the client talk to another engine does not get one here.
func TestClientLeadsElsewhere(t *testing.T) {
	for _, tt := range []struct{ name, env, context, want string }{
		{"DOCKER_HOST", "DOCKER_HOST=tcp://192.0.2.1:1", "exit 1", "no Docker engine answers at tcp://192.0.2.1:1 (DOCKER_HOST)"},
		{"a context", "", "echo ssh://far.test", "no Docker engine answers at ssh://far.test (docker context)"},
		{"a context that is not there", "", "echo 'context \"gone\" not found' >&2; exit 1", `the Docker client does not work: context "gone" not found`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t)
			h.program(t, "docker", "if [[ $1 == context ]]; then "+tt.context+"; else echo 'no route' >&2; exit 1; fi")
			if _, errs, status := h.run(t, []string{tt.env}, "docker-engine", "start"); status != 36 || !strings.Contains(errs, tt.want) {
				t.Errorf("status %d, %q; want %q", status, errs, tt.want)
			}
		})
	}
}

// The private root's group docker has another group's number on the host.
func TestSocketGroup(t *testing.T) {
	for getent, want := range map[string]string{"echo docker:x:1234:alice": "1234", "exit 2": "root"} {
		h := newHost(t)
		h.program(t, "getent", getent)
		if out, status := h.engine(t, "/nowhere", "socket_group"); status != 0 || out != want+"\n" {
			t.Errorf("%s: %q, status %d; want %s", getent, out, status, want)
		}
	}
}

func TestMirrors(t *testing.T) {
	const both = "debian http://a.test/debian\ndebian-security http://a.test/debian-security\n"
	for _, tt := range []struct {
		name  string
		files map[string]string
		env   []string
		want  string
	}{
		{name: "one line", files: map[string]string{
			"sources.list": "# a comment\ndeb-src http://src.test/debian trixie main\ndeb http://a.test/debian/ trixie main contrib\n",
		}, want: both},
		{name: "one line with options", files: map[string]string{
			"sources.list": "deb [arch=amd64 signed-by=/k.gpg] http://a.test/debian bookworm main\n",
		}, want: both},
		{name: "deb822", files: map[string]string{
			"sources.list.d/debian.sources": "Types: deb deb-src\n# a comment\nURIs: http://a.test/debian\nSuites: trixie trixie-updates\nComponents: main\n\n" +
				"Types: deb\nURIs: http://a.test/debian-security\nSuites: trixie-security\nComponents: main\n",
		}, want: both},
		{name: "deb822 with continued lines, in other letters", files: map[string]string{
			"sources.list.d/debian.sources": "types: deb\nuris:\n http://a.test/debian\nsuites:\n trixie\ncomponents: contrib\n main\n",
		}, want: both},
		{name: "disabled and source-only stanzas", files: map[string]string{
			"sources.list.d/x.sources": "Enabled: no\nTypes: deb\nURIs: http://off.test/debian\nSuites: sid\nComponents: main\n\n" +
				"Types: deb-src\nURIs: http://src.test/debian\nSuites: sid\nComponents: main\n\n" +
				"Types: deb\nURIs: http://a.test/debian\nSuites: sid\nComponents: main\n",
		}, want: both},
		{name: "third parties first", files: map[string]string{
			"sources.list.d/a.list": "deb https://other.test/apt cloud-sdk-bookworm main\ndeb https://other.test/linux/debian bookworm stable\n" +
				"deb https://other.test/pgdg bookworm-pgdg main\ndeb https://other.test/tool stable main\n",
			"sources.list.d/debian.sources": "Types: deb\nURIs: http://a.test/debian\nSuites: bookworm\nComponents: main\n",
		}, want: both},
		{name: "a third party that ends in /debian, by what apt's lists say", files: map[string]string{
			"sources.list.d/runner.list":                                       "deb https://third.test/runner/debian bookworm main\n",
			"sources.list.d/debian.sources":                                    "Types: deb\nURIs: http://user:secret@a.test:8080/de_b~ian\nSuites: bookworm bookworm-security\nComponents: main\n",
			"lists/third.test_runner_debian_dists_bookworm_InRelease":          "-----BEGIN PGP SIGNED MESSAGE-----\n\nOrigin: packages.third.test/runner\nLabel: runner\n",
			"lists/a.test:8080_de%5fb%7eian_dists_bookworm_InRelease":          "-----BEGIN PGP SIGNED MESSAGE-----\n\nOrigin: Debian\nLabel: Debian\n",
			"lists/a.test:8080_de%5fb%7eian_dists_bookworm-security_InRelease": "Origin: Debian\n",
		}, want: "debian http://user:secret@a.test:8080/de_b~ian\ndebian-security http://user:secret@a.test:8080/de_b~ian\n"},
		{name: "only a third party", files: map[string]string{
			"sources.list": "deb https://third.test/runner/debian bookworm main\n",
			"lists/third.test_runner_debian_dists_bookworm_Release": "Origin: third\n",
		}},
		{name: "lists that say nothing before a mirror's", files: map[string]string{
			"sources.list": "deb http://x.test/debian trixie main\ndeb http://a.test/debian trixie main\n",
			"lists/a.test_debian_dists_trixie_InRelease": "Origin: Debian\n",
		}, want: both},
		{name: "no lists, a third party with keys of its own", files: map[string]string{
			"sources.list.d/a.list":    "deb [arch=amd64 signed-by=/usr/share/keyrings/runner.gpg] https://third.test/runner/debian trixie main\n",
			"sources.list.d/b.sources": "Types: deb\nURIs: https://other.test/debian\nSuites: trixie\nComponents: main\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n",
			"sources.list.d/c.list":    "deb http://a.test/debian trixie main\n",
		}, want: both},
		{name: "no lists, Debian's keys", files: map[string]string{
			"sources.list.d/a.list":    "deb http://third.test/debian trixie main\n",
			"sources.list.d/d.sources": "Types: deb\nURIs: http://a.test/debian\nSuites: trixie\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n",
		}, want: both},
		{name: "security elsewhere", files: map[string]string{
			"sources.list": "deb http://a.test/debian trixie main\ndeb http://s.test/debian-security trixie-security main\n",
		}, want: "debian http://a.test/debian\ndebian-security http://s.test/debian-security\n"},
		{name: "security of old", files: map[string]string{
			"sources.list": "deb http://s.test/ bullseye/updates main\ndeb http://a.test/debian bullseye main\n",
		}, want: "debian http://a.test/debian\ndebian-security http://s.test\n"},
		{name: "a mirror under another name", files: map[string]string{
			"sources.list": "deb http://nexus.test/repository/debian-remote trixie main\n",
		}, want: "debian http://nexus.test/repository/debian-remote\n"},
		{name: "a snapshot", files: map[string]string{
			"sources.list": "deb http://a.test/archive/debian/20260901T000000Z trixie main\n",
		}, want: "debian http://a.test/archive/debian/20260901T000000Z\ndebian-security http://a.test/archive/debian-security/20260901T000000Z\n"},
		{name: "a host called debian", files: map[string]string{"sources.list": "deb http://debian/ trixie main\n"}, want: "debian http://debian\n"},
		{name: "lists of mirrors", files: map[string]string{
			"sources.list.d/debian.sources": "Types: deb\nURIs: mirror+file://APT/mirrors/debian.list\nSuites: trixie\nComponents: main\n\n" +
				"Types: deb\nURIs: mirror+file://APT/mirrors/security.list\nSuites: trixie-security\nComponents: main\n",
			"mirrors/debian.list":   "# mirrors\nhttps://a.test/debian\tpriority:1\nhttps://b.test/debian\n",
			"mirrors/security.list": "https://c.test/debian-security\n",
		}, want: "debian https://a.test/debian\ndebian-security https://c.test/debian-security\n"},
		{name: "Ubuntu", files: map[string]string{
			"sources.list.d/ubuntu.sources": "Types: deb\nURIs: http://u.test/ubuntu\nSuites: noble noble-updates noble-security\nComponents: main universe\n",
		}},
		{name: "only security", files: map[string]string{"sources.list": "deb http://a.test/debian-security trixie-security main\n"},
			want: "debian-security http://a.test/debian-security\n"},
		{name: "nothing"},
		{name: "the variable wins, for security too", files: map[string]string{
			"sources.list": "deb http://x.test/debian trixie main\ndeb http://x.test/debian-security trixie-security main\n",
		}, env: []string{"DEBIAN_MIRROR=http://a.test/debian/"}, want: both},
		{name: "a variable that says nothing of security", files: map[string]string{
			"sources.list": "deb http://x.test/debian trixie main\ndeb http://x.test/debian-security trixie-security main\n",
		}, env: []string{"DEBIAN_MIRROR=http://a.test/d"}, want: "debian http://a.test/d\ndebian-security http://x.test/debian-security\n"},
		{name: "both variables", env: []string{"DEBIAN_MIRROR=http://a.test/d", "DEBIAN_SECURITY_MIRROR=file:///srv/s/"},
			want: "debian http://a.test/d\ndebian-security file:///srv/s\n"},
		{name: "the lock's date", env: []string{"DEBIAN_MIRROR=http://a.test/debian/{snapshot}"},
			want: "debian http://a.test/debian/{snapshot}\ndebian-security http://a.test/debian-security/{snapshot}\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t)
			apt := h.apt(t, tt.files)
			cmd := exec.Command(filepath.Join(h.dir, "rules/private/debian/mirrors.sh"))
			cmd.Env = append(append(append([]string{}, h.env...), apt), tt.env...)
			out, err := cmd.CombinedOutput()
			if got := string(out); err != nil || got != tt.want {
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			}

			// scripts/bazel passes the same on.
			h.program(t, "bazel", `if [[ $* == --version ]]; then echo "bazel 7.7.1"; exit; fi
${DEBIAN_MIRROR+echo debian "$DEBIAN_MIRROR"}
${DEBIAN_SECURITY_MIRROR+echo debian-security "$DEBIAN_SECURITY_MIRROR"}`)
			if got, errs, status := h.run(t, append(tt.env, apt), "bazel", "build"); got != tt.want || status != 0 {
				t.Errorf("Bazel got %q, status %d, %s; want %q", got, status, errs, tt.want)
			}
		})
	}
	t.Run("no URL", func(t *testing.T) {
		for env, said := range map[string]string{
			"DEBIAN_MIRROR=mirror.test/debian":                     "mirror.test/debian",
			"DEBIAN_SECURITY_MIRROR=http://a b":                    "http://a b",
			"DEBIAN_MIRROR=user:secret@mirror.test/debian":         "…@mirror.test/debian",
			"DEBIAN_SECURITY_MIRROR=ftp://user:secret@mirror.test": "ftp://…@mirror.test",
		} {
			h := newHost(t)
			h.program(t, "bazel", fakeBazel("bazel", "7.7.1"))
			out, errs, status := h.run(t, []string{env}, "bazel", "build")
			name, _, _ := strings.Cut(env, "=")
			if status != 36 || out != "" || !strings.Contains(errs, name+` is "`+said+`"`) {
				t.Errorf("%s: status %d, output %q, errors %q", env, status, out, errs)
			}
		}
	})
}

// Passwords in a mirror's URL are shown nowhere: apt gets them from a file.
func TestMirrorLogin(t *testing.T) {
	for url, want := range map[string]string{
		"http://a.test/debian":                        "http://a.test/debian\n",
		"https://alice@a.test/debian":                 "https://a.test/debian\nmachine https://a.test/debian login alice password \n",
		"http://alice:s%40cret%5c@a.test:8080/debian": "http://a.test:8080/debian\nmachine http://a.test:8080/debian login alice password s@cret\\\n",
		"file:///srv/debian@home":                     "file:///srv/debian@home\n",
	} {
		h := newHost(t)
		if out, status := h.engine(t, "", `. "$1/lib/mirrors.sh"; bare_url "`+url+`"; url_login "`+url+`"`); out != want || status != 0 {
			t.Errorf("%s: %q, status %d; want %q", url, out, status, want)
		}
	}
}

// Passwords of proxies and mirrors are for root alone in the private root, and apt's other settings for all.
func TestRootSettings(t *testing.T) {
	h := newHost(t)
	h.program(t, "apt-config", `printf '%s\n' 'APT::Architecture "amd64";' 'Acquire::http::Proxy "http://alice:secret@proxy.test:3128";' 'Acquire::https::Proxy::a.test "DIRECT";'`)
	root, login := filepath.Join(h.dir, "root"), filepath.Join(h.dir, "auth.conf")
	write(t, filepath.Join(root, "etc/apt/apt.conf.d/01"), "", 0o644)
	write(t, login, "machine http://a.test/debian login bob password secret\n", 0o600)
	cmd := exec.Command(filepath.Join(h.dir, "scripts/lib/recipe.sh"), "settings", root, "http://a.test/debian", "testing")
	cmd.Env = append(append([]string{}, h.env...), "AUTH="+login)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	got := map[string]os.FileMode{}
	err := filepath.WalkDir(filepath.Join(root, "etc/apt"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if strings.Contains(string(text), "secret") {
			got[filepath.Base(path)] = info.Mode()
		} else if info.Mode() != 0o644 {
			t.Errorf("%s has mode %s", path, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := (map[string]os.FileMode{"98dind-cluster-proxy": 0o600, "dind-cluster.conf": 0o600}); !maps.Equal(got, want) {
		t.Errorf("passwords are in %v, want %v", got, want)
	}
}

// Old packages are worth a line.
func TestRootAge(t *testing.T) {
	for days, want := range map[int]string{0: "", 30: "", 31: "31 days old: scripts/docker-engine update"} {
		h := newHost(t)
		for _, tool := range []string{"stat", "date"} {
			path, err := exec.LookPath(tool)
			if err != nil {
				t.Skip(err)
			}
			if err := os.Symlink(path, filepath.Join(h.bin, tool)); err != nil {
				t.Fatal(err)
			}
		}
		root, _ := h.engine(t, "", "root_path")
		stamp := filepath.Join(strings.TrimSpace(root), "etc/dind-cluster-updated")
		write(t, stamp, "", 0o644)
		then := time.Now().Add(-time.Duration(days)*24*time.Hour - time.Minute)
		if err := os.Chtimes(stamp, then, then); err != nil {
			t.Fatal(err)
		}
		if out, status := h.engine(t, "", "note_age"); status != 0 || want == "" && out != "" || !strings.Contains(out, want) {
			t.Errorf("%d days: %q, status %d; want %q", days, out, status, want)
		}
	}
}

// What needs a mirror says so before it begins.
func TestMirrorIsNeeded(t *testing.T) {
	for _, tt := range []struct {
		name, env, want string
	}{
		{"none", "", "no Debian mirror is known"},
		{"one that depends on a lock", "DEBIAN_MIRROR=http://a.test/{snapshot}/debian", "{snapshot}"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t)
			copyFile(t, "lock", filepath.Join(h.dir, "scripts", "lock"))
			write(t, filepath.Join(h.dir, "third_party/debian/demo.packages"), "bash\n", 0o644)
			_, errs, status := h.run(t, []string{h.apt(t, nil), tt.env}, "lock", "debian", "demo", "trixie")
			if status != 36 || !strings.Contains(errs, tt.want) || !strings.Contains(errs, "DEBIAN_MIRROR") {
				t.Errorf("status %d, errors %q; want %q", status, errs, tt.want)
			}
		})
	}
}

// apt makes a folder of apt's configuration, and the variable that names it. APT in a file stands for the folder.
func (h *host) apt(t *testing.T, files map[string]string) string {
	t.Helper()
	apt := filepath.Join(h.dir, "apt")
	for name, text := range files {
		write(t, filepath.Join(apt, name), strings.ReplaceAll(text, "APT", apt), 0o644)
	}
	return "APT_ETC=" + apt
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	write(t, to, string(data), 0o755)
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}
