// Package load loads an image into a Docker engine and sends only the layers that the engine lacks.
package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/dind-cluster/dind-cluster/image"
	"github.com/dind-cluster/dind-cluster/internal/docker"
)

// Result describes what was sent and removed.
type Result struct {
	// ID is the image's, as the engine has it.
	ID string
	// Layers counts the image's layers, Sent those that were sent, and Bytes what was sent in all.
	Layers, Sent int
	Bytes        int64
	// Removed reports that the image that had the tag before has been removed.
	Removed bool
}

// Image makes img available under tag. If the engine has the image, it is only tagged; if it has
// the first layers, the others are sent; and if it rejects a part of an image, all of it is sent.
// An earlier build that had the tag is removed, unless it has another name or a container.
func Image(ctx context.Context, d *docker.Client, img v1.Image, tag string) (*Result, error) {
	earlier, err := earlierBuild(ctx, d, img, tag)
	if err != nil {
		return nil, err
	}
	r, err := bring(ctx, d, img, tag)
	if err == nil && earlier != "" {
		r.Removed, err = d.RemoveNamelessImage(ctx, earlier)
	}
	return r, err
}

// earlierBuild returns the ID of the image that has a tag, if by its labels it is a build of the
// same image.
func earlierBuild(ctx context.Context, d *docker.Client, img v1.Image, tag string) (string, error) {
	cf, err := img.ConfigFile()
	if err != nil {
		return "", fmt.Errorf("loading %s: %w", tag, err)
	}
	old, err := d.InspectImage(ctx, tag)
	if errors.Is(err, docker.ErrNotFound) {
		return "", nil
	} else if err != nil {
		return "", err
	}
	for _, label := range []string{"org.opencontainers.image.title", "org.opencontainers.image.vendor"} {
		if value := cf.Config.Labels[label]; value == "" || old.Config.Labels[label] != value {
			return "", nil
		}
	}
	return old.ID, nil
}

func bring(ctx context.Context, d *docker.Client, img v1.Image, tag string) (*Result, error) {
	config, err := img.ConfigName()
	if err != nil {
		return nil, fmt.Errorf("loading %s: %w", tag, err)
	}
	layers, err := img.Layers()
	if err != nil {
		return nil, fmt.Errorf("loading %s: %w", tag, err)
	}
	r := &Result{ID: config.String(), Layers: len(layers)}
	if err := tagPresent(ctx, d, r, img, tag); err == nil {
		return r, nil
	} else if ctx.Err() != nil {
		return nil, err
	}
	have, err := present(ctx, d, img)
	if err != nil {
		return nil, err
	}
	err = send(ctx, d, r, img, tag, have)
	if err != nil && have > 0 && ctx.Err() == nil {
		err = send(ctx, d, r, img, tag, 0)
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// tagPresent tags an image that the engine has. A classic engine knows images by their config's
// digest, one with containerd's image store by their manifest's:
// https://docs.docker.com/engine/storage/containerd/
func tagPresent(ctx context.Context, d *docker.Client, r *Result, img v1.Image, tag string) error {
	manifest, err := img.Digest()
	if err != nil {
		return err
	}
	for _, id := range []string{r.ID, manifest.String()} {
		if err = d.Do(ctx, "tag image "+tag, "image", "tag", id, tag); err == nil {
			r.ID = id
			return nil
		}
	}
	return err
}

// present counts the image's first layers that the engine has: the most that it shares with another
// image.
func present(ctx context.Context, d *docker.Client, img v1.Image) (int, error) {
	info, err := d.Info(ctx)
	if err != nil {
		return 0, err
	}
	for _, status := range info.DriverStatus {
		// This store takes whole images only.
		if status[0] == "driver-type" && strings.HasPrefix(status[1], "io.containerd.") {
			return 0, nil
		}
	}
	cf, err := img.ConfigFile()
	if err != nil {
		return 0, err
	}
	out, err := d.Output(ctx, "list images", "image", "ls", "--all", "--quiet", "--no-trunc")
	if err != nil {
		return 0, err
	}
	ids := strings.Fields(string(out))
	longest := 0
	for len(ids) > 0 {
		n := min(len(ids), 100)
		rootfs, err := d.Output(ctx, "look at images", append([]string{"image", "inspect", "--format", "{{json .RootFS.Layers}}"}, ids[:n]...)...)
		if err != nil {
			// An image may have gone since it was listed; what the others share still counts.
			var failed *docker.Error
			if !errors.As(err, &failed) || ctx.Err() != nil {
				return 0, err
			}
		}
		ids = ids[n:]
		for _, line := range strings.Split(strings.TrimSpace(string(rootfs)), "\n") {
			var diffIDs []string
			if json.Unmarshal([]byte(line), &diffIDs) == nil {
				longest = max(longest, shared(diffIDs, cf.RootFS.DiffIDs))
			}
		}
	}
	return longest, nil
}

func shared(have []string, want []v1.Hash) int {
	n := 0
	for n < len(have) && n < len(want) && have[n] == want[n].String() {
		n++
	}
	return n
}

// send streams the image, without its first skip layers, to docker load.
func send(ctx context.Context, d *docker.Client, r *Result, img v1.Image, tag string, skip int) error {
	pr, pw := io.Pipe()
	counted := &counter{w: pw}
	written := make(chan error, 1)
	go func() {
		err := image.WriteArchive(counted, img, tag, skip)
		pw.CloseWithError(err)
		written <- err
	}()
	err := d.Stream(ctx, docker.Streams{In: pr}, "load image "+tag, "image", "load", "--quiet")
	// The engine may have stopped reading.
	pr.CloseWithError(io.ErrClosedPipe)
	if writeErr := <-written; writeErr != nil && !errors.Is(writeErr, io.ErrClosedPipe) {
		return fmt.Errorf("reading image %s: %w", tag, writeErr)
	}
	if err != nil {
		return err
	}
	r.Sent, r.Bytes = r.Layers-skip, counted.n
	return nil
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
