package entrypoint

import (
	"context"
	"os"
	"time"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/cluster"
	"github.com/dind-cluster/dind-cluster/cluster/paths"
	"github.com/dind-cluster/dind-cluster/cluster/snapshot"
	"github.com/dind-cluster/dind-cluster/cluster/store"
	"github.com/dind-cluster/dind-cluster/internal/progress"
	"github.com/dind-cluster/dind-cluster/internal/version"
)

// restoreTime bounds the restoring of a snapshot.
const restoreTime = 30 * time.Minute

// findSnapshot returns the snapshot that this start has to restore; nil if there is none. If the
// cluster comes from a snapshot, be it at this start or at an earlier one, its settings become those
// that the user need not repeat.
func findSnapshot(base *v1alpha1.Cluster) (*snapshot.File, error) {
	volume, err := snapshot.Here()
	if err != nil {
		return nil, err
	}
	file, from, err := volume.Find(paths.Snapshot, fits)
	if err != nil || from == nil {
		return nil, err
	}
	*base = from.Settings
	if file == nil {
		// As they are by now.
		if *base, err = cluster.SavedSettings(); err != nil {
			return nil, err
		}
	}
	// These belong to the container.
	base.Networking.APIServerPort, base.Start.FreshKeys = 0, false
	return file, nil
}

// fits returns what a snapshot has to fit.
func fits() (snapshot.Fit, error) {
	groups, err := store.Groups(paths.Stores)
	if err != nil {
		return snapshot.Fit{}, err
	}
	id, unlinked, err := store.Identity(paths.DockerRoot, groups)
	return snapshot.Fit{Version: version.Version, Store: id, Unlinked: unlinked}, err
}

// restore puts the snapshot into the volume.
func restore(file *snapshot.File, freshKeys bool) error {
	defer file.Close()
	step := progress.New(os.Stdout).Step("restoring the snapshot")
	err := func() error {
		volume, err := snapshot.Here()
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(context.Background(), restoreTime)
		defer cancel()
		start := time.Now()
		if err := volume.Restore(ctx, file, func() error {
			if !freshKeys {
				return nil
			}
			return os.WriteFile(paths.FreshKeys, nil, 0o600)
		}); err != nil {
			return err
		}
		return snapshot.Result{Start: start, Took: time.Since(start)}.Write(paths.Restore)
	}()
	if err != nil {
		step.Fail("")
		return err
	}
	m := file.Manifest
	step.Done("%d files, %s, of %s", m.Files, progress.Size(m.Bytes), m.Created.Format(time.RFC3339))
	return nil
}
