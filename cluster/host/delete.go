package host

import (
	"context"
	"errors"
	"strings"

	"github.com/dind-cluster/dind-cluster/internal/docker"
	"github.com/dind-cluster/dind-cluster/internal/kubeconfig"
)

// Delete removes a cluster and its kubeconfig entries, and reports whether there was one.
func (l *Launcher) Delete(ctx context.Context, name string, files ...*kubeconfig.File) (found bool, err error) {
	c, err := l.find(ctx, name)
	switch {
	case errors.Is(err, docker.ErrNotFound):
	case err != nil:
		return false, err
	default:
		found = true
		step := l.Progress.Step("Removing cluster %s", name)
		if err := l.Docker.Remove(ctx, c.ID); err != nil {
			step.Fail("")
			return true, err
		}
		step.Done("")
		// An image that was replaced while the cluster ran has lost its name, and now its
		// last user.
		if _, created := c.Config.Labels[label]; created && namesImage(c.Config.Image) {
			if _, err := l.Docker.RemoveNamelessImage(ctx, c.Image); err != nil {
				return true, err
			}
		}
	}
	for _, f := range files {
		if _, err := f.Remove(ctx, ContextName(name)); err != nil {
			return found, err
		}
	}
	return found, nil
}

// namesImage reports whether a container was asked for by a tag of its image, not by an ID.
func namesImage(ref string) bool {
	return strings.Contains(ref, ":") && !strings.HasPrefix(ref, "sha256:")
}
