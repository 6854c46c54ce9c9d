package snapshot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dind-cluster/dind-cluster/cluster/paths"
	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// Volume is the volume of a top-level container into which a snapshot is restored.
type Volume struct {
	Root string
	// Restored is the file, below Root, with the manifest of the snapshot that the volume came from;
	// Restoring exists from the first moment of restoring until all of it is on the disk.
	Restored, Restoring string
	// BootID is the machine's: a file that is on the disk only in part is whole until the machine
	// goes down.
	BootID string
}

// Here returns the volume of this container.
func Here() (Volume, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return Volume{}, err
	}
	return Volume{Root: paths.DockerRoot, Restored: paths.Restored, Restoring: paths.Restoring, BootID: strings.TrimSpace(string(data))}, nil
}

// Result says when a start has restored a snapshot.
type Result struct {
	Start time.Time     `json:"start"`
	Took  time.Duration `json:"took"`
}

// Write writes the result to a file, for ReadResult in another process.
func (r Result) Write(path string) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}

// ReadResult reads what Write wrote. If there is no file, the error wraps os.ErrNotExist.
func ReadResult(path string) (Result, error) {
	var r Result
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	return r, err
}

// Find returns the snapshot at path if it is to be restored into the volume. from is the manifest of
// the one that the volume came from, or will have come from; nil if it came from none.
func (v Volume) Find(path string, here func() (Fit, error)) (snapshot *File, from *Manifest, err error) {
	from, err = v.readRestored()
	if err != nil {
		return nil, nil, err
	}
	whole, used, err := v.look(from)
	if err != nil {
		return nil, nil, err
	}
	if whole {
		// The snapshot was for the first start. What became of it since is no reason not to start.
		if other, err := readManifestOf(path); err == nil && (from == nil || other.ID != from.ID) {
			return nil, nil, fmt.Errorf("the snapshot %s cannot be restored: the volume %s is in use already (%s); start a container with a new volume, or without the snapshot", path, v.Root, used)
		}
		return nil, from, nil
	}
	snapshot, err = Open(path)
	switch {
	case errors.Is(err, ErrNone) && used == "":
		return nil, nil, nil
	case errors.Is(err, ErrNone):
		return nil, nil, fmt.Errorf("the volume %s has a part of a cluster: a snapshot was being restored when the machine went down, and now there is none at %s; start a container with a new volume, or with the snapshot", v.Root, path)
	case err != nil:
		return nil, nil, err
	}
	h, err := here()
	if err == nil {
		if err = snapshot.Manifest.Check(h); err != nil {
			err = fmt.Errorf("the snapshot %s cannot be restored: %w", path, err)
		}
	}
	if err != nil {
		snapshot.Close()
		return nil, nil, err
	}
	return snapshot, &snapshot.Manifest, nil
}

func readManifestOf(path string) (Manifest, error) {
	f, err := os.Open(path)
	if err != nil {
		return Manifest{}, err
	}
	defer f.Close()
	return ReadManifest(f)
}

func (v Volume) readRestored() (*Manifest, error) {
	data, err := os.ReadFile(v.Restored)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	m := &Manifest{}
	if err == nil {
		err = json.Unmarshal(data, m)
	}
	if err != nil {
		return nil, fmt.Errorf("reading what the volume was restored from: %w", err)
	}
	return m, nil
}

// look reports whether the volume has something to keep: anything but a snapshot that was restored in
// part. used is one of its files, or "" if it is empty.
func (v Volume) look(from *Manifest) (whole bool, used string, err error) {
	entries, err := os.ReadDir(v.Root)
	if err != nil {
		return false, "", err
	}
	for _, e := range entries {
		if name := e.Name(); name != lostAndFound {
			used = name
			break
		}
	}
	boot, err := os.ReadFile(v.Restoring)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return used != "", used, nil
	case err != nil:
		return false, "", err
	}
	return from != nil && string(boot) == v.BootID, used, nil
}

// lostAndFound is what an ext4 file system always has.
const lostAndFound = "lost+found"

// Restore verifies the snapshot and puts its files into the volume. Then finish, which may be nil,
// adds what else there should be. If anything fails, the volume is empty again.
func (v Volume) Restore(ctx context.Context, f *File, finish func() error) (err error) {
	if err := f.Verify(ctx); err != nil {
		return err
	}
	if err := v.clear(); err != nil {
		return err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(v.Root, &st); err != nil {
		return &os.PathError{Op: "statfs", Path: v.Root, Err: err}
	}
	if free := int64(st.Bavail) * st.Bsize; free < f.Manifest.Disk {
		return fmt.Errorf("%w: the cluster in the snapshot takes %d MB of %s, and %d MB are free", ErrNoRoom, f.Manifest.Disk>>20, v.Root, free>>20)
	}
	if err := renameio.WriteFile(v.Restoring, []byte(v.BootID), 0o600, renameio.WithTempDir(v.Root)); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, v.clear(), os.Remove(v.Restoring))
		}
	}()
	if err := f.Extract(ctx, v.Root); err != nil {
		return err
	}
	if finish != nil {
		if err := finish(); err != nil {
			return err
		}
	}
	data, err := writeDocument(f.Manifest)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(v.Restored), 0o700); err != nil {
		return err
	}
	return renameio.WriteFile(v.Restored, data, 0o600, renameio.WithTempDir(filepath.Dir(v.Restored)))
}

// clear removes all that is in the volume, but for the mark.
func (v Volume) clear() error {
	entries, err := os.ReadDir(v.Root)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(v.Root, e.Name())
		if e.Name() == lostAndFound || path == v.Restoring {
			continue
		}
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("removing what an interrupted restore has left: %w", err)
		}
	}
	return nil
}

// Keep brings all of the volume to the disk and removes the mark, if there is one. Before, a failure
// of the machine's power would have the snapshot restored once more.
func (v Volume) Keep() error {
	if _, err := os.Stat(v.Restoring); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	f, err := os.Open(v.Root)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return fmt.Errorf("bringing the restored cluster to the disk: %w", err)
	}
	if err := os.Remove(v.Restoring); err != nil {
		return err
	}
	return f.Sync()
}
