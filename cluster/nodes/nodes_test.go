package nodes

import (
	"slices"
	"strings"
	"testing"

	"github.com/dind-cluster/dind-cluster/internal/docker/dockertest"
)

func TestMain(m *testing.M) { dockertest.Main(m) }

func TestRunning(t *testing.T) {
	const filter = "ps --all --no-trunc --format {{json .}} --filter label=dind-cluster.node"
	client, _ := dockertest.New(t,
		dockertest.Reply{Args: filter + " --filter status=running", Stdout: `{"ID":"2","Names":"worker1"}` + "\n" + `{"ID":"1","Names":"control-plane"}` + "\n", Times: 1},
		dockertest.Reply{Args: filter + " --filter status=running", Times: 1},
		dockertest.Reply{Args: filter, Stdout: `{"ID":"3","Names":"worker2","State":"exited"}` + "\n", Times: 1},
	)
	if got, err := Running(t.Context(), client); err != nil || !slices.Equal(got, []string{"control-plane", "worker1"}) {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := Running(t.Context(), client); err == nil || !strings.Contains(err.Error(), "wait until the cluster is up") {
		t.Errorf("none is running: got %q, %v", got, err)
	}
	if got, err := All(t.Context(), client); err != nil || len(got) != 1 || got[0].Names != "worker2" {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := Running(t.Context(), client); err == nil {
		t.Error("no error when docker fails")
	}
}
