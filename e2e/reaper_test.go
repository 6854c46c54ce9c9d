package e2e

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// released is the word that ends a reaper without removing anything.
const released = "released"

// reaperScript waits until its standard input ends, and removes all containers whose names begin
// with $1.
const reaperScript = `read -r word && [ "$word" = ` + released + ` ] && exit
docker ps --all --quiet --filter "name=^/?$1" | xargs --no-run-if-empty docker rm --force --volumes`

// reaper is a container that removes others when the test's process ends without having released
// it: nothing else would after a SIGKILL. A process on this side would not outlive the test, for
// Bazel ends what a test leaves.
type reaper struct {
	in  io.WriteCloser
	cmd *exec.Cmd
	err strings.Builder
}

// startReaper starts a reaper for the containers whose names begin with a prefix. Its own name does
// not.
func (m *machine) startReaper(ctx context.Context, image, prefix string) (*reaper, error) {
	// The engine's own address, as seen from where it runs.
	socket := "/var/run/docker.sock"
	host, err := m.launcher.Docker.Host(ctx)
	if err != nil {
		return nil, err
	}
	if path, ok := strings.CutPrefix(host, "unix://"); ok {
		socket = path
	}
	r := &reaper{}
	// Without ctx, which ends before the test does.
	r.cmd = exec.Command(m.launcher.Docker.Path, "run", "--interactive", "--rm", "--pull=never",
		"--name=reaper-of-"+prefix, "--network=none", "--no-healthcheck", "--volume="+socket+":/var/run/docker.sock",
		"--entrypoint=/bin/sh", image, "-c", "echo ready\n"+reaperScript, "sh", prefix)
	r.cmd.Stderr = &r.err
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if r.in, err = r.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := r.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the reaper: %w", err)
	}
	if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
		r.cmd.Wait()
		return nil, fmt.Errorf("start the reaper: %w: %s", err, r.err.String())
	}
	go io.Copy(io.Discard, out)
	return r, nil
}

// release ends the reaper; the containers are the caller's again.
func (r *reaper) release() error {
	if _, err := fmt.Fprintln(r.in, released); err != nil {
		return fmt.Errorf("the reaper is gone: %w: %s", err, r.err.String())
	}
	return r.wait()
}

func (r *reaper) wait() error {
	r.in.Close()
	if err := r.cmd.Wait(); err != nil {
		return fmt.Errorf("the reaper: %w: %s", err, r.err.String())
	}
	return nil
}

// TestReaper has a container reaped, and another one not.
func TestReaper(t *testing.T) {
	ctx, m := newMachine(t)
	ref, err := m.image.Send(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		end  func(t *testing.T, r *reaper)
		kept bool
	}{
		{name: "released", kept: true, end: func(t *testing.T, r *reaper) {
			if err := r.release(); err != nil {
				t.Error(err)
			}
		}},
		{name: "killed", end: func(t *testing.T, r *reaper) {
			// Its client goes when the process that started it does, with as little notice.
			if err := r.cmd.Process.Kill(); err != nil {
				t.Error(err)
			}
			r.cmd.Wait()
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			name := m.run + "-" + test.name
			if err := m.launcher.Docker.Do(ctx, "prepare", "create", "--name", name, "--label", "dind-cluster.name="+name, ref); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { m.remove(t, name) })
			r, err := m.startReaper(ctx, ref, name)
			if err != nil {
				t.Fatal(err)
			}
			test.end(t, r)
			there := func(filter string) bool {
				out, err := m.launcher.Docker.Output(ctx, "list", "ps", "--all", "--quiet", "--filter", "name="+filter)
				if err != nil {
					t.Fatal(err)
				}
				return strings.TrimSpace(string(out)) != ""
			}
			for deadline := time.Now().Add(20 * time.Second); there("reaper-of-" + name); time.Sleep(100 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("the reaper does not end")
				}
			}
			if kept := there("^/?" + name); kept != test.kept {
				t.Errorf("the container is there: %v, want %v", kept, test.kept)
			}
		})
	}
}
