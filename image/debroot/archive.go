package debroot

import (
	"archive/tar"
	"fmt"
	"io"
	"strings"

	"github.com/dind-cluster/dind-cluster/image/deb"
)

// Archive writes packages as a tar archive of a root: the files whose paths, without a leading
// slash, are to be kept, with the owners, modes and times that the packages give them, and dpkg's
// database, in which all of the packages are installed.
func Archive(w io.Writer, packages []string, keep func(path string) bool) error {
	a := &archive{tw: tar.NewWriter(w), directories: map[string]bool{}}
	if err := each(packages, func(p *deb.Package) error { return a.add(p, keep) }); err != nil {
		return err
	}
	for _, f := range []struct{ path, content string }{
		{"var/lib/dpkg/status", a.status.String()},
		{"var/lib/dpkg/available", ""},
		{"var/lib/dpkg/info/format", "1\n"},
	} {
		if err := a.file(f.path, f.content); err != nil {
			return err
		}
	}
	return a.tw.Close()
}

type archive struct {
	tw          *tar.Writer
	directories map[string]bool
	status      strings.Builder
}

func (a *archive) file(path, content string) error {
	if err := a.tw.WriteHeader(&tar.Header{Name: path, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(content))}); err != nil {
		return err
	}
	_, err := io.WriteString(a.tw, content)
	return err
}

func (a *archive) add(p *deb.Package, keep func(path string) bool) error {
	// All that the package brings, kept or not: as with dpkg's path-exclude.
	list := &strings.Builder{}
	list.WriteString("/.\n")
	err := files(p, func(path string, hdr *tar.Header, content io.Reader) error {
		fmt.Fprintf(list, "/%s\n", path)
		if !keep(path) {
			return nil
		}
		kept := *hdr
		kept.Name, kept.Format = path, tar.FormatUnknown
		if hdr.Typeflag == tar.TypeDir {
			if a.directories[path] {
				return nil
			}
			a.directories[path] = true
			kept.Name += "/"
		}
		if err := a.tw.WriteHeader(&kept); err != nil {
			return err
		}
		_, err := io.Copy(a.tw, content)
		return err
	})
	if err != nil {
		return err
	}
	for _, field := range p.Control {
		fmt.Fprint(&a.status, deb.Control{field})
		if field.Name == "Package" {
			a.status.WriteString("Status: install ok installed\n")
		}
	}
	a.status.WriteString("\n")
	name := p.Name()
	if p.Control.Get("Multi-Arch") == "same" {
		name += ":" + p.Control.Get("Architecture")
	}
	return a.file("var/lib/dpkg/info/"+name+".list", list.String())
}
