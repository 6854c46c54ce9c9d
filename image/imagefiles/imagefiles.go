// Package imagefiles has the files of an image as a container of it sees them, for tests.
package imagefiles

import (
	"archive/tar"
	"errors"
	"io"
	"path"
	"strings"
)

// File is a file, folder, link or device of an image.
type File struct {
	*tar.Header
	Content []byte
}

// Files are by path, without a leading slash.
type Files map[string]*File

// ReadLayer reads a layer: a tar archive that is not compressed. To lay layers over each other, copy the upper one's files over
// the lower one's. What an upper layer removes is not looked at.
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

// maxLinks is how many links Resolve follows, as Linux does.
const maxLinks = 40

// Resolve finds the file at a path, following links; nil if there is none.
func (f Files) Resolve(p string) *File {
	for range maxLinks {
		file := f[p]
		if file == nil {
			// A folder above may be a link.
			up, rest := f.linkAbove(p)
			if up == nil {
				return nil
			}
			p = path.Join(target(path.Clean(up.Name), up.Linkname), rest)
			continue
		}
		if file.Typeflag != tar.TypeSymlink {
			return file
		}
		p = target(p, file.Linkname)
	}
	return nil
}

// linkAbove finds the nearest link among the folders above a path, and the path's rest below it.
func (f Files) linkAbove(p string) (link *File, rest string) {
	for dir := path.Dir(p); dir != "." && dir != "/"; dir = path.Dir(dir) {
		if d := f[dir]; d != nil && d.Typeflag == tar.TypeSymlink {
			return d, p[len(dir)+1:]
		}
	}
	return nil, ""
}

func target(link, to string) string {
	if path.IsAbs(to) {
		return strings.TrimPrefix(path.Clean(to), "/")
	}
	return path.Join(path.Dir(link), to)
}
