package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dind-cluster/dind-cluster/cluster/control"
	"github.com/dind-cluster/dind-cluster/internal/docker/dockertest"
)

// What is said on the command line reaches the runner, and its answer the user.
func TestVerbs(t *testing.T) {
	file := filepath.Join(t.TempDir(), "node.yaml")
	if err := os.WriteFile(file, []byte("role: worker"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args   string
		want   string // the request, or what is said if none is made
		status int
	}{
		{"node add --count 2 --label a=b --taint c:NoSchedule --role worker", `{"verb":"node add","role":"worker","count":2,"labels":["a=b"],"taints":["c:NoSchedule"]}`, 0},
		{"node add gpu --from " + file, `{"verb":"node add","nodes":["gpu"],"file":{"name":"` + file + `","data":"cm9sZTogd29ya2Vy"}}`, 0},
		{"node remove worker1 worker2 --force --timeout 3s", `{"verb":"node remove","nodes":["worker1","worker2"],"force":true,"timeout":3000000000}`, 0},
		{"node remove refused", `{"verb":"node remove","nodes":["refused"]}`, 2},
		{"scale 3", `{"verb":"scale","workers":3}`, 0},
		{"wait --for nodes=3 --for api", `{"verb":"wait","for":["nodes=3","api"]}`, 0},
		{"status --output json", `{"verb":"status","output":"json"}`, 0},
		{"node list", `{"verb":"node list","output":"text"}`, 0},
		{"unpause", `cluster "box" is not paused`, 1},
		{"node remove", "want the names of nodes", 2},
		{"node add --count 0", "--count 0: want 1 or more", 2},
		{"node add --from " + file + "x", "no such file", 1},
		{"node stop worker1 --timeout -1s", "--timeout -1s: want a duration", 2},
		{"scale", "want one number of workers", 2},
		{"scale 3x", `"3x": want a number of workers`, 2},
		{"wait ready", `unexpected argument "ready"`, 2},
		{"exec worker1", "want a node and a command", 2},
		{"cp a b", "want NODE:PATH", 2},
	} {
		var got bytes.Buffer
		i := image()
		i.Exec = func(in io.Reader, out, _ io.Writer, args ...string) int {
			control.Answer(t.Context(), io.NopCloser(in), nopCloser{out}, func(_ context.Context, r control.Request, _ func(control.Event)) error {
				if err := json.NewEncoder(&got).Encode(r); err != nil {
					return err
				}
				if len(r.Nodes) > 0 && r.Nodes[0] == "refused" {
					return control.Usage("refused")
				}
				return nil
			})
			return 0
		}
		client, engine := dockertest.New(t)
		engine.AddImage(i)
		if _, err := client.Run(t.Context(), "--name", "box", "dind-cluster:v1"); err != nil {
			t.Fatal(err)
		}
		var errs bytes.Buffer
		a := &app{stdout: io.Discard, stderr: &errs, newLauncher: with(client)}
		status := a.main(t.Context(), append([]string{"--name", "box"}, strings.Fields(test.args)...))
		if status != test.status || !strings.Contains(got.String()+errs.String(), test.want) {
			t.Errorf("%s: status %d, request %s, %s\nwant %d, %s", test.args, status, got.String(), errs.String(), test.status, test.want)
		}
	}
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }
