package rules_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// bazel is a workspace of its own, with a server of its own.
type bazel struct {
	program   string
	workspace string
	output    string
}

// newBazel makes an empty workspace.
func newBazel(t *testing.T) *bazel {
	t.Helper()
	program, err := exec.LookPath("bazel")
	if err != nil {
		t.Skip("no bazel command on PATH")
	}
	b := &bazel{program: program, workspace: t.TempDir(), output: t.TempDir()}
	b.write("BUILD.bazel", "")
	t.Cleanup(func() {
		b.run(nil, "shutdown")
		// Repositories are read-only in places.
		exec.Command("chmod", "-R", "u+w", b.output).Run()
	})
	return b
}

// copyRules puts our rules of the two channels into the workspace.
func (b *bazel) copyRules(t *testing.T) {
	t.Helper()
	for _, pattern := range []string{"*.bzl", "private/go/*.bzl", "private/go/*.sh", "private/debian/*.bzl", "private/debian/*.sh"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("no rules match %s: %v", pattern, err)
		}
		for _, file := range files {
			b.write("rules/"+file, string(read(t, file)))
			b.write("rules/"+filepath.Dir(file)+"/BUILD.bazel", "")
		}
	}
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func (b *bazel) write(path, content string) { b.writeFile(path, []byte(content), 0o644) }

func (b *bazel) writeProgram(path string, content []byte) { b.writeFile(path, content, 0o755) }

func (b *bazel) writeFile(path string, content []byte, mode os.FileMode) {
	file := filepath.Join(b.workspace, path)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		panic(err)
	}
	if err := os.WriteFile(file, content, mode); err != nil {
		panic(err)
	}
}

// readOutput reads an output of the workspace's top package.
func (b *bazel) readOutput(t *testing.T, name string) []byte {
	t.Helper()
	return read(t, filepath.Join(b.workspace, "bazel-bin", name))
}

func (b *bazel) run(env []string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, b.program, append([]string{"--nohome_rc", "--output_user_root=" + b.output, "--max_idle_secs=60"}, args...)...)
	cmd.Dir = b.workspace
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}
