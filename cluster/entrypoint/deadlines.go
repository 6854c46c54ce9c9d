package entrypoint

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// grace is what the runner has, after its own deadline, for saying why it was missed.
const grace = time.Minute

// writeDeadlines bounds how long systemd waits for what the runner waits for, and for the runner itself. When a job's time is
// up, the cluster's OnFailure= says what was missing.
func writeDeadlines(dir string, timeout time.Duration) error {
	for unit, limit := range map[string]time.Duration{
		"docker.service":       timeout,
		"dind-cluster.service": timeout + grace,
	} {
		path := filepath.Join(dir, unit+".d", "timeout.conf")
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, fmt.Appendf(nil, "[Unit]\nJobTimeoutSec=%d\n", int(limit.Seconds())), 0o644); err != nil {
			return err
		}
	}
	return nil
}
