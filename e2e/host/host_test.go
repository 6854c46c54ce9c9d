package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dind-cluster/dind-cluster/e2e/host/testhost"
)

func TestMain(m *testing.M) {
	testhost.Init()
	os.Exit(m.Run())
}

// machine has little, and a command.
func machine(t *testing.T, command ...string) (o testhost.Options, stdout, stderr *bytes.Buffer) {
	t.Helper()
	stdout, stderr = &bytes.Buffer{}, &bytes.Buffer{}
	o = testhost.Options{Memory: 1 << 30, Disk: 4 << 30, CPUs: 2, Command: command, Stdout: stdout, Stderr: stderr}
	for file, variable := range map[*string]string{&o.Linux: "DIND_CLUSTER_HOST_KERNEL_FILE", &o.Root: "DIND_CLUSTER_HOST_ROOT_FILE"} {
		path, err := filepath.EvalSymlinks(filepath.Join(os.Getenv("TEST_SRCDIR"), os.Getenv(variable)))
		if err != nil || os.Getenv(variable) == "" {
			t.Fatalf("no %s: run `bazel test //e2e/host:host_test` (%v)", variable, err)
		}
		*file = path
	}
	return o, stdout, stderr
}

func TestCommand(t *testing.T) {
	o, stdout, stderr := machine(t, "sh", "-c", `echo "$NAME $PWD"; seq 100000; echo to stderr >&2; exit 42`)
	o.Env, o.Dir = []string{"NAME=it's"}, "/usr"
	code, err := testhost.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(stdout.String(), "\n")
	if code != 42 || stderr.String() != "to stderr\n" || len(lines) != 100002 || lines[0] != "it's /usr" || lines[100000] != "100000" {
		t.Errorf("status %d, stderr %q, %d lines that begin with %q", code, stderr, len(lines), lines[0])
	}
}

func TestShares(t *testing.T) {
	read, write := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(read, "file"), []byte("here"), 0o644); err != nil {
		t.Fatal(err)
	}
	o, stdout, stderr := machine(t, "sh", "-c", `cat "$1/file" && cp "$1/file" "$2" && ! touch "$1/new"`, "sh", read, write)
	o.Shares = []string{read, write + ":rw"}
	if code, err := testhost.Run(t.Context(), o); err != nil || code != 0 || stdout.String() != "here" {
		t.Errorf("status %d, %q, %q, %v", code, stdout, stderr, err)
	}
	if data, err := os.ReadFile(filepath.Join(write, "file")); err != nil || string(data) != "here" {
		t.Errorf("what was written is %q: %v", data, err)
	}
}

// The machine's time is up, and it goes at once, with a log that tells how far it was.
func TestTimeout(t *testing.T) {
	o, _, _ := machine(t, "sh", "-c", "echo started; sleep 1000")
	over := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	o.Stdout = signalling(func() { cancel(over) })
	begin := time.Now()
	_, err := testhost.Run(ctx, o)
	if !errors.Is(err, over) || !strings.Contains(err.Error(), "systemd[1]:") {
		t.Errorf("got %v, want the cause and the kernel's log", err)
	}
	t.Logf("it took %.1f s", time.Since(begin).Seconds())
	threads, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil || len(threads) == 0 {
		t.Fatalf("no threads: %v", err)
	}
	for _, thread := range threads {
		if children, err := os.ReadFile(thread); err == nil && len(children) > 0 {
			t.Errorf("processes are left: %s", children)
		}
	}
}

// signalling calls a function when something is written.
type signalling func()

func (s signalling) Write(p []byte) (int, error) {
	s()
	return len(p), nil
}
