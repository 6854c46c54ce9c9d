package cmd

import (
	"bytes"
	"strings"
	"testing"
)

func TestBadInput(t *testing.T) {
	for _, test := range []struct{ args, want string }{
		{"--starts=0", "want at least one start"},
		{"--repeat=-1", "want at least one start"},
		{"--nodes=0", "want sizes from 1 to 100"},
		{"--nodes=1,101", "101: want sizes"},
		{"--nodes=3,3", "3 is there twice"},
		{"--nodes=x", "invalid"},
		{"--timeout=0s", "want durations"},
		{"--settle=-1s", "want durations"},
		{"--env=NODES=3", "NODES: there is an option"},
		{"--env=X", "want NAME=VALUE"},
		{"--env=SERVICE_SUBNETS=10.0.0.0/16", "did you mean SERVICE_SUBNET?"},
		{"--env=SERVICE_SUBNET=10.0.0.0/8", "want an IPv4 subnet of /12 to /24"},
		{"extra", "unknown command"},
		{"render", "accepts 1 arg"},
		{"render /nonexistent", "reading the results"},
	} {
		t.Run(test.args, func(t *testing.T) {
			var out, err bytes.Buffer
			if status := Main(t.Context(), Built{}, strings.Fields(test.args), &out, &err); status != 1 {
				t.Errorf("status %d", status)
			}
			if !strings.Contains(err.String(), test.want) {
				t.Errorf("got %q, want %q in it", &err, test.want)
			}
		})
	}
}

func TestDefaults(t *testing.T) {
	o := &options{}
	c := o.command()
	if err := c.ParseFlags([]string{"--repeat=100", "--nodes=11"}); err != nil {
		t.Fatal(err)
	}
	if err := o.check(); err != nil || o.starts != 100 || o.floor {
		t.Errorf("got %+v, %v", o, err)
	}
	o = &options{}
	if err := o.command().ParseFlags([]string{"--image=x"}); err != nil {
		t.Fatal(err)
	}
	if err := o.check(); err != nil || o.floor {
		t.Errorf("a floor without an image of nodes: %+v, %v", o, err)
	}
}
