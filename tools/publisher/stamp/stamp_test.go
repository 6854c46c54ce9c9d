package stamp

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestOf(t *testing.T) {
	dir := t.TempDir()
	do := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=n", "-c", "user.email=e"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("git %s: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	check := func(want string) {
		t.Helper()
		got, err := Of(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	if _, err := Of(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "not a git repository") {
		t.Errorf("no checkout: %v", err)
	}
	do("init", "-q")
	if _, err := Of(t.Context(), dir); err == nil {
		t.Error("a checkout without a commit has a stamp")
	}
	write("a", "1")
	write(".gitignore", "user.bazelrc\n")
	do("add", ".")
	do("commit", "-q", "-m", "m")
	head := do("rev-parse", "HEAD")[:12]
	check(head)
	write("user.bazelrc", "ignored")
	check(head)
	write("b", "new")
	check(head + "-dirty")
	do("add", "b")
	check(head + "-dirty")
	do("commit", "-q", "-m", "m2")
	head = do("rev-parse", "HEAD")[:12]
	check(head)
	write("a", "2")
	check(head + "-dirty")

	t.Setenv("PATH", t.TempDir())
	if _, err := Of(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "git") {
		t.Errorf("no git: %v", err)
	}
}
