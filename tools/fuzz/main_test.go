package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"
)

// failsVariable makes the function below fail for every input but its seed.
const failsVariable = "FUZZ_TEST_FAILS"

func FuzzItself(f *testing.F) {
	f.Add("seed")
	f.Fuzz(func(t *testing.T, text string) {
		if text != "seed" && os.Getenv(failsVariable) != "" {
			t.Errorf("got %q", text)
		}
	})
}

func TestFuzz(t *testing.T) {
	if os.Getenv("TEST_SRCDIR") == "" {
		t.Chdir(t.TempDir()) // The failing input is written here. Bazel has a folder of its own for that.
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := fuzz(t.Context(), &out, 100*time.Millisecond, []string{program}); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	outputs := t.TempDir()
	t.Setenv("TEST_UNDECLARED_OUTPUTS_DIR", outputs)
	t.Setenv(failsVariable, "yes")
	err = fuzz(t.Context(), &out, time.Minute, []string{program})
	if err == nil || !strings.Contains(err.Error(), "FuzzItself: ") || !strings.Contains(err.Error(), "go test fuzz v1\nstring(") {
		t.Errorf("got %v\n%s", err, &out)
	}
	if kept, err := os.ReadDir(outputs); err != nil || len(kept) != 1 {
		t.Errorf("kept: %v, %v", kept, err)
	}
}

func TestNothing(t *testing.T) {
	for want, args := range map[string][]string{"usage": nil, "listing what": {"no-such-program"}, "no Fuzz function": {"/bin/true"}} {
		if err := fuzz(t.Context(), &bytes.Buffer{}, time.Second, args); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", args, err)
		}
	}
}
