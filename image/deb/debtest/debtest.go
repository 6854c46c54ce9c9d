// Package debtest writes small Debian packages for tests.
package debtest

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/dind-cluster/dind-cluster/internal/compression/compresstest"
)

// Package is a package to write.
type Package struct {
	Name, Version string
	// Control has further lines of the control file.
	Control string
	// Members are scripts and other files of the control archive.
	Members map[string]string
	Files   []File
	// Compression is gz (the default), zst, or none.
	Compression string
}

// File is an entry of the package's data. Its type is a directory's when the path ends
// with a slash, a link's when Link is set, and a file's otherwise.
type File struct {
	Path, Content, Link string
	// HardLink is the path of an earlier file.
	HardLink string
	Mode     int64
	UID, GID int
	Xattrs   map[string]string
}

// Bytes returns the package as a file.
func (p Package) Bytes(t testing.TB) []byte {
	t.Helper()
	version := p.Version
	if version == "" {
		version = "1.0"
	}
	control := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: amd64\nMaintainer: Nobody <nobody@example.com>\nDescription: for a test\n%s", p.Name, version, p.Control)
	members := []File{{Path: "./control", Content: control}}
	for _, name := range slices.Sorted(maps.Keys(p.Members)) {
		members = append(members, File{Path: "./" + name, Content: p.Members[name], Mode: 0o755})
	}
	extension := map[string]string{"": ".gz", "gz": ".gz", "zst": ".zst", "none": ""}[p.Compression]
	var b bytes.Buffer
	b.WriteString("!<arch>\n")
	member(&b, "debian-binary", []byte("2.0\n"))
	member(&b, "control.tar"+extension, compress(t, extension, tarball(t, members)))
	member(&b, "data.tar"+extension, compress(t, extension, tarball(t, p.Files)))
	return b.Bytes()
}

// Write writes the package into a temporary directory and returns its path.
func (p Package) Write(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), p.Name+".deb")
	if err := os.WriteFile(path, p.Bytes(t), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func member(b *bytes.Buffer, name string, content []byte) {
	fmt.Fprintf(b, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", name, 0, 0, 0, "100644", len(content))
	b.Write(content)
	if len(content)%2 == 1 {
		b.WriteByte('\n')
	}
}

func tarball(t testing.TB, files []File) []byte {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, f := range files {
		hdr := &tar.Header{Name: f.Path, Mode: f.Mode, Uid: f.UID, Gid: f.GID, Typeflag: tar.TypeReg, Size: int64(len(f.Content))}
		switch {
		case f.HardLink != "":
			hdr.Typeflag, hdr.Linkname, hdr.Size = tar.TypeLink, f.HardLink, 0
		case f.Link != "":
			hdr.Typeflag, hdr.Linkname, hdr.Mode, hdr.Size = tar.TypeSymlink, f.Link, 0o777, 0
		case f.Path[len(f.Path)-1] == '/':
			hdr.Typeflag, hdr.Size = tar.TypeDir, 0
			if hdr.Mode == 0 {
				hdr.Mode = 0o755
			}
		}
		if hdr.Mode == 0 {
			hdr.Mode = 0o644
		}
		for name, value := range f.Xattrs {
			if hdr.PAXRecords == nil {
				hdr.PAXRecords = map[string]string{}
			}
			hdr.PAXRecords["SCHILY.xattr."+name] = value
		}
		if err := tw.WriteHeader(hdr); err != nil {
			t.Fatal(err)
		}
		if hdr.Typeflag == tar.TypeReg {
			if _, err := io.WriteString(tw, f.Content); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func compress(t testing.TB, extension string, content []byte) []byte {
	t.Helper()
	switch extension {
	case ".gz":
		return compresstest.Gzip(t, content)
	case ".zst":
		return compresstest.Zstd(t, content)
	}
	return content
}
