package command

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestErrors(t *testing.T) {
	tests := []struct{ args, want string }{
		{"load --node all,a x.tar", "all and local stand alone"},
		// Before containerd is waited for, for which there is half a minute.
		{"load --node local /nope.tar", "stat /nope.tar: no such file or directory"},
		{"load --node local --name a//b -", `"a//b"`},
		{"load --unknown", "unknown flag"},
		{"unknown", "unknown command"},
	}
	for _, tt := range tests {
		cmd := New()
		var out bytes.Buffer
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		cmd.SetIn(strings.NewReader(""))
		cmd.SetArgs(strings.Fields(tt.args))
		start := time.Now()
		if err := cmd.Execute(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.args, err, tt.want)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s: it took %v", tt.args, took)
		}
	}
}

func TestNodesOf(t *testing.T) {
	dir := t.TempDir()
	for role, want := range map[string]string{"cluster\n": "all", "node\n": "local", "": "local"} {
		path := filepath.Join(dir, strings.TrimSpace(role))
		if role != "" {
			if err := os.WriteFile(path, []byte(role), 0o644); err != nil {
				t.Fatal(err)
			}
		} else {
			path = filepath.Join(dir, "none")
		}
		if got, err := nodesOf(path); got != want || err != nil {
			t.Errorf("role %q: %q, %v, want %q", role, got, err, want)
		}
	}
	if _, err := nodesOf(dir); err == nil {
		t.Error("no error for a folder")
	}
}

func TestMessage(t *testing.T) {
	err := errors.New("a.tar: \x1b[31m\rfile\x00\nélan\xff: " + strings.Repeat("é", messageLimit))
	got := message(err)
	if !strings.HasPrefix(got, "a.tar: \uFFFD[31m\uFFFDfile\uFFFD\nélan\uFFFD: é") || len(got) > messageLimit+10 || !utf8.ValidString(got) {
		t.Errorf("got %d bytes: %.60q", len(got), got)
	}
}
