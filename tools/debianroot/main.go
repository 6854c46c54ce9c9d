// Command root lays packages out as a Debian root, for tests: files as the packages bring them, and dpkg's database, which
// says that all are installed. No maintainer script is run.
package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dind-cluster/dind-cluster/image/deb"
	"github.com/dind-cluster/dind-cluster/internal/cli"
)

// excluded is what no program in a test reads.
var excluded = []string{
	"usr/lib/x86_64-linux-gnu/gconv/", "usr/share/doc/", "usr/share/info/", "usr/share/locale/", "usr/share/man/",
	"usr/lib/python3/", "usr/share/fonts/", "usr/share/icons/",
}

func main() {
	if len(os.Args) < 3 {
		cli.End("root", cli.Usage("root ROOT.tar PACKAGE.deb…"))
	}
	cli.End("root: writing "+os.Args[1], run(os.Args[1], os.Args[2:]))
}

func run(out string, packages []string) error {
	// base-files first: it brings the links from /bin to /usr/bin and so on.
	slices.SortStableFunc(packages, func(a, b string) int {
		first := func(p string) int {
			if strings.HasPrefix(filepath.Base(p), "base-files") {
				return 0
			}
			return 1
		}
		return first(a) - first(b)
	})
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	defer f.Close()
	r := &root{tw: tar.NewWriter(f), folders: map[string]bool{}}
	for _, name := range packages {
		if err := r.add(name); err != nil {
			return fmt.Errorf("reading %s: %w", name, err)
		}
	}
	r.file("var/lib/dpkg/status", r.status.Bytes())
	r.file("var/lib/dpkg/available", nil)
	r.file("var/lib/dpkg/info/format", []byte("1\n"))
	if r.err != nil {
		return r.err
	}
	if err := r.tw.Close(); err != nil {
		return err
	}
	return f.Close()
}

type root struct {
	tw      *tar.Writer
	status  bytes.Buffer
	folders map[string]bool
	err     error
}

func (r *root) file(name string, content []byte) {
	hdr := &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(content))}
	if r.err == nil {
		r.err = r.tw.WriteHeader(hdr)
	}
	if r.err == nil {
		_, r.err = r.tw.Write(content)
	}
}

func (r *root) add(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	p, err := deb.Read(f)
	if err != nil {
		return err
	}
	var list strings.Builder
	list.WriteString("/.\n")
	err = p.Data(func(hdr *tar.Header, content io.Reader) error {
		clean := strings.TrimPrefix(path.Clean("/"+hdr.Name), "/")
		if clean == "" {
			return nil
		}
		list.WriteString("/" + clean + "\n")
		for _, prefix := range excluded {
			if strings.HasPrefix(clean, prefix) {
				return nil
			}
		}
		if hdr.Typeflag == tar.TypeDir {
			if r.folders[clean] {
				return nil
			}
			r.folders[clean] = true
		}
		kept := *hdr
		kept.Name, kept.Format = clean, tar.FormatUnknown
		if kept.Typeflag == tar.TypeDir {
			kept.Name += "/"
		}
		if kept.Typeflag == tar.TypeLink {
			kept.Linkname = strings.TrimPrefix(path.Clean("/"+hdr.Linkname), "/")
		}
		if err := r.tw.WriteHeader(&kept); err != nil {
			return err
		}
		_, err := io.Copy(r.tw, content)
		return err
	})
	if err != nil {
		return err
	}
	file := p.Name()
	if p.Control.Get("Multi-Arch") == "same" {
		file += ":" + p.Control.Get("Architecture")
	}
	r.file("var/lib/dpkg/info/"+file+".list", []byte(list.String()))
	for _, field := range p.Control {
		fmt.Fprint(&r.status, deb.Control{field})
		if field.Name == "Package" {
			r.status.WriteString("Status: install ok installed\n")
		}
	}
	r.status.WriteString("\n")
	return r.err
}
