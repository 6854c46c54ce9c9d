package entrypoint

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// grace is the time that the runner has after its own deadline to explain why it was missed.
const grace = time.Minute

// writeDeadlines bounds how long systemd waits for Docker, which the runner needs, and for the
// runner itself (JobTimeoutSec= in systemd.unit(5)). When a job times out, the unit in OnFailure=
// explains what was missing.
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
