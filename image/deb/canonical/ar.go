package canonical

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"time"
)

// writeAr writes the three members of a Debian package (deb(5)).
func writeAr(name string, mtime time.Time, control []byte, data *os.File) (err error) {
	out, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() {
		if e := out.Close(); err == nil {
			err = e
		}
	}()
	size, err := data.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(out, "!<arch>\n"); err != nil {
		return err
	}
	version := []byte("2.0\n")
	for _, m := range []struct {
		name    string
		size    int64
		content io.Reader
	}{
		{"debian-binary", int64(len(version)), bytes.NewReader(version)},
		{"control.tar.gz", int64(len(control)), bytes.NewReader(control)},
		{"data.tar.gz", size, io.NewSectionReader(data, 0, size)},
	} {
		if _, err := fmt.Fprintf(out, "%-16s%-12d%-6d%-6d%-8o%-10d`\n", m.name, mtime.Unix(), 0, 0, 0o100644, m.size); err != nil {
			return err
		}
		if _, err := io.Copy(out, m.content); err != nil {
			return err
		}
		if m.size%2 == 1 {
			if _, err := io.WriteString(out, "\n"); err != nil {
				return err
			}
		}
	}
	return nil
}
