package host

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/dind-cluster/dind-cluster/internal/docker"
)

// Load sends an archive of images (docker save's or an OCI layout's) to all nodes of a cluster.
func (l *Launcher) Load(ctx context.Context, name string, archive io.Reader) error {
	c, err := l.running(ctx, name)
	if err != nil {
		return err
	}
	return l.Docker.ExecStreams(ctx, c.ID, docker.Streams{In: archive, Out: l.Log, Err: l.Log}, "loader", "load", "-")
}

// LoadImages sends images of the local Docker to all nodes of a cluster.
func (l *Launcher) LoadImages(ctx context.Context, name string, images ...string) error {
	// Otherwise the first error to arrive would be the loader's: an empty archive.
	if err := l.checkImages(ctx, images); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r, w := io.Pipe()
	saved := make(chan error, 1)
	go func() {
		err := l.Docker.Stream(ctx, docker.Streams{Out: w}, "save the images", append([]string{"save"}, images...)...)
		w.CloseWithError(err)
		saved <- err
	}()
	err := l.Load(ctx, name, r)
	if err != nil {
		cancel(err)
	}
	r.CloseWithError(err)
	if saveErr := <-saved; saveErr != nil && !errors.Is(saveErr, err) {
		return saveErr
	}
	return err
}

// checkImages checks that the local Docker has images.
func (l *Launcher) checkImages(ctx context.Context, images []string) error {
	var errs []error
	for _, image := range images {
		if _, err := l.Docker.InspectImage(ctx, image); errors.Is(err, docker.ErrNotFound) {
			errs = append(errs, fmt.Errorf("the local Docker has no image %q: build or `docker pull` it first", image))
		} else if err != nil {
			return err
		}
	}
	return errors.Join(errs...)
}
