// Package canonical finishes packages that rules_pkg's pkg_deb has put together.
//
// pkg_deb is a Python program: the compressed bytes that it writes depend on the Python and zlib of
// the machine, and it writes neither md5sums nor Installed-Size. Written anew, equal contents are
// equal bytes everywhere, with both added.
package canonical

import (
	"archive/tar"
	"bytes"
	"crypto/md5"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/dind-cluster/dind-cluster/image/deb"
)

// Rewrite reads the package in, of files, directories and symbolic links, and writes it to out,
// with a Debian changelog of one entry: @PACKAGE@, @VERSION@, @MAINTAINER@ and @DATE@ in it are
// filled in. The time is that of the entry and of every file.
func Rewrite(in, out, changelog string, mtime time.Time) error {
	p, err := read(in)
	if err != nil {
		return fmt.Errorf("reading %s: %w", in, err)
	}
	defer p.close()
	if err := p.addChangelog(changelog, mtime); err != nil {
		return err
	}
	return p.write(out, mtime)
}

// pkg is a package in memory, except for the contents of its files, which are spooled: programs are
// large.
type pkg struct {
	control deb.Control
	members map[string][]byte
	entries map[string]*entry
	spool   *os.File
}

// entry is a file, directory or symbolic link of the package. Its path is relative and clean.
type entry struct {
	path    string
	kind    byte
	mode    int64
	link    string
	content *io.SectionReader
}

func read(name string) (*pkg, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	d, err := deb.Read(f)
	if err != nil {
		return nil, err
	}
	spool, err := os.CreateTemp("", "canonical")
	if err != nil {
		return nil, err
	}
	p := &pkg{control: d.Control, members: d.Members, entries: map[string]*entry{}, spool: spool}
	if err := os.Remove(spool.Name()); err != nil {
		p.close()
		return nil, err
	}
	var size int64
	err = d.Data(func(hdr *tar.Header, content io.Reader) error {
		e := &entry{path: strings.TrimPrefix(path.Clean("/"+hdr.Name), "/"), kind: hdr.Typeflag, mode: hdr.Mode & 0o7777, link: hdr.Linkname}
		if e.path == "" {
			return nil
		}
		switch hdr.Typeflag {
		case tar.TypeReg:
			n, err := io.Copy(spool, content)
			if err != nil {
				return err
			}
			e.content = io.NewSectionReader(spool, size, n)
			size += n
		case tar.TypeDir, tar.TypeSymlink:
		default:
			return fmt.Errorf("%s: a package of ours holds files, directories and symbolic links only", hdr.Name)
		}
		return p.add(e)
	})
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *pkg) close() { p.spool.Close() }

// add puts an entry into the package, with the directories above it.
func (p *pkg) add(e *entry) error {
	if old, ok := p.entries[e.path]; ok && (old.kind != tar.TypeDir || e.kind != tar.TypeDir) {
		return fmt.Errorf("/%s is there twice", e.path)
	}
	p.entries[e.path] = e
	for dir := path.Dir(e.path); dir != "."; dir = path.Dir(dir) {
		if _, ok := p.entries[dir]; !ok {
			p.entries[dir] = &entry{path: dir, kind: tar.TypeDir, mode: 0o755}
		}
	}
	return nil
}

// addChangelog adds the compressed Debian changelog, one entry for the package's own version.
func (p *pkg) addChangelog(text string, date time.Time) error {
	name := p.control.Get("Package")
	text = strings.NewReplacer(
		"@PACKAGE@", name,
		"@VERSION@", p.control.Get("Version"),
		"@MAINTAINER@", p.control.Get("Maintainer"),
		"@DATE@", date.Format(time.RFC1123Z),
	).Replace(text)
	var compressed bytes.Buffer
	if err := compress(&compressed, gzip.BestCompression, func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	}); err != nil {
		return err
	}
	content := bytes.NewReader(compressed.Bytes())
	return p.add(&entry{
		path:    "usr/share/doc/" + name + "/changelog.Debian.gz",
		kind:    tar.TypeReg,
		mode:    0o644,
		content: io.NewSectionReader(content, 0, content.Size()),
	})
}

// write writes the package: entries sorted, owner root, one time.
func (p *pkg) write(name string, mtime time.Time) error {
	paths := make([]string, 0, len(p.entries))
	for path := range p.entries {
		paths = append(paths, path)
	}
	slices.Sort(paths)

	data, err := os.CreateTemp("", "canonical")
	if err != nil {
		return err
	}
	defer data.Close()
	if err := os.Remove(data.Name()); err != nil {
		return err
	}
	var (
		sums      strings.Builder
		installed int64 // in KiB, each file rounded up, each other entry 1: what dpkg-gencontrol counts
	)
	conffiles := strings.Fields(string(p.members["conffiles"]))
	err = compress(data, gzip.DefaultCompression, func(w io.Writer) error {
		tw := tar.NewWriter(w)
		if err := tw.WriteHeader(header("./", tar.TypeDir, 0o755, mtime)); err != nil {
			return err
		}
		for _, path := range paths {
			e := p.entries[path]
			hdr := header("./"+e.path, e.kind, e.mode, mtime)
			switch e.kind {
			case tar.TypeDir:
				hdr.Name += "/"
			case tar.TypeSymlink:
				hdr.Linkname, hdr.Mode = e.link, 0o777
			case tar.TypeReg:
				hdr.Size = e.content.Size()
			}
			installed++
			if err := tw.WriteHeader(hdr); err != nil {
				return err
			}
			if e.kind != tar.TypeReg {
				continue
			}
			installed += (hdr.Size+1023)/1024 - 1
			sum := md5.New()
			if _, err := io.Copy(io.MultiWriter(tw, sum), e.content); err != nil {
				return err
			}
			// Of conffiles dpkg keeps a sum itself, of the version that the administrator was
			// shown.
			if !slices.Contains(conffiles, "/"+e.path) {
				fmt.Fprintf(&sums, "%x  %s\n", sum.Sum(nil), e.path)
			}
		}
		return tw.Close()
	})
	if err != nil {
		return fmt.Errorf("writing data.tar.gz: %w", err)
	}

	control, err := p.controlArchive(sums.String(), installed, mtime)
	if err != nil {
		return fmt.Errorf("writing control.tar.gz: %w", err)
	}
	return writeAr(name, mtime, control, data)
}

// controlArchive makes control.tar.gz.
func (p *pkg) controlArchive(sums string, installed int64, mtime time.Time) ([]byte, error) {
	var fields deb.Control
	for _, f := range p.control {
		switch f.Name {
		case "License", "Distribution", "Urgency", "Installed-Size":
			// pkg_deb writes the first three; dpkg knows no such fields.
			continue
		}
		fields = append(fields, f)
		if f.Name == "Architecture" {
			fields = append(fields, deb.Field{Name: "Installed-Size", Value: fmt.Sprint(installed)})
		}
	}
	members := map[string][]byte{"control": []byte(fields.String()), "md5sums": []byte(sums)}
	for name, content := range p.members {
		if name != "md5sums" {
			members[name] = content
		}
	}
	names := make([]string, 0, len(members))
	for name := range members {
		names = append(names, name)
	}
	slices.Sort(names)

	var buffer bytes.Buffer
	err := compress(&buffer, gzip.DefaultCompression, func(w io.Writer) error {
		tw := tar.NewWriter(w)
		if err := tw.WriteHeader(header("./", tar.TypeDir, 0o755, mtime)); err != nil {
			return err
		}
		for _, name := range names {
			mode := int64(0o644)
			if slices.Contains([]string{"preinst", "postinst", "prerm", "postrm", "config"}, name) {
				mode = 0o755
			}
			hdr := header("./"+name, tar.TypeReg, mode, mtime)
			hdr.Size = int64(len(members[name]))
			if err := tw.WriteHeader(hdr); err != nil {
				return err
			}
			if _, err := tw.Write(members[name]); err != nil {
				return err
			}
		}
		return tw.Close()
	})
	return buffer.Bytes(), err
}

func header(name string, kind byte, mode int64, mtime time.Time) *tar.Header {
	return &tar.Header{
		Name:     name,
		Typeflag: kind,
		Mode:     mode,
		Uname:    "root",
		Gname:    "root",
		ModTime:  mtime,
		Format:   tar.FormatGNU,
	}
}

// compress writes what fill writes, with gzip: every dpkg understands it, and it is made in Go, so
// that the bytes do not depend on a library of the machine.
func compress(w io.Writer, level int, fill func(io.Writer) error) error {
	z, err := gzip.NewWriterLevel(w, level)
	if err != nil {
		return err
	}
	z.ModTime = time.Unix(0, 0) // gzip's way to say that there is none
	if err := fill(z); err != nil {
		return err
	}
	return z.Close()
}
