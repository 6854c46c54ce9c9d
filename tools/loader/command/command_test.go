package command

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
)

func TestErrors(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none.sock")
	tests := []struct{ args, want string }{
		{"load --to nowhere x.tar", `--to is "nowhere"`},
		{"load --to docker --node all x.tar", "contradict"},
		{"load --node all,a x.tar", "all and local stand alone"},
		{"load --unknown", "unknown flag"},
		{"unknown", "unknown command"},
		{"load --node local --wait 1ms --address " + none + " x.tar", none},
		{"load --to docker --wait 1ms --docker-socket " + none + " x.tar", "no Docker engine answers at " + none},
	}
	for _, tt := range tests {
		cmd := New()
		var out bytes.Buffer
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		cmd.SetIn(strings.NewReader(""))
		cmd.SetArgs(strings.Fields(tt.args))
		if err := cmd.Execute(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.args, err, tt.want)
		}
	}
}
