package scripts_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestWorkspaceStatus asks about real checkouts.
func TestWorkspaceStatus(t *testing.T) {
	checkout := t.TempDir()
	script := filepath.Join(checkout, "scripts", "workspace-status")
	copyFile(t, "workspace-status", script)
	var env []string
	do := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("git", append([]string{"-C", checkout, "-c", "user.name=n", "-c", "user.email=e"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("git %s: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	check := func(what, want string) {
		t.Helper()
		cmd := exec.Command(script)
		cmd.Dir = t.TempDir() // wherever it is started
		cmd.Env = append(os.Environ(), env...)
		out, err := cmd.CombinedOutput()
		// A command that fails would fail every build.
		if err != nil || !strings.HasPrefix(string(out), want) || strings.Count(string(out), "\n") != 1 {
			t.Errorf("%s: %q, %v; want %q", what, out, err, want)
		}
	}
	change := func(name, text string) { write(t, filepath.Join(checkout, name), text, 0o644) }

	env = []string{"GIT_CEILING_DIRECTORIES=" + filepath.Dir(checkout)}
	check("no checkout", "STABLE_NO_COMMIT fatal: not a git repository")
	do("init", "-q")
	check("no commit", "STABLE_NO_COMMIT fatal: ")
	change("a", "1")
	change(".gitignore", "user.bazelrc\n")
	do("add", ".")
	do("commit", "-q", "-m", "m")
	head := do("rev-parse", "HEAD")
	check("a commit", "STABLE_COMMIT "+head+"\n")
	change("user.bazelrc", "ignored")
	check("an ignored file", "STABLE_COMMIT "+head+"\n")
	change("b", "new")
	check("a new file", "STABLE_COMMIT "+head+"-dirty\n")
	do("add", "b")
	check("an added file", "STABLE_COMMIT "+head+"-dirty\n")
	do("commit", "-q", "-m", "m2")
	check("another commit", "STABLE_COMMIT "+do("rev-parse", "HEAD")+"\n")
	change("a", "2")
	check("a changed file", "STABLE_COMMIT "+do("rev-parse", "HEAD")+"-dirty\n")
	lock := filepath.Join(checkout, ".git/index.lock")
	write(t, lock, "", 0o644)
	check("a git at work", "STABLE_COMMIT "+do("rev-parse", "HEAD")+"-dirty\n")
	env = []string{"PATH=" + t.TempDir()}
	check("no git", "STABLE_NO_COMMIT ")
}
