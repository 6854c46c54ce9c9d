// Package rootfs resolves paths of a root file system that is not mounted: one that is known by a
// list of its entries, as a package, a layer or an archive has it. Links are followed as Linux
// follows them in a container: none leads out.
//
// Paths have neither a leading nor a trailing slash; that of the root is "".
package rootfs

import (
	"fmt"
	"path"
	"strings"
)

// maxLinks is how many symbolic links a path may lead through, MAXSYMLINKS of Linux:
// https://github.com/torvalds/linux/blob/v6.18/include/linux/namei.h
const maxLinks = 40

// Readlink returns what the symbolic link at a path leads to, and false for everything else, or
// nothing, at that path.
type Readlink func(p string) (target string, ok bool)

// Clean returns the path of an archive's entry. What climbs out of the root stays in it, as "cd
// /.." does.
func Clean(p string) string { return strings.TrimPrefix(path.Clean("/"+p), "/") }

// Dir returns the directory of a path; the root's is the root.
func Dir(p string) string { return Clean(path.Dir(p)) }

// Resolve follows all symbolic links in a path. Parts that do not exist are kept. It fails for a
// path that leads through more links than Linux follows.
func Resolve(p string, readlink Readlink) (string, error) { return resolve(p, readlink, 0) }

// ResolveParent is Resolve for a path whose last part is not followed, as that of an entry
// which is about to be written.
func ResolveParent(p string, readlink Readlink) (string, error) { return resolve(p, readlink, 1) }

// resolve follows the links in all parts of a path but the last ones.
func resolve(p string, readlink Readlink, last int) (string, error) {
	at := ""
	for links, rest := 0, strings.Split(p, "/"); len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			at = Dir(at)
			continue
		}
		next := path.Join(at, part)
		target, ok := "", false
		if len(rest) >= last {
			target, ok = readlink(next)
		}
		if !ok {
			at = next
			continue
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("/%s leads through more than %d symbolic links", p, maxLinks)
		}
		if path.IsAbs(target) {
			at = ""
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return at, nil
}

const (
	whiteoutPrefix = ".wh."
	opaque         = ".wh..wh..opq"
)

// Whiteout reports whether an entry of a layer is a whiteout, and which path of the layers below it
// removes: with all, a directory's content but not the directory itself.
// https://github.com/opencontainers/image-spec/blob/v1.1.1/layer.md#whiteouts
func Whiteout(p string) (removed string, all, ok bool) {
	dir, base := path.Split(p)
	name, ok := strings.CutPrefix(base, whiteoutPrefix)
	switch {
	case !ok:
		return "", false, false
	case base == opaque:
		return Clean(dir), true, true
	}
	return dir + name, false, true
}
