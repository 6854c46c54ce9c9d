package host

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/dind-cluster/dind-cluster/internal/docker"
)

// Logs copies what a cluster has printed so far.
func (l *Launcher) Logs(ctx context.Context, name string, follow bool, out io.Writer) error {
	c, err := l.find(ctx, name)
	if errors.Is(err, docker.ErrNotFound) {
		return fmt.Errorf("there is no cluster %q", name)
	} else if err != nil {
		return err
	}
	return l.Docker.Logs(ctx, c.ID, follow, out)
}

// NodeLogs writes the logs of all nodes, a tar archive.
func (l *Launcher) NodeLogs(ctx context.Context, name string, out io.Writer) error {
	c, err := l.running(ctx, name)
	if err != nil {
		return err
	}
	return l.Docker.ExecStreams(ctx, c.ID, docker.Streams{Out: out, Err: l.Log}, "runner", "logs")
}
