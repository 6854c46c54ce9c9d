package layer

import (
	"archive/tar"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/dind-cluster/dind-cluster/image/effects"
	"github.com/dind-cluster/dind-cluster/image/tree"
	"github.com/dind-cluster/dind-cluster/internal/compression"
)

func (b *builder) addFiles() error {
	for _, d := range b.spec.Directories {
		p, err := tree.Clean(d.Path)
		if err != nil {
			return err
		}
		mode, err := effects.Mode(d.Mode, 0o755)
		if err != nil {
			return fmt.Errorf("%s: %w", d.Path, err)
		}
		e := &tree.Entry{Path: p, Type: tar.TypeDir, Mode: mode, UID: d.UID, GID: d.GID, Source: b.spec.Name}
		if err := b.add(e); err != nil {
			return err
		}
	}
	for _, l := range b.spec.Symlinks {
		p, err := tree.Clean(l.Path)
		if err != nil {
			return err
		}
		if err := b.add(effects.Link(p, l.Target, b.spec.Name)); err != nil {
			return err
		}
	}
	for _, f := range b.spec.Files {
		if err := b.addFile(f); err != nil {
			return fmt.Errorf("adding %s: %w", f.Source, err)
		}
	}
	return nil
}

// addFile adds a file, or a directory with all that is in it.
func (b *builder) addFile(f File) error {
	// Bazel's inputs are symbolic links to the files that are meant.
	root, err := filepath.EvalSymlinks(f.Source)
	if err != nil {
		return err
	}
	source := f.Label
	if source == "" {
		source = f.Source
	}
	return filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		p, err := tree.Clean(path.Join(f.Path, filepath.ToSlash(rel)))
		if err != nil {
			return err
		}
		info, err := os.Stat(file)
		if err != nil {
			return err
		}
		e := &tree.Entry{Path: p, UID: f.UID, GID: f.GID, Source: source}
		if info.IsDir() {
			e.Type, e.Mode, e.Implied = tar.TypeDir, 0o755, true
			return b.add(e)
		}
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%s is no regular file", file)
		}
		e.Type, e.Mode, e.Size = tar.TypeReg, 0o644, info.Size()
		if info.Mode()&0o111 != 0 {
			e.Mode = 0o755
		}
		if e.Mode, err = effects.Mode(f.Mode, e.Mode); err != nil {
			return err
		}
		e.Content = func() (io.ReadCloser, error) { return os.Open(file) }
		if e.SHA256, err = e.Content.Sum(sha256.New()); err != nil {
			return err
		}
		return b.add(e)
	})
}

// addTars adds the entries of tar archives, compressed or not.
func (b *builder) addTars() error {
	for _, name := range b.spec.Tars {
		if err := b.addTar(name); err != nil {
			return fmt.Errorf("adding %s: %w", name, err)
		}
	}
	return nil
}

func (b *builder) addTar(name string) error {
	r, err := compression.Open(name)
	if err != nil {
		return err
	}
	defer r.Close()
	from := &archive{spool: b.spool, source: name, files: map[string]*tree.Entry{}}
	tr := tar.NewReader(r)
	for {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		e, err := from.entry(hdr, tr)
		if err != nil {
			return err
		}
		if e.Path == "" {
			continue
		}
		if err := b.add(e); err != nil {
			return err
		}
	}
}
