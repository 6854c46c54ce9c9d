// Package layer builds one image layer: from packages, files and declared
// effects to a blob whose bytes depend on nothing else.
package layer

import "github.com/dind-cluster/dind-cluster/image/jsonfile"

// Spec describes a layer to build. The Bazel rule writes it, as JSON.
type Spec struct {
	// Name is the created_by of the layer in the image's history.
	Name string `json:"name"`
	// Debs are Debian package files.
	Debs []string `json:"debs,omitempty"`
	// Declarations are the files that declare the effects of the packages' scripts.
	Declarations []string `json:"declarations,omitempty"`
	Files        []File   `json:"files,omitempty"`
	Directories  []File   `json:"directories,omitempty"`
	Symlinks     []Link   `json:"symlinks,omitempty"`
	// Tars are tar archives, compressed or not, whose entries are added as they are.
	Tars []string `json:"tars,omitempty"`
	// Below is the state of the layers below; empty for the first layer.
	Below string `json:"below,omitempty"`
	// Compression is "zstd" (the default), "gzip" or "none".
	Compression string `json:"compression,omitempty"`
}

// File is a file or directory to copy, or, without a source, a directory to make.
type File struct {
	Source string `json:"source,omitempty"`
	Path   string `json:"path"`
	// Mode is octal; if it is empty, it is 0755 for what is executable and 0644 otherwise.
	Mode string `json:"mode,omitempty"`
	UID  int    `json:"uid,omitempty"`
	GID  int    `json:"gid,omitempty"`
	// Label names the source in messages.
	Label string `json:"label,omitempty"`
}

// Link is a symbolic link.
type Link struct {
	Path   string `json:"path"`
	Target string `json:"target"`
}

// ReadSpec reads a spec file.
func ReadSpec(path string) (*Spec, error) { return jsonfile.Read[Spec]("layer spec", path) }
