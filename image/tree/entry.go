// Package tree holds the file tree of a layer while it is built: every path once, with its source,
// so that the message about a conflict can name both.
package tree

import (
	"archive/tar"
	"bytes"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"path"
	"strings"
	"time"
)

// xattrRecord begins the names of the PAX records with extended attributes.
const xattrRecord = "SCHILY.xattr."

// Entry is one path of the tree.
type Entry struct {
	// Path has no leading slash; directories have no trailing one.
	Path string `json:"path"`
	// Type is one of the tar type flags for files, directories, symbolic links,
	// devices and fifos. Hard links are files that share a Content.
	Type   byte   `json:"type"`
	Mode   int64  `json:"mode"`
	UID    int    `json:"uid,omitempty"`
	GID    int    `json:"gid,omitempty"`
	Size   int64  `json:"size,omitempty"`
	Link   string `json:"link,omitempty"`
	SHA256 string `json:"sha256,omitempty"`
	// Xattrs are bytes, which JSON would not keep in strings.
	Xattrs map[string][]byte `json:"xattrs,omitempty"`
	Major  int64             `json:"major,omitempty"`
	Minor  int64             `json:"minor,omitempty"`
	// Inode is set on files which are hard links of each other.
	Inode string `json:"inode,omitempty"`
	// Source names the package, file or declaration that the entry is from, for error messages.
	Source string `json:"source,omitempty"`

	Content Content `json:"-"`
	// Implied marks a directory that no source names, but that has to be there for what is in it.
	Implied bool `json:"implied,omitempty"`

	// ModTime is not set in layers of packages and files, which all have the same time.
	ModTime time.Time `json:"modTime,omitzero"`
}

// Content opens the bytes of a file.
type Content func() (io.ReadCloser, error)

// Sum returns a file's checksum in hexadecimal, of the kind that a new hash computes.
func (c Content) Sum(sum hash.Hash) (string, error) {
	r, err := c()
	if err != nil {
		return "", err
	}
	defer r.Close()
	if _, err := io.Copy(sum, r); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// IsDir reports whether the entry is a directory.
func (e *Entry) IsDir() bool { return e.Type == tar.TypeDir }

// IsLink reports whether the entry is a symbolic link.
func (e *Entry) IsLink() bool { return e.Type == tar.TypeSymlink }

// Readlink returns what the entry leads to if it is there and a symbolic link.
func (e *Entry) Readlink() (target string, ok bool) {
	if e == nil || !e.IsLink() {
		return "", false
	}
	return e.Link, true
}

// Identical reports whether two files can be one: content, mode, owner, extended attributes and
// time are the same.
func (e *Entry) Identical(o *Entry) bool {
	return e.Type == tar.TypeReg && e.Size == o.Size && e.ModTime.Equal(o.ModTime) && e.Same(o)
}

// SetXattrs takes the extended attributes of a tar header.
func (e *Entry) SetXattrs(hdr *tar.Header) {
	for record, value := range hdr.PAXRecords {
		name, ok := strings.CutPrefix(record, xattrRecord)
		if !ok {
			continue
		}
		if e.Xattrs == nil {
			e.Xattrs = map[string][]byte{}
		}
		e.Xattrs[name] = []byte(value)
	}
}

// Same reports whether two entries for one path mean the same.
func (e *Entry) Same(o *Entry) bool {
	if e.Type != o.Type || e.UID != o.UID || e.GID != o.GID || e.Link != o.Link || len(e.Xattrs) != len(o.Xattrs) {
		return false
	}
	for k, v := range e.Xattrs {
		if have, ok := o.Xattrs[k]; !ok || !bytes.Equal(have, v) {
			return false
		}
	}
	if e.IsLink() {
		return true
	}
	return e.Mode == o.Mode && e.SHA256 == o.SHA256 && e.Major == o.Major && e.Minor == o.Minor
}

// describe describes an entry for the message about a conflict.
func (e *Entry) describe() string {
	var kind string
	switch e.Type {
	case tar.TypeDir:
		kind = "directory"
	case tar.TypeSymlink:
		kind = "symbolic link to " + e.Link
	case tar.TypeReg:
		kind = fmt.Sprintf("file of %d bytes", e.Size)
		if len(e.SHA256) >= 12 {
			kind += ", sha256 " + e.SHA256[:12]
		}
	default:
		kind = "special file"
	}
	return fmt.Sprintf("%s: %s, mode %04o, owner %d:%d", e.Source, kind, e.Mode, e.UID, e.GID)
}

// Clean turns a path from an archive or a declaration into an Entry's Path. It
// refuses paths that climb out of the root.
func Clean(p string) (string, error) {
	if strings.ContainsRune(p, 0) {
		return "", fmt.Errorf("path %q has a zero byte", p)
	}
	for _, part := range strings.Split(p, "/") {
		if part == ".." {
			return "", fmt.Errorf("path %q climbs out of the root", p)
		}
	}
	return strings.TrimPrefix(path.Clean("/"+p), "/"), nil
}
