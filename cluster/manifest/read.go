package manifest

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/cluster/paths"
)

// Read returns the objects that a user of the top-level container wants: those in paths.Manifests, then those of the
// configuration.
func Read(c v1alpha1.Cluster) ([]Document, error) { return read(paths.Manifests, paths.Host, c) }

func read(dir, host string, c v1alpha1.Cluster) ([]Document, error) {
	var all []Document
	var errs []error
	add := func(documents []Document, err error) {
		all, errs = append(all, documents...), append(errs, err)
	}
	if _, err := os.Stat(dir); err == nil {
		add(ReadFiles(dir))
	}
	for i, m := range c.Manifests {
		field := fmt.Sprintf("manifests[%d]", i)
		if m.HostPath == "" {
			add(Parse(cmp.Or(m.Name, field), m.Content))
		} else if _, err := os.Stat(host + m.HostPath); errors.Is(err, fs.ErrNotExist) {
			add(nil, fmt.Errorf("%s wants %s of the Docker host, which this container does not have: start it with `docker run --volume %s:%s`", field, m.HostPath, m.HostPath, host+m.HostPath))
		} else {
			add(ReadFiles(host + m.HostPath))
		}
	}
	return all, errors.Join(errs...)
}

// maxSize bounds a file, in bytes. etcd takes no object of more than 1.5 MB.
const maxSize = 32 << 20

// ReadFiles returns the objects in a file, or in the files *.yaml, *.yml and *.json of a directory and those below it, in the
// order of their paths. The error joins all mistakes.
func ReadFiles(root string) ([]Document, error) {
	var all []Document
	var errs []error
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Stat(path) // what a link leads to
		if err != nil {
			return err
		}
		switch {
		case !info.Mode().IsRegular():
			return nil
		case path != root && !slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(path)):
			return nil
		case info.Size() > maxSize:
			errs = append(errs, fmt.Errorf("%s: %d bytes are no file of Kubernetes objects: want at most %d", path, info.Size(), maxSize))
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		documents, err := Parse(path, string(data))
		all, errs = append(all, documents...), append(errs, err)
		return nil
	})
	if err != nil {
		errs = append(errs, fmt.Errorf("reading manifests: %w", err))
	}
	return all, errors.Join(errs...)
}
