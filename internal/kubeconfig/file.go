package kubeconfig

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/google/renameio/v2"
)

// File is a kubeconfig on disk.
type File struct{ path string }

// Default returns the file that a new cluster goes to when the user named none: as with kubectl and
// kind, the first of $KUBECONFIG's files that exists, else its last, else ~/.kube/config
// (https://github.com/kubernetes/client-go/blob/v0.37.0/tools/clientcmd/config.go,
// GetDefaultFilename).
func Default() (*File, error) {
	all, err := DefaultFiles()
	if err != nil {
		return nil, err
	}
	for _, f := range all {
		if _, err := os.Stat(f.path); err == nil {
			return f, nil
		}
	}
	return all[len(all)-1], nil
}

// DefaultFiles returns all the files that kubectl would read when the user named none.
func DefaultFiles() ([]*File, error) {
	var files []*File
	for _, p := range filepath.SplitList(os.Getenv("KUBECONFIG")) {
		if p != "" {
			files = append(files, At(p))
		}
	}
	if len(files) > 0 {
		return files, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return nil, fmt.Errorf("cannot tell where the kubeconfig is: %w (name a file with --kubeconfig)", err)
	}
	return []*File{At(filepath.Join(home, ".kube", "config"))}, nil
}

// At returns the file at path. A relative path starts where the user is, which under
// `bazel run` is not where this process is.
func At(path string) *File {
	if wd := os.Getenv("BUILD_WORKING_DIRECTORY"); wd != "" && !filepath.IsAbs(path) {
		path = filepath.Join(wd, path)
	}
	return &File{path: path}
}

// Path returns where the file is.
func (f *File) Path() string { return f.path }

// Check fails if the file cannot be read and written, and does not change it. It is for the time
// before a cluster is made.
func (f *File) Check(ctx context.Context) error {
	return f.update(ctx, func(*text) (bool, error) { return false, nil })
}

// Add merges a cluster into the file, which it makes, with mode 0600, if there is none.
func (f *File) Add(ctx context.Context, cluster Config) error {
	return f.update(ctx, func(t *text) (bool, error) { return true, t.merge(cluster) })
}

// Remove takes the entries called name out of the file, if there is such a file, and
// reports whether there were any.
func (f *File) Remove(ctx context.Context, name string) (found bool, err error) {
	// No lock for the common case: nothing to do, perhaps in a directory that the user cannot
	// write.
	if t, err := f.read(); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("cannot read kubeconfig %s: %w", f.path, err)
	} else if !t.remove(name) {
		return false, nil
	}
	err = f.update(ctx, func(t *text) (bool, error) {
		found = t.remove(name)
		return found, nil
	})
	return found, err
}

func (f *File) read() (*text, error) {
	data, err := os.ReadFile(f.path)
	if err != nil {
		return nil, err
	}
	return parseText(data)
}

// update changes the file under kubectl's lock. The temporary file is made even when
// change says that there is nothing to write: that is how Check checks.
func (f *File) update(ctx context.Context, change func(*text) (write bool, err error)) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot update kubeconfig %s: %w", f.path, err)
		}
	}()
	// A link (to a directory of dotfiles, say) stays one: what it leads to is replaced.
	path, err := target(f.path)
	if err != nil {
		return err
	}
	// kubectl locks the path that it was given, even if that is a link. Other programs may be
	// given what the link leads to.
	for _, p := range slices.Compact([]string{f.path, path}) {
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			return err
		}
		unlock, err := lock(ctx, p)
		if err != nil {
			return err
		}
		defer unlock()
	}

	c, err := parseText(nil)
	if err != nil {
		return err
	}
	old, err := os.Stat(path)
	switch {
	case err == nil && !old.Mode().IsRegular():
		return errors.New("it is not a regular file")
	case err == nil:
		// Replacing a file needs no permission to write it, but a file that is read-only
		// should stay as it is.
		w, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		w.Close()
		if c, err = f.read(); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	write, err := change(c)
	if err != nil {
		return err
	}
	data, err := c.encode()
	if err != nil {
		return err
	}

	// The mode is 0600: the file has keys in it.
	tmp, err := renameio.NewPendingFile(path, renameio.WithTempDir(filepath.Dir(path)))
	if err != nil {
		return err
	}
	defer tmp.Cleanup()
	if old != nil {
		// Under sudo, the user's own file must stay the user's own.
		if stat, ok := old.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
			if err := tmp.Chown(int(stat.Uid), int(stat.Gid)); err != nil {
				return err
			}
		}
	}
	if _, err := tmp.Write(data); err != nil {
		return err
	}
	if !write {
		return tmp.Sync()
	}
	return tmp.CloseAtomicallyReplace()
}

// target returns what a path leads to if it is a link, perhaps to a file that is yet to be made.
func target(path string) (string, error) {
	// As many as Linux follows.
	for range 40 {
		next, err := os.Readlink(path)
		if errors.Is(err, syscall.EINVAL) || errors.Is(err, fs.ErrNotExist) {
			return path, nil
		} else if err != nil {
			return "", err
		}
		if !filepath.IsAbs(next) {
			next = filepath.Join(filepath.Dir(path), next)
		}
		path = next
	}
	return "", &fs.PathError{Op: "readlink", Path: path, Err: syscall.ELOOP}
}

// lock takes the lock that kubectl and kind take: a file with ".lock" after the name
// (https://github.com/kubernetes/client-go/blob/v0.37.0/tools/clientcmd/loader.go, lockName).
func lock(ctx context.Context, path string) (unlock func(), err error) {
	name := path + ".lock"
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for {
		l, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0)
		if err == nil {
			l.Close()
			return func() { os.Remove(name) }, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		// The holder needs milliseconds, and O_EXCL offers nothing to wait on.
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("another program holds the lock %s: wait for it, or remove that file if no program is running that could hold it", name)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
