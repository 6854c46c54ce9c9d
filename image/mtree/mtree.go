// Package mtree lists a layer's or an image's files in the format of mtree(5),
// for people to read in a diff and for tools to verify a tree with.
package mtree

import (
	"archive/tar"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/dind-cluster/dind-cluster/image/tree"
)

// digestLen is how many hexadecimal digits of a file's checksum are listed: enough to notice a
// change, few enough to read past.
const digestLen = 12

// Write writes the listing, one line for each path. What most lines have in common is in the line
// /set.
func Write(w io.Writer, entries []*tree.Entry) error {
	var b strings.Builder
	b.WriteString("#mtree\n/set type=file uid=0 gid=0 mode=0644\n")
	for _, e := range entries {
		b.WriteString(Line(e))
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Line returns the listing of one path.
func Line(e *tree.Entry) string {
	var b strings.Builder
	if e.Path == "" {
		b.WriteString(".")
	} else {
		b.WriteString("./" + escape(e.Path))
	}
	mode := int64(0o644)
	switch e.Type {
	case tar.TypeDir:
		b.WriteString(" type=dir")
	case tar.TypeSymlink:
		b.WriteString(" type=link")
		mode = e.Mode
	case tar.TypeChar:
		b.WriteString(" type=char")
	case tar.TypeBlock:
		b.WriteString(" type=block")
	case tar.TypeFifo:
		b.WriteString(" type=fifo")
	}
	if e.Mode != mode {
		fmt.Fprintf(&b, " mode=%04o", e.Mode)
	}
	if e.UID != 0 {
		fmt.Fprintf(&b, " uid=%d", e.UID)
	}
	if e.GID != 0 {
		fmt.Fprintf(&b, " gid=%d", e.GID)
	}
	switch e.Type {
	case tar.TypeReg:
		fmt.Fprintf(&b, " size=%d", e.Size)
		if len(e.SHA256) >= digestLen {
			b.WriteString(" sha256=" + e.SHA256[:digestLen])
		}
	case tar.TypeSymlink:
		b.WriteString(" link=" + escape(e.Link))
	case tar.TypeChar, tar.TypeBlock:
		fmt.Fprintf(&b, " device=linux,%d,%d", e.Major, e.Minor)
	}
	for _, name := range slices.Sorted(maps.Keys(e.Xattrs)) {
		fmt.Fprintf(&b, " xattr.%s=%x", escape(name), e.Xattrs[name])
	}
	return b.String()
}

// escape writes what would break a line as octal, as vis(3) does.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '\\' || c == '#' || c == '=' {
			fmt.Fprintf(&b, "\\%03o", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
