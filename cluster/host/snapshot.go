package host

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"github.com/dind-cluster/dind-cluster/cluster/paths"
	"github.com/dind-cluster/dind-cluster/cluster/snapshot"
	"github.com/dind-cluster/dind-cluster/internal/docker"
	"github.com/dind-cluster/dind-cluster/internal/progress"
)

// Snapshot is what a cluster is restored from.
type Snapshot struct {
	Manifest snapshot.Manifest
	// Path is the file; "" means that the image has it.
	Path string
	// FreshKeys gives the cluster keys of its own.
	FreshKeys bool
	// FreePorts publishes the nodes' ports as Docker chooses them, in place of the ports of the cluster
	// that was saved.
	FreePorts bool
}

// freePorts reports whether the nodes' ports may be published as any ports of the Docker host.
func (r Request) freePorts() bool { return r.Snapshot != nil && r.Snapshot.FreePorts }

// SaveSnapshot writes a snapshot of a running cluster to a file, which is there in the end as a whole
// or as it was before.
func (l *Launcher) SaveSnapshot(ctx context.Context, name, path string) error {
	c, err := l.running(ctx, name)
	if err != nil {
		return err
	}
	f, err := renameio.NewPendingFile(path, renameio.WithTempDir(filepath.Dir(path)), renameio.WithStaticPermissions(0o600))
	if err != nil {
		return err
	}
	defer f.Cleanup()
	if err := l.saveSnapshot(ctx, c, f); err != nil {
		return err
	}
	return f.CloseAtomicallyReplace()
}

func (l *Launcher) saveSnapshot(ctx context.Context, c *docker.Container, out io.Writer) error {
	return l.Docker.ExecStreams(ctx, c.ID, docker.Streams{Out: out, Err: l.Log}, "runner", "snapshot", "save", "--image", c.Config.Image)
}

// SaveSnapshotImage makes an image of a running cluster's own image and a snapshot of the cluster:
// each container of it brings the cluster back.
func (l *Launcher) SaveSnapshotImage(ctx context.Context, name, ref string) error {
	c, err := l.running(ctx, name)
	if err != nil {
		return err
	}
	earlier, err := l.replaceable(ctx, ref, c.Image)
	if err != nil {
		return err
	}
	spool, err := os.CreateTemp("", "dind-cluster-snapshot-")
	if err != nil {
		return err
	}
	defer spool.Close()
	if err := os.Remove(spool.Name()); err != nil {
		return err
	}
	if err := l.saveSnapshot(ctx, c, spool); err != nil {
		return err
	}
	step := l.Progress.Step("Making the image %s", ref)
	size, err := l.commit(ctx, c.Image, ref, spool)
	if err == nil && earlier != "" {
		_, err = l.Docker.RemoveNamelessImage(ctx, earlier)
	}
	if err != nil {
		step.Fail("")
		return docker.ExplainDiskFull(err)
	}
	step.Done("%s more than %s", progress.Size(size), c.Config.Image)
	return nil
}

// replaceable returns the ID of the image that has a name already; "" if there is none. It refuses
// the name of the image that a cluster was made of.
func (l *Launcher) replaceable(ctx context.Context, ref, own string) (string, error) {
	old, err := l.Docker.InspectImage(ctx, ref)
	switch {
	case errors.Is(err, docker.ErrNotFound):
		return "", nil
	case err != nil:
		return "", err
	case old.ID == own:
		return "", fmt.Errorf("%s is the image that the cluster was made of: choose another name for that with the snapshot", ref)
	}
	return old.ID, nil
}

// commit makes an image with one more layer: the snapshot. It returns how large that is.
func (l *Launcher) commit(ctx context.Context, base, ref string, file *os.File) (size int64, err error) {
	id, err := l.Docker.Detached().Create(context.WithoutCancel(ctx), base)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, l.dispose(ctx, id)) }()
	if size, err = l.deliver(ctx, id, file); err != nil {
		return 0, err
	}
	return size, l.Docker.Do(ctx, "make the image "+ref, "commit", id, ref)
}

// dispose removes a container that was never started, even though ctx has ended.
func (l *Launcher) dispose(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
	defer cancel()
	return l.Docker.Detached().Remove(ctx, id)
}

// deliver gives a container that has not started a snapshot, and returns its size.
func (l *Launcher) deliver(ctx context.Context, id string, file *os.File) (int64, error) {
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	r, w := io.Pipe()
	go func() {
		archive := tar.NewWriter(w)
		err := archive.WriteHeader(&tar.Header{Name: strings.TrimPrefix(paths.Snapshot, "/"), Mode: 0o600, Size: size, ModTime: time.Now()})
		if err == nil {
			_, err = io.Copy(archive, io.NewSectionReader(file, 0, size))
		}
		if err == nil {
			err = archive.Close()
		}
		w.CloseWithError(err)
	}()
	err = l.Docker.Stream(ctx, docker.Streams{In: r}, "copy the snapshot to the container", "cp", "-", id+":/")
	r.CloseWithError(io.ErrClosedPipe)
	return size, err
}

// ReadSnapshot looks at a file with a snapshot, and refuses one that is not whole.
func ReadSnapshot(path string) (*Snapshot, error) {
	f, err := snapshot.Open(path)
	if errors.Is(err, snapshot.ErrNone) {
		return nil, fmt.Errorf("reading the snapshot: open %s: %w", path, os.ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	return &Snapshot{Manifest: f.Manifest, Path: path}, f.Close()
}

// ImageSnapshot looks at the snapshot in an image of the local Docker.
func (l *Launcher) ImageSnapshot(ctx context.Context, ref string) (_ *Snapshot, err error) {
	id, err := l.Docker.Detached().Create(context.WithoutCancel(ctx), ref)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.dispose(ctx, id)) }()
	// The manifest is at the beginning; the rest may be long.
	reading, cancel := context.WithCancel(ctx)
	defer cancel()
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := l.Docker.Stream(reading, docker.Streams{Out: w}, "read the snapshot in the image "+ref, "cp", id+":"+paths.Snapshot, "-")
		w.CloseWithError(err)
		done <- err
	}()
	archive := tar.NewReader(r)
	var m snapshot.Manifest
	if _, err = archive.Next(); err == nil {
		m, err = snapshot.ReadManifest(archive)
	}
	cancel()
	r.CloseWithError(io.ErrClosedPipe)
	if failed := (*docker.Error)(nil); errors.As(<-done, &failed) && ctx.Err() == nil && strings.Contains(failed.Stderr, paths.Snapshot) {
		return nil, fmt.Errorf("the image %s has no snapshot in it", ref)
	}
	if err != nil {
		return nil, fmt.Errorf("the snapshot in the image %s: %w", ref, err)
	}
	return &Snapshot{Manifest: m}, nil
}

// check returns an error if no image could restore the snapshot here.
func (s *Snapshot) check() error {
	if s.Manifest.Architecture != runtime.GOARCH {
		return fmt.Errorf("the snapshot was made on another architecture, %s, and this is %s", s.Manifest.Architecture, runtime.GOARCH)
	}
	return nil
}

// give gives a container the snapshot, unless its image has it.
func (l *Launcher) give(ctx context.Context, id string, s *Snapshot) error {
	if s == nil || s.Path == "" {
		return nil
	}
	file, err := os.Open(s.Path)
	if err != nil {
		return fmt.Errorf("reading the snapshot: %w", err)
	}
	defer file.Close()
	_, err = l.deliver(ctx, id, file)
	return err
}

// forget removes the copy of a snapshot from a container that has been restored.
func (l *Launcher) forget(ctx context.Context, id string, s *Snapshot) error {
	if s == nil || s.Path == "" {
		return nil
	}
	_, err := l.Docker.Exec(ctx, id, "rm", paths.Snapshot)
	return err
}
