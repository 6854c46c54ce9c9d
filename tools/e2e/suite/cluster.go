package suite

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Server asks the cluster for its version, and so finds out whether there is one: e2e.test itself
// would try for minutes before it says so.
func (s *Suite) Server(ctx context.Context) (string, error) {
	out, err := s.Ask(ctx, "get", "--raw", "/version")
	if err != nil {
		return "", fmt.Errorf("the cluster of %s does not answer: %w", s.Kubeconfig, err)
	}
	var version struct{ GitVersion string }
	if err := json.Unmarshal(out, &version); err != nil || version.GitVersion == "" {
		return "", fmt.Errorf("the API server of %s does not tell its version: %.200q", s.Kubeconfig, bytes.TrimSpace(out))
	}
	return version.GitVersion, nil
}

// Nodes returns the number of nodes that specs can start pods on. e2e.test would count them itself,
// but only in the first of its processes; in the others every spec that needs two nodes skips
// itself for having -1: https://github.com/kubernetes/kubernetes/blob/v1.37.2/test/e2e/e2e.go#L213
func (s *Suite) Nodes(ctx context.Context) (int, error) {
	out, err := s.Ask(ctx, "get", "--raw", "/api/v1/nodes")
	if err != nil {
		return 0, fmt.Errorf("asking the cluster of %s for its nodes: %w", s.Kubeconfig, err)
	}
	n, err := schedulable(out)
	if err != nil {
		return 0, fmt.Errorf("reading the nodes of the cluster of %s: %w", s.Kubeconfig, err)
	}
	return n, nil
}

// schedulable counts the nodes of a list as e2e.test does (GetReadySchedulableNodes in
// test/e2e/framework/node): those that are ready, not cordoned, and without a taint that keeps
// ordinary pods away.
func schedulable(list []byte) (n int, err error) {
	var nodes struct {
		Items []struct {
			Spec struct {
				Unschedulable bool
				Taints        []struct{ Effect string }
			}
			Status struct {
				Conditions []struct{ Type, Status string }
			}
		}
	}
	if err := json.Unmarshal(list, &nodes); err != nil {
		return 0, err
	}
	for _, node := range nodes.Items {
		ready := false
		closed := node.Spec.Unschedulable
		for _, c := range node.Status.Conditions {
			switch c.Type {
			case "Ready":
				ready = c.Status == "True"
			case "NetworkUnavailable":
				closed = closed || c.Status != "False"
			}
		}
		for _, t := range node.Spec.Taints {
			closed = closed || t.Effect == "NoSchedule" || t.Effect == "NoExecute"
		}
		if ready && !closed {
			n++
		}
	}
	return n, nil
}

// askTime is how long kubectl may take: a cluster that has failed may not answer.
const askTime = 20 * time.Second

// Ask runs kubectl and returns what it prints, also if it fails.
func (s *Suite) Ask(ctx context.Context, args ...string) ([]byte, error) {
	args = append([]string{"--kubeconfig", s.Kubeconfig, "--request-timeout", "10s"}, args...)
	out, err := output(ctx, askTime, s.Kubectl, args...)
	if err != nil {
		err = fmt.Errorf("kubectl %s: %w", strings.Join(args[4:], " "), err)
	}
	return out, err
}
