// Package store gives containerd images that a build has unpacked into directories of an image.
//
// Such a directory, a group, is laid out as containerd's own root directory is: the trees of the
// snapshots, the blobs of manifests and configs, and in one of the groups the two databases that
// tell of all of them. Seed makes a root directory from groups. What it writes are copies of the
// databases and a symbolic link for each blob and for each snapshot but the smallest, so that it
// takes milliseconds, and any number of containerds share the trees. They are never written to: a
// container's own changes go to a snapshot of its own above them, and to remove an image removes
// links.
//
// A link needs an overlay whose lower directory is in the group and whose upper directory is in the
// root directory. The kernel stacks overlays two deep at most (FILESYSTEM_MAX_STACK_DEPTH in
// https://github.com/torvalds/linux/blob/v6.12/include/linux/fs.h), and some file systems cannot
// lie below one. Seed tries it, and copies the trees where it does not work.
package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dind-cluster/dind-cluster/image/store/layout"
)

// Paths in a group, which are those in containerd's root directory.
const (
	metadataDB  = layout.Metadata
	snapshotsDB = layout.SnapshotMetadata
	// Snapshots has a directory for each snapshot, with its tree in "fs".
	Snapshots = layout.Snapshots
	blobs     = layout.Blobs
	// index names a group's images, as in an OCI layout.
	index = layout.Index
	// marker, in a root directory that was seeded, is a symbolic link to the identity of the
	// groups. A short link, unlike a file, has no content that a power failure could lose.
	marker = "dind-cluster.store"
)

// The directories of containerd's plugins in its root directory.
var (
	metadataDir    = filepath.Dir(metadataDB)
	snapshotterDir = filepath.Dir(snapshotsDB)
	contentDir     = layout.Content
)

// copyTime bounds the copy of one tree that cannot be linked.
const copyTime = 10 * time.Minute

// How is what Seed did.
type How string

// Linked: the root directory shares the groups' trees. Copied: it has copies of some or all of
// them. Kept: it was seeded by an earlier start and is as it was.
const (
	Linked How = "linked"
	Copied How = "copied"
	Kept   How = "kept"
)

// Result describes what Seed did.
type Result struct {
	// Images is the number of images, not counting further names of one.
	Images int `json:"images"`
	How    How `json:"how"`
	// Why is the reason that they were copied.
	Why   string        `json:"why,omitempty"`
	Start time.Time     `json:"start"`
	Took  time.Duration `json:"took"`
}

// String returns the result in a few words: "linked 7 images".
func (r Result) String() string {
	images := fmt.Sprintf("%d images", r.Images)
	if r.Images == 1 {
		images = "1 image"
	}
	s := string(r.How) + " " + images
	if r.Why != "" {
		s += ", since they cannot be shared: " + r.Why
	}
	return s
}

// Write writes the result to a file, for Read in another process.
func (r Result) Write(path string) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}

// Read reads what Write wrote. If there is no file, the error wraps os.ErrNotExist.
func Read(path string) (Result, error) {
	var r Result
	data, err := os.ReadFile(path)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return r, fmt.Errorf("reading %s: %w", path, err)
	}
	return r, nil
}

// Seed makes containerd's root directory from the groups, before containerd starts for the first
// time; the directory must exist, as the mount point of a volume does. If an earlier call was
// interrupted, it starts over. If containerd's databases are there, it only checks that they came
// from the same groups and that no link dangles: later changes to the images are the user's.
//
// Nothing is synced to the disk, which could take longer than all the rest: containerd does it with
// its databases before it has a container. Databases that have lost their end by then, with the
// machine's power, count as not there.
func Seed(ctx context.Context, root string, groups []string) (Result, error) {
	start := time.Now()
	r, err := seed(ctx, root, groups)
	if err != nil {
		return r, fmt.Errorf("putting images into %s: %w", root, err)
	}
	r.Start, r.Took = start, time.Since(start)
	return r, nil
}

func seed(ctx context.Context, root string, paths []string) (Result, error) {
	groups, id, err := openAll(paths)
	if err != nil {
		return Result{}, err
	}
	images := 0
	for _, g := range groups {
		images += g.images
	}
	metadata, err := one(groups, metadataDB)
	if err != nil {
		return Result{}, err
	}
	snapshots, err := one(groups, snapshotsDB)
	if err != nil {
		return Result{}, err
	}
	done, err := complete(root, metadata, snapshots)
	if err != nil {
		return Result{}, err
	}
	if done {
		return Result{Images: images, How: Kept}, check(root, id)
	}
	for _, dir := range []string{metadataDir, snapshotterDir, contentDir, marker} {
		if err := os.RemoveAll(filepath.Join(root, dir)); err != nil {
			return Result{}, fmt.Errorf("removing what an interrupted start has left: %w", err)
		}
	}
	for _, dir := range []string{metadataDir, Snapshots, blobs} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o700); err != nil {
			return Result{}, err
		}
	}
	r := Result{Images: images, How: Linked}
	for _, g := range groups {
		why, err := g.shareable(root)
		if err != nil {
			return Result{}, err
		}
		put := link
		if why != nil {
			put = copyTree
			r.How, r.Why = Copied, why.Error()
		}
		for _, entry := range g.entries {
			from, to := filepath.Join(g.path, entry), filepath.Join(root, entry)
			put := put
			if strings.HasPrefix(entry, Snapshots) {
				if few, err := small(from); err != nil {
					return Result{}, err
				} else if few {
					put = copySynced
				}
			}
			if err := put(ctx, from, to); err != nil {
				return Result{}, err
			}
		}
	}
	// The metadata come last: if they are there, so is the rest.
	if err := copyFile(snapshots, filepath.Join(root, snapshotsDB)); err != nil {
		return Result{}, err
	}
	if err := os.Symlink(id, filepath.Join(root, marker)); err != nil {
		return Result{}, err
	}
	return r, copyFile(metadata, filepath.Join(root, metadataDB))
}

// openAll opens groups, and returns what identifies all of them together.
func openAll(paths []string) (groups []*group, id string, err error) {
	identity := sha256.New()
	for _, path := range paths {
		g, err := open(path)
		if err != nil {
			return nil, "", err
		}
		groups = append(groups, g)
		fmt.Fprintf(identity, "%s %s\n", path, g.identity)
	}
	return groups, hex.EncodeToString(identity.Sum(nil)[:16]), nil
}

// Identity returns what identifies groups. Linked is the reason that a root directory cannot have
// links to them; nil if it can.
func Identity(root string, paths []string) (id string, linked error, err error) {
	groups, id, err := openAll(paths)
	if err != nil {
		return "", nil, err
	}
	for _, g := range groups {
		if linked, err = g.shareable(root); linked != nil || err != nil {
			return id, linked, err
		}
	}
	return id, nil, nil
}

// Seeded returns what identifies the groups that a root directory was seeded from, and whether it has
// links to them.
func Seeded(root string) (id string, linked bool, err error) {
	if id, err = os.Readlink(filepath.Join(root, marker)); err != nil {
		return "", false, err
	}
	entries, err := os.ReadDir(filepath.Join(root, Snapshots))
	for _, e := range entries {
		linked = linked || e.Type() == fs.ModeSymlink
	}
	return id, linked, err
}

// Groups returns the paths of the groups below a directory, sorted. It returns an error if there
// are none.
func Groups(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("reading the images: %w", err)
	}
	if len(entries) == 0 {
		return nil, fmt.Errorf("reading the images: %s is empty", dir)
	}
	var groups []string
	for _, e := range entries {
		groups = append(groups, filepath.Join(dir, e.Name()))
	}
	return groups, nil
}

// group is a directory with a part of a store.
type group struct {
	path string
	// images is how many images index.json names.
	images int
	// entries are the paths of the snapshots and blobs, relative to path.
	entries []string
	// identity is a hash of what the group has.
	identity string
}

func open(path string) (*group, error) {
	g := &group{path: path}
	identity := sha256.New()
	data, err := os.ReadFile(filepath.Join(path, index))
	switch {
	case err == nil:
		if g.images, err = count(data); err != nil {
			return nil, fmt.Errorf("reading %s: %w", filepath.Join(path, index), err)
		}
		identity.Write(data)
	case !errors.Is(err, os.ErrNotExist):
		return nil, err
	}
	for _, dir := range []string{Snapshots, blobs} {
		entries, err := os.ReadDir(filepath.Join(path, dir))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries {
			g.entries = append(g.entries, filepath.Join(dir, e.Name()))
			fmt.Fprintf(identity, "\n%s/%s", dir, e.Name())
		}
	}
	if len(g.entries) == 0 {
		return nil, fmt.Errorf("%s has no images in it", path)
	}
	g.identity = hex.EncodeToString(identity.Sum(nil))
	return g, nil
}

// count returns how many images an OCI index names, each once, however many names it has.
func count(index []byte) (int, error) {
	var layout struct {
		Manifests []struct{ Digest string }
	}
	if err := json.Unmarshal(index, &layout); err != nil {
		return 0, err
	}
	digests := map[string]bool{}
	for _, m := range layout.Manifests {
		if m.Digest == "" {
			return 0, errors.New("an image without a digest")
		}
		digests[m.Digest] = true
	}
	return len(digests), nil
}

// one returns the path of a file in the one group that has it. It returns an error if none or
// several do.
func one(groups []*group, name string) (string, error) {
	var found []string
	for _, g := range groups {
		path := filepath.Join(g.path, name)
		if _, err := os.Stat(path); err == nil {
			found = append(found, path)
		} else if !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
	}
	if len(found) != 1 {
		var paths []string
		for _, g := range groups {
			paths = append(paths, g.path)
		}
		return "", fmt.Errorf("one of %s must have %s, and %d do", strings.Join(paths, ", "), name, len(found))
	}
	return found[0], nil
}

// shareable tries whether a container whose changes are below root can have its image in the group.
// If it cannot, why is the reason. err means that not even an image below root itself could be
// used.
func (g *group) shareable(root string) (why, err error) {
	for _, entry := range g.entries {
		lower := filepath.Join(g.path, entry, "fs")
		if !strings.HasPrefix(entry, Snapshots) {
			continue
		}
		if why = overlay(root, lower); why == nil {
			return nil, nil
		}
		own, err := os.MkdirTemp(root, ".lower-")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(own)
		if err := overlay(root, own); err != nil {
			return nil, fmt.Errorf("containers cannot have their files there: %w; the directory or volume must lie on a file system that can be the upper part of an overlay, such as ext4, xfs or btrfs", err)
		}
		return why, nil
	}
	return nil, nil // only blobs
}

// overlay mounts an overlay on a lower directory for a moment, with the upper one below root.
func overlay(root, lower string) (err error) {
	dir, err := os.MkdirTemp(root, ".trial-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	upper, work, merged := filepath.Join(dir, "upper"), filepath.Join(dir, "work"), filepath.Join(dir, "merged")
	for _, d := range []string{upper, work, merged} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return err
		}
	}
	options := "lowerdir=" + lower + ",upperdir=" + upper + ",workdir=" + work
	if err := unix.Mount("overlay", merged, "overlay", 0, options); err != nil {
		if errors.Is(err, unix.EINVAL) {
			// The kernel says more in its own log only.
			return fmt.Errorf("mounting an overlay of %s: %w, as where overlays are stacked two deep already or the file system does not take part in them", lower, err)
		}
		return fmt.Errorf("mounting an overlay of %s: %w", lower, err)
	}
	defer func() {
		if uerr := unix.Unmount(merged, 0); uerr != nil {
			err = errors.Join(err, fmt.Errorf("unmounting %s: %w", merged, uerr))
		}
	}()
	// Where the upper file system lacks something, the kernel mounts the overlay read-only.
	if err := os.WriteFile(filepath.Join(merged, ".trial"), nil, 0o600); err != nil {
		return fmt.Errorf("writing to an overlay of %s: %w", lower, err)
	}
	return nil
}

// small reports whether a snapshot has so little in it that a copy takes no longer than a link. A
// copy can do more: its file system, unlike an overlay, has idmapped mounts (mount_setattr(2)),
// which containerd uses for pods in a user namespace of their own. Each such pod needs the image of
// pause, which is one file.
func small(snapshot string) (few bool, err error) {
	entries, size := 0, int64(0)
	err = filepath.WalkDir(snapshot, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		entries++
		if info.Mode().IsRegular() {
			size += info.Size()
		}
		if few = entries <= 8 && size <= 1<<20; !few {
			return fs.SkipAll
		}
		return nil
	})
	return few, err
}

// copySynced copies a small tree onto the disk: unlike a link, a file can be empty after a power
// failure.
func copySynced(ctx context.Context, from, to string) error {
	if err := copyTree(ctx, from, to); err != nil {
		return err
	}
	return filepath.WalkDir(to, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		return Sync(path)
	})
}

// Sync brings a file or a directory to the disk.
func Sync(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func link(_ context.Context, from, to string) error { return os.Symlink(from, to) }

// copyTree copies a file or a tree with all that a file system knows of it.
func copyTree(ctx context.Context, from, to string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, copyTime, fmt.Errorf("it took longer than %v", copyTime))
	defer cancel()
	// Not --archive, with which lost attributes are no error.
	cmd := exec.CommandContext(ctx, "cp", "--recursive", "--no-dereference", "--no-target-directory", "--reflink=auto",
		"--preserve=mode,ownership,timestamps,links,xattr", from, to)
	out, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return fmt.Errorf("copying %s: %w: %s", from, err, bytes.TrimSpace(out))
}

// copyFile copies a file so that the copy is there either completely or not at all.
func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.WriteFile(to+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(to+".new", to)
}

// complete reports whether a root directory has whole databases. They never shrink.
func complete(root, metadata, snapshots string) (bool, error) {
	for name, original := range map[string]string{metadataDB: metadata, snapshotsDB: snapshots} {
		have, err := os.Stat(filepath.Join(root, name))
		if errors.Is(err, os.ErrNotExist) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		least, err := os.Stat(original)
		if err != nil {
			return false, err
		}
		if have.Size() < least.Size() {
			return false, nil
		}
	}
	return true, nil
}

// check looks at a root directory that is in use.
func check(root, id string) error {
	have, err := os.Readlink(filepath.Join(root, marker))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if have != id {
		return errors.New("it is in use already, with the images of another version: give the container a new volume, or start it from the image that it was made with")
	}
	for _, dir := range []string{Snapshots, blobs} {
		entries, err := os.ReadDir(filepath.Join(root, dir))
		if err != nil {
			return err
		}
		for _, e := range entries {
			path := filepath.Join(root, dir, e.Name())
			if _, err := os.Stat(path); err != nil {
				return fmt.Errorf("a part of an image is no longer there: %w", err)
			}
		}
	}
	return nil
}
