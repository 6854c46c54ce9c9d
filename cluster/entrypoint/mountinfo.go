package entrypoint

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// mount is one line of /proc/self/mountinfo.
type mount struct {
	root         string // within the file system
	point        string
	options      string // of this mount
	fsType       string
	superOptions string // of the file system
}

// readOnly reports whether the mount or its file system is read-only.
func (m mount) readOnly() bool {
	return hasOption(m.options, "ro") || hasOption(m.superOptions, "ro")
}

func hasOption(options, want string) bool {
	return slices.Contains(strings.Split(options, ","), want)
}

// parseMountinfo reads /proc/self/mountinfo (see proc_pid_mountinfo(5)).
func parseMountinfo(r io.Reader) ([]mount, error) {
	var mounts []mount
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		fields := strings.Split(s.Text(), " ")
		// After the sixth field come optional ones, then a dash.
		dash := -1
		for i := 6; i < len(fields); i++ {
			if fields[i] == "-" {
				dash = i
				break
			}
		}
		// The type, the source, which may be empty, and the options.
		if dash < 0 || len(fields) < dash+4 {
			return nil, fmt.Errorf("reading /proc/self/mountinfo: unexpected line %q", s.Text())
		}
		mounts = append(mounts, mount{
			root:         unescape(fields[3]),
			point:        unescape(fields[4]),
			options:      fields[5],
			fsType:       fields[dash+1],
			superOptions: fields[len(fields)-1],
		})
	}
	return mounts, s.Err()
}

// unescape undoes the kernel's octal escapes of blanks and backslashes.
func unescape(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				out.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

// at returns the mount that is visible at point: the last one there.
func at(mounts []mount, point string) (mount, bool) {
	for i := len(mounts) - 1; i >= 0; i-- {
		if mounts[i].point == point {
			return mounts[i], true
		}
	}
	return mount{}, false
}
