// Package imagefiles reads the files of an image as a container sees them, for tests.
package imagefiles

import (
	"archive/tar"
	"errors"
	"io"
	"path"

	"github.com/dind-cluster/dind-cluster/image/rootfs"
)

// File is a file, directory, link or device of an image.
type File struct {
	*tar.Header
	Content []byte
}

// Files are by path, without a leading slash.
type Files map[string]*File

// ReadLayer reads a layer: a tar archive that is not compressed. To lay layers over each other,
// copy the upper one's files over the lower one's. Whiteouts are ignored.
func ReadLayer(r io.Reader) (Files, error) {
	files := Files{}
	for tr := tar.NewReader(r); ; {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, err
		}
		content, err := io.ReadAll(tr)
		if err != nil {
			return nil, err
		}
		files[path.Clean(hdr.Name)] = &File{hdr, content}
	}
}

// Resolve finds the file at a path, following links; nil if there is none.
func (f Files) Resolve(p string) *File {
	p, err := rootfs.Resolve(p, func(p string) (string, bool) {
		if link := f[p]; link != nil && link.Typeflag == tar.TypeSymlink {
			return link.Linkname, true
		}
		return "", false
	})
	if err != nil {
		return nil
	}
	return f[p]
}
