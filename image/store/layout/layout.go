// Package layout has the paths in a store of unpacked images, whose directories are laid out as
// containerd's root directory.
package layout

const (
	// Index lists the images of all directories of a store. It and the databases are in only one of
	// them.
	Index = "index.json"
	// Metadata and SnapshotMetadata are the databases, of content and images, and of snapshots.
	Metadata         = "io.containerd.metadata.v1.bolt/meta.db"
	SnapshotMetadata = "io.containerd.snapshotter.v1.overlayfs/metadata.db"
	// Snapshots has a directory for each snapshot, by its number, and Files in it the layer's
	// files.
	Snapshots = "io.containerd.snapshotter.v1.overlayfs/snapshots"
	Files     = "fs"
	// Content is containerd's content store, and Blobs the directory of blobs in it.
	Content = "io.containerd.content.v1.content"
	Blobs   = Content + "/blobs/sha256"
)

// SnapshotsAnnotation of an image in the index lists the numbers of its snapshots, the lowest
// first, separated by spaces.
const SnapshotsAnnotation = "dind-cluster.snapshots"
