package checks_test

import (
	"flag"
	"os"
	"os/user"
	"path/filepath"
	"testing"
)

var (
	sdk         = flag.String("sdk", "", "a file in the top folder of the Go SDK")
	staticcheck = flag.String("staticcheck", "", "the program")
	errorlint   = flag.String("errorlint", "", "the program")
	deadcode    = flag.String("deadcode", "", "the program")
)

// goEnvironment has the pinned go command on PATH, with the user's caches: what Bazel has fetched is there, and what was
// analysed before. Nothing is fetched.
func goEnvironment(t *testing.T) (env []string, goCommand string) {
	t.Helper()
	file, err := filepath.EvalSymlinks(program(t, "the Go SDK", *sdk))
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(filepath.Dir(file), "bin")
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	return []string{
		"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + u.HomeDir, "XDG_CACHE_HOME=",
		"CGO_ENABLED=0", "GOFLAGS=-mod=readonly", "GOPROXY=off", "GOROOT=", "GOTOOLCHAIN=local", "GOWORK=off",
	}, filepath.Join(bin, "go")
}

func TestVet(t *testing.T) {
	env, goCommand := goEnvironment(t)
	silent(t, env, goCommand, "vet", "./...")
}

func TestErrorlint(t *testing.T) {
	env, goCommand := goEnvironment(t)
	silent(t, env, goCommand, "vet", "-vettool="+program(t, "errorlint", *errorlint), "./...")
}

// All checks of staticcheck and unused, but for those of comments' and names' form.
func TestStaticcheck(t *testing.T) {
	env, _ := goEnvironment(t)
	silent(t, env, program(t, "staticcheck", *staticcheck),
		"-checks=all,-ST1000,-ST1003,-ST1005,-ST1016,-ST1020,-ST1021,-ST1022,-ST1023", "./...")
}

// A function that no program and no test can reach goes.
func TestDeadcode(t *testing.T) {
	env, _ := goEnvironment(t)
	silent(t, env, program(t, "deadcode", *deadcode), "-test", "./...")
}
