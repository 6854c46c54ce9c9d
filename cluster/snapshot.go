package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dind-cluster/dind-cluster/cluster/lock"
	"github.com/dind-cluster/dind-cluster/cluster/nodes"
	"github.com/dind-cluster/dind-cluster/cluster/paths"
	"github.com/dind-cluster/dind-cluster/cluster/snapshot"
	"github.com/dind-cluster/dind-cluster/cluster/store"
	"github.com/dind-cluster/dind-cluster/cluster/timeline"
	"github.com/dind-cluster/dind-cluster/internal/docker"
	"github.com/dind-cluster/dind-cluster/internal/kubeapi"
	"github.com/dind-cluster/dind-cluster/internal/progress"
	"github.com/dind-cluster/dind-cluster/internal/version"
)

// snapshotReserve is how many bytes of the disk a snapshot leaves free while it is made: at less than
// 300 MB the kubelets would begin to evict pods.
const snapshotReserve = 1 << 30

// Save writes a snapshot of the cluster. hold is the command that calls snapshot.Keep; image is what
// the user calls this container's image, or "".
func Save(ctx context.Context, image string, hold []string, out io.Writer, log *progress.Printer) error {
	s, err := loadState(paths.State)
	if errors.Is(err, os.ErrNotExist) || err == nil && !s.created() {
		return errors.New("there is no cluster yet: it is still starting; `docker logs -f` shows how far it is")
	}
	if err != nil {
		return err
	}
	release, err := lock.Try(paths.Lock)
	if err != nil {
		return err
	}
	defer release()
	m := snapshot.Manifest{Version: version.Version, Image: image, Settings: s.Settings}
	if m.NodeImage, err = nodeImage(); err != nil {
		return err
	}
	if m.Store, m.Linked, err = store.Seeded(paths.DockerContainerd); err != nil {
		return fmt.Errorf("reading which images the cluster has: %w", err)
	}
	if err := checkNotPaused(ctx); err != nil {
		return err
	}
	// A cluster that does not work may be just what somebody wants to keep.
	if err := Health(ctx, s.Settings.Health); err != nil {
		log.Printf("the cluster is saved as it is: %v", err)
	}
	m.Kubernetes = serverVersion(ctx)
	source := snapshot.Source{
		Root:    paths.DockerRoot,
		Exclude: excluded,
		Reserve: snapshotReserve,
		Hold: func(ctx context.Context) (context.Context, func() error, error) {
			return snapshot.Hold(ctx, hold...)
		},
	}
	step := log.Step("making a snapshot")
	saved, err := source.Save(ctx, m, out)
	if err != nil {
		step.Fail("")
		return docker.ExplainDiskFull(err)
	}
	m = saved.Manifest
	step.Done("%d files, %s, in %s; it took %s, and the cluster stood still for %s",
		m.Files, progress.Size(m.Bytes), progress.Size(m.Size()), progress.Duration(saved.Took), progress.Duration(saved.Held))
	return nil
}

// checkNotPaused returns an error if a node is paused: its processes could not be stopped.
func checkNotPaused(ctx context.Context) error {
	client, err := docker.Find()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	list, err := nodes.All(ctx, client)
	if err != nil {
		return err
	}
	for _, c := range list {
		if c.State == "paused" {
			return fmt.Errorf("node %s is paused: have it go on first, as with `docker exec NAME docker unpause %s`", c.Names, c.Names)
		}
	}
	return nil
}

// serverVersion returns Kubernetes' version, or "" if the API server does not answer at once.
func serverVersion(ctx context.Context) string {
	config, err := adminKubeconfig()
	if err != nil {
		return ""
	}
	c := &cluster{}
	if c.api, err = kubeapi.New(config); err != nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if v := c.version(ctx); strings.HasPrefix(v, "v") {
		return v
	}
	return ""
}

// excluded reports whether a path below Docker's root directory is no part of the cluster.
func excluded(path string) bool {
	switch filepath.Join(paths.DockerRoot, path) {
	case paths.Restored, paths.Restoring, paths.FreshKeys, filepath.Join(paths.DockerRoot, "tmp"), filepath.Join(paths.DockerRoot, "lost+found"):
		return true
	}
	return false
}

// afterRestore finds out whether the entrypoint has restored a snapshot in this start.
func (c *cluster) afterRestore() error {
	r, err := snapshot.ReadResult(paths.Restore)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	c.restored = true
	c.spans.Add(timeline.Span{Name: "restoring the snapshot", Start: r.Start, End: r.Start.Add(r.Took)})
	return nil
}

// keepRestored brings a cluster that was restored to the disk.
func (c *cluster) keepRestored() {
	volume, err := snapshot.Here()
	if err == nil {
		err = volume.Keep()
	}
	if err != nil {
		c.log.Printf("%v", err)
	}
}
