package cli

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// TestMain is the program, too: one that ends as its argument says.
func TestMain(m *testing.M) {
	if os.Getenv("CLI_TEST") == "" {
		os.Exit(m.Run())
	}
	Main("program", func(ctx context.Context) error {
		switch os.Args[1] {
		case "fail":
			return errors.New("no luck")
		case "usage":
			return Usage("program FILE")
		case "signal":
			os.Stdout.WriteString("ready\n")
			<-ctx.Done()
			return context.Cause(ctx)
		}
		return nil
	})
}

func TestProgram(t *testing.T) {
	for _, test := range []struct {
		arg    string
		signal syscall.Signal
		status int
		stderr string
	}{
		{"succeed", 0, 0, ""},
		{"fail", 0, 1, "program: no luck\n"},
		{"usage", 0, 2, "usage: program FILE\n"},
		{"signal", syscall.SIGINT, 1, "program: context canceled\n"},
		{"signal", syscall.SIGTERM, 1, "program: context canceled\n"},
		{"signal", syscall.SIGHUP, 1, "program: context canceled\n"},
	} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], test.arg)
		cmd.Env = append(os.Environ(), "CLI_TEST=1")
		var stderr strings.Builder
		cmd.Stderr = &stderr
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if test.signal != 0 {
			if _, err := stdout.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			cmd.Process.Signal(test.signal)
		}
		cmd.Wait()
		// The signal's name is part of the message since Go 1.26.
		got := strings.ReplaceAll(stderr.String(), test.signal.String()+" signal received", "context canceled")
		if status := cmd.ProcessState.ExitCode(); status != test.status || got != test.stderr {
			t.Errorf("%s %v: status %d, %q, want %d, %q", test.arg, test.signal, status, got, test.status, test.stderr)
		}
	}
}

// TestIgnored has a program go on after a signal that nohup has it ignore.
func TestIgnored(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `trap "" HUP; exec "$0" signal`, os.Args[0])
	cmd.Env = append(os.Environ(), "CLI_TEST=1")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := stdout.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	cmd.Process.Signal(syscall.SIGHUP)
	cmd.Process.Signal(syscall.SIGTERM)
	cmd.Wait()
	if got := stderr.String(); strings.Contains(got, syscall.SIGHUP.String()) || cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("status %d, %q", cmd.ProcessState.ExitCode(), got)
	}
}
