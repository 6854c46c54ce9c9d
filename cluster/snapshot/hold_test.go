package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What the test program is, besides a test.
const (
	roleVariable = "SNAPSHOT_TEST"
	roleKeep     = "keep"   // what Hold starts
	roleHolder   = "holder" // a program that calls Hold
	roleInside   = "inside" // the test itself, in a PID namespace of its own
)

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case roleKeep:
		if err := Keep(context.Background(), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintf(os.Stderr, "error: %v\n", err)
			os.Exit(1)
		}
		os.Exit(0)
	case roleHolder:
		_, _, err := Hold(context.Background(), "/usr/bin/env", roleVariable+"="+roleKeep, os.Args[0])
		fmt.Println("holds", err)
		select {}
	}
	os.Exit(m.Run())
}

// TestHold runs TestHoldInside where there are no processes but its own.
func TestHold(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may make PID namespaces")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestHoldInside$", "-test.v")
	cmd.Env = append(os.Environ(), roleVariable+"="+roleInside)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestHoldInside") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestHoldInside(t *testing.T) {
	if os.Getenv(roleVariable) != roleInside {
		t.Skip("part of TestHold")
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		t.Fatal(err)
	}
	keeper := []string{"/usr/bin/env", roleVariable + "=" + roleKeep, os.Args[0]}
	dir := t.TempDir()
	// start starts a shell that makes one process after the other, each of which writes to a file.
	start := func(name string, flags uintptr) (file string, cmd *exec.Cmd) {
		file = filepath.Join(dir, name)
		cmd = exec.Command("sh", "-c", "while :; do /bin/echo x >> "+file+"; done")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		return file, cmd
	}
	node, _ := start("node", syscall.CLONE_NEWPID)
	own, _ := start("own", 0)
	_, stopped := start("stopped", syscall.CLONE_NEWPID)
	if err := stopped.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	size := func(file string) int64 {
		info, err := os.Stat(file)
		if errors.Is(err, os.ErrNotExist) {
			return 0
		}
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	stands := func(file string) bool {
		before := size(file)
		time.Sleep(100 * time.Millisecond)
		return size(file) == before
	}
	goesOn := func(what, file string) {
		t.Helper()
		before := size(file)
		for deadline := time.Now().Add(10 * time.Second); size(file) == before; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: it does not go on", what)
			}
		}
	}
	goesOn("before", node)

	held, release, err := Hold(t.Context(), keeper...)
	if err != nil {
		t.Fatal(err)
	}
	if !stands(node) {
		t.Error("held: it goes on")
	}
	goesOn("held: a process that is no node's", own)
	if held.Err() != nil {
		t.Errorf("held: %v", context.Cause(held))
	}
	if err := release(); err != nil {
		t.Error(err)
	}
	goesOn("released", node)
	if state := stateOf(t, stopped.Process.Pid); state != "T" {
		t.Errorf("a process that was stopped before is %s", state)
	}

	// The program that holds is killed.
	holder := exec.Command("/usr/bin/env", roleVariable+"="+roleHolder, os.Args[0])
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 100)
	if n, err := out.Read(line); err != nil || strings.TrimSpace(string(line[:n])) != "holds <nil>" {
		t.Fatalf("%q, %v", line[:n], err)
	}
	if !stands(node) {
		t.Error("held by another program: it goes on")
	}
	if err := holder.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	holder.Wait()
	goesOn("the program was killed", node)

	// The program that stopped everything is killed.
	held, release, err = Hold(t.Context(), keeper...)
	if err != nil {
		t.Fatal(err)
	}
	environments, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	killed := false
	for _, path := range environments {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if environ, _ := os.ReadFile(path); strings.Contains("\x00"+string(environ), "\x00"+roleVariable+"="+roleKeep+"\x00") {
			killed = unix.Kill(pid, unix.SIGKILL) == nil
		}
	}
	if !killed {
		t.Fatal("it is not there")
	}
	select {
	case <-held.Done():
	case <-time.After(10 * time.Second):
		t.Error("the holder does not learn of it")
	}
	goesOn("the keeper was killed", node)
	if err := release(); err == nil {
		t.Error("no error")
	}
}

func stateOf(t *testing.T, pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))[0]
}
