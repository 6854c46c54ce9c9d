package testhost

import (
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// A shell gives a command the arguments and variables that it was to have.
func TestStart(t *testing.T) {
	args := []string{"printf", "[%s]", "", "a b", "it's", `"$HOME" \`, "two\nlines", "*"}
	o := Options{Command: args, Env: []string{"NAME=it's $HOME"}, Dir: "/"}
	script := o.start()
	// Without what only the machine has.
	_, script, _ = strings.Cut(script, "say up\n")
	script = strings.NewReplacer("stty -F", ": stty", " >/dev/tty1 2>/dev/tty2", "").Replace(script)
	out, err := exec.Command("bash", "-euc", "ended() { echo \"($1)\" \"$NAME\" \"$PWD\"; }\n"+script).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	want := "[" + strings.Join(args[2:], "][") + "](0) it's $HOME /\n"
	if string(out) != want {
		t.Errorf("got  %q\nwant %q", out, want)
	}
}

// However the console's output comes in pieces, the status is what it was.
func TestStatus(t *testing.T) {
	const text = "up\r\nexit 143\r\n"
	for i := range len(text) {
		up := 0
		s := &statusReader{up: func() { up++ }}
		for _, part := range []string{text[:i], text[i:]} {
			io.WriteString(s, part)
		}
		if up != 1 || !s.ended || s.code != 143 {
			t.Errorf("cut at %d: up %d times, ended %v with %d", i, up, s.ended, s.code)
		}
	}
	s := &statusReader{up: func() {}}
	io.WriteString(s, "up\nexit\nexit x\n")
	if s.ended {
		t.Errorf("ended with %d", s.code)
	}
}

// What is kept of a log is its end.
func TestTail(t *testing.T) {
	log := &tail{max: 4}
	for _, part := range slices.Repeat([]string{"abc"}, 3) {
		io.WriteString(log, part)
	}
	if got := log.String(); got != "cabc" {
		t.Errorf("got %q", got)
	}
}
