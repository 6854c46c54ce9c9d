package suite

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Server asks the cluster for its version, and so finds out whether there is one: e2e.test itself would try for
// minutes before it says so.
func (s *Suite) Server(ctx context.Context) (string, error) {
	out, err := output(ctx, 20*time.Second, s.Kubectl, "--kubeconfig", s.Kubeconfig, "--request-timeout", "10s",
		"get", "--raw", "/version")
	if err != nil {
		return "", fmt.Errorf("the cluster of %s does not answer: %w", s.Kubeconfig, err)
	}
	var version struct{ GitVersion string }
	if err := json.Unmarshal([]byte(out), &version); err != nil || version.GitVersion == "" {
		return "", fmt.Errorf("the API server of %s does not tell its version: %.200q", s.Kubeconfig, strings.TrimSpace(out))
	}
	return version.GitVersion, nil
}
