package cluster

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dind-cluster/dind-cluster/cluster/logs"
	"github.com/dind-cluster/dind-cluster/cluster/paths"
	"github.com/dind-cluster/dind-cluster/internal/kubeapi"
)

// explain collects the logs of a start that failed, and prints those that most likely explain it.
func (c *cluster) explain(ctx context.Context, out io.Writer) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for _, f := range c.failures.all() {
		if f.Log != "" {
			fmt.Fprintf(out, "===== node %s\n%s", f.Node, f.Log)
		}
	}
	if c.api != nil {
		c.explainPods(ctx, out)
	}
	path := filepath.Join(paths.Logs, "logs.tar")
	if err := collect(ctx, path); err != nil {
		fmt.Fprintf(out, "collecting the logs: %v\n", err)
		return
	}
	name, _ := os.Hostname()
	fmt.Fprintf(out, "all logs of all nodes are in this container: docker cp %s:%s .\n", name, path)
}

func (c *cluster) explainPods(ctx context.Context, out io.Writer) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	var pods struct{ Items []kubeapi.Pod }
	if c.api.Get(ctx, "/api/v1/namespaces/kube-system/pods", &pods) != nil {
		return
	}
	var lines []string
	for _, p := range pods.Items {
		if ok, why := podReady(p, c.since()); !ok {
			lines = append(lines, fmt.Sprintf("%s on %q: %s", p.Metadata.Name, p.Spec.NodeName, why))
		}
	}
	if len(lines) > 0 {
		fmt.Fprintf(out, "===== pods that are not ready\n%s\n", strings.Join(lines, "\n"))
	}
}

func collect(ctx context.Context, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := logs.Collect(ctx, f); err != nil {
		return err
	}
	return f.Close()
}
