package e2e

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dind-cluster/dind-cluster/tools/launcher/cluster"
)

// reaperVar makes this program a reaper: the container to look after.
const reaperVar = "DIND_CLUSTER_REAPER"

func TestMain(m *testing.M) {
	if container := os.Getenv(reaperVar); container != "" {
		os.Exit(reap(container, os.Args[1:]))
	}
	os.Exit(m.Run())
}

// reaper is a process of its own that removes a container when the test's process ends without having told it not
// to: nobody else would after a SIGKILL, such as that of a build tool whose patience is at its end.
type reaper struct {
	in  io.WriteCloser
	cmd *exec.Cmd
}

// released tells the reaper that there is nothing left to do.
const released = "released"

// startReaper starts a reaper. Before it removes the container it ends the specs that run in it, and copies their
// results to a folder, if that is not "".
func startReaper(container, results string) (*reaper, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	if results != "" {
		cmd.Args = append(cmd.Args, results)
	}
	// Bazel's wrapper around Go tests would wait for what the reaper prints.
	cmd.Env = append(os.Environ(), reaperVar+"="+container, "GO_TEST_WRAP=0")
	// Out of reach of whoever ends the test's process group.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the reaper: %w", err)
	}
	return &reaper{in: in, cmd: cmd}, nil
}

// release ends the reaper; the container is the caller's again.
func (r *reaper) release() error {
	if _, err := io.WriteString(r.in, released); err != nil {
		return fmt.Errorf("the reaper is gone: %w", err)
	}
	r.in.Close()
	return r.cmd.Wait()
}

// reap is the reaper's program. Its arguments are the folder for the results, or none.
func reap(container string, args []string) int {
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	word, _ := io.ReadAll(os.Stdin)
	if string(word) == released {
		return 0
	}
	l, err := cluster.New(io.Discard)
	if err != nil {
		return 1
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	if len(args) > 0 {
		log, err := os.OpenFile(filepath.Join(args[0], "reaper.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return 1
		}
		defer log.Close()
		fmt.Fprintf(log, "%s: the test has ended without removing %s\n", time.Now().UTC().Format(time.RFC3339), container)
		say := func(err error) {
			if err != nil {
				fmt.Fprintln(log, err)
			}
		}
		say(endSuite(ctx, l, container))
		say(copyResults(ctx, l, container, args[0]))
		say(l.Docker.Remove(ctx, container))
		return 0
	}
	if err := l.Docker.Remove(ctx, container); err != nil {
		return 1
	}
	return 0
}

// endSuite ends the specs that run in a container and waits until their results are written. Without its client a
// `docker exec` just goes on.
func endSuite(ctx context.Context, l *cluster.Launcher, container string) error {
	ctx, cancel := context.WithTimeout(ctx, 100*time.Second)
	defer cancel()
	_, err := l.Docker.Exec(ctx, container, "sh", "-c", "pkill -TERM -x e2e; while pgrep -x e2e >/dev/null; do sleep 0.1; done")
	return err
}

// copyResults copies the results of the last run in a container to a folder.
func copyResults(ctx context.Context, l *cluster.Launcher, container, folder string) error {
	return l.Docker.Do(ctx, "copy the results", "cp", container+":"+suiteResults+"/.", folder)
}

// TestReaper kills a process that has a container and a reaper, and waits for both to be gone.
func TestReaper(t *testing.T) {
	ctx, m := newMachine(t)
	name := m.run + "-reaper"
	ref, err := m.image.Send(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.launcher.Docker.Do(ctx, "prepare", "create", "--name", name, "--label", "dind-cluster.name="+name, ref); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.remove(t, name) })

	for _, test := range []struct {
		name string
		end  func(r *reaper) error
		kept bool
	}{
		{name: "released", end: (*reaper).release, kept: true},
		{name: "killed", end: func(r *reaper) error {
			// What the kernel does with the pipe of a process that was killed.
			r.in.Close()
			return r.cmd.Wait()
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, err := startReaper(name, "")
			if err != nil {
				t.Fatal(err)
			}
			if err := test.end(r); err != nil {
				t.Error(err)
			}
			out, err := m.launcher.Docker.Output(ctx, "list", "ps", "--all", "--quiet", "--filter", "name="+name)
			if err != nil {
				t.Fatal(err)
			}
			if kept := strings.TrimSpace(string(out)) != ""; kept != test.kept {
				t.Errorf("the container is there: %v, want %v", kept, test.kept)
			}
		})
	}
}
