package failure

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestString(t *testing.T) {
	for _, test := range []struct {
		f         Failure
		explained bool
		want      string
	}{
		{Failure{"dind-cluster.service", "exit-code", "exited", "1"}, true, "failed (exit-code, exited 1)"},
		{Failure{"dind-cluster.service", "exit-code", "exited", "203"}, false, "failed (exit-code, exited 203)"},
		{Failure{"dind-cluster.service", "resources", "", ""}, false, "failed (resources, )"},
		{Failure{"dind-cluster.service", "signal", "killed", "KILL"}, false, "dind-cluster.service was killed (SIGKILL)"},
		{Failure{"dind-cluster.service", "oom-kill", "killed", "KILL"}, false, "not enough memory"},
		{Failure{"dind-cluster.service", "success", "", ""}, false, "needs did not come up"},
	} {
		if got := test.f.String(); !strings.Contains(got, test.want) || test.f.Explained() != test.explained {
			t.Errorf("%+v: got %q, explained: %t", test.f, got, test.f.Explained())
		}
	}
}

func TestExplain(t *testing.T) {
	var calls []string
	run := func(_ context.Context, name string, args ...string) ([]byte, error) {
		call := name + " " + strings.Join(args, " ")
		calls = append(calls, call)
		switch {
		case name == "systemctl":
			return []byte("docker.service        loaded failed     failed Docker Engine\ndind-failed.service loaded activating start  x\n"), nil
		case strings.HasSuffix(call, "--unit=docker.service"):
			return []byte("unable to configure the Docker daemon\n"), nil
		case strings.HasSuffix(call, "--unit=dind-cluster.service"):
			return []byte("no such journal\n"), errors.New("exit status 1")
		}
		return nil, nil
	}
	var out strings.Builder
	Failure{Unit: "dind-cluster.service"}.explain(t.Context(), &out, time.Unix(1700000000, 0), run)
	const want = "===== dind-cluster.service\nno such journal\nreading its journal: exit status 1\n===== docker.service\nunable to configure the Docker daemon\n"
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
	if last := calls[len(calls)-1]; !strings.Contains(last, "--since=@1700000000 ") {
		t.Errorf("not of this start alone: %s", last)
	}
}
