// Package load brings archives and a container runtime together.
package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/dind-cluster/dind-cluster/image/archive"
)

// Runtime is what images are loaded into. It is safe for use by several goroutines.
type Runtime interface {
	// Load puts all images of an archive into the runtime or, with an error, none of them.
	Load(ctx context.Context, a *archive.Archive) error
	// Close releases the runtime, and removes what failed loads have left in it.
	Close() error
}

// openAtOnce bounds the archives that are open at the same time; the runtime bounds the work on
// them.
const openAtOnce = 16

// Stdin is the source that stands for standard input.
const Stdin = "-"

// Options of Load.
type Options struct {
	Archive archive.Options
	// Name, if not empty, is given to the one image instead of its own names.
	Name string
	// Stdin is read for the source "-".
	Stdin io.Reader
}

// Load loads every source: an archive file, an OCI layout directory, a directory of archives, or
// "-". It checks the sources and the name before it connects to the runtime, for which it may have
// to wait. A source that fails does not stop the others; the error names each.
func Load(ctx context.Context, connect func(context.Context) (Runtime, error), sources []string, o Options) (err error) {
	if sources, err = expand(sources); err != nil {
		return err
	}
	if o.Name != "" {
		if len(sources) > 1 {
			return errors.New("one name cannot be given to several images")
		}
		if o.Name, err = archive.Normalise(o.Name); err != nil {
			return err
		}
	}
	rt, err := connect(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rt.Close()) }()
	var (
		mu   sync.Mutex
		errs []error
		g    errgroup.Group
	)
	g.SetLimit(openAtOnce)
	for _, s := range sources {
		g.Go(func() error {
			if err := one(ctx, rt, s, o); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			}
			return nil
		})
	}
	g.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.Join(errs...)
}

func one(ctx context.Context, rt Runtime, source string, o Options) error {
	var a *archive.Archive
	var err error
	if source == Stdin {
		a, err = archive.Read(ctx, "standard input", o.Stdin, o.Archive)
		if errors.Is(err, archive.ErrEmpty) {
			err = fmt.Errorf("%w; docker exec passes one on with -i", err)
		}
	} else {
		a, err = archive.Open(ctx, source, o.Archive)
	}
	if err != nil {
		return err
	}
	defer a.Close()
	if o.Name != "" {
		if len(a.Images) != 1 {
			return fmt.Errorf("%s has %d images, which cannot all be named %s", a.Name, len(a.Images), o.Name)
		}
		if err := a.Images[0].CheckNames([]string{o.Name}); err != nil {
			return fmt.Errorf("%s: %w", a.Name, err)
		}
		a.Images[0].Names = []string{o.Name}
	}
	return rt.Load(ctx, a)
}

// expand replaces a directory that is not an OCI layout by the archives in it.
func expand(sources []string) ([]string, error) {
	var out []string
	stdin := 0
	for _, s := range sources {
		if s == Stdin {
			stdin++
		} else if info, err := os.Stat(s); err != nil {
			return nil, err
		} else if _, err := os.Lstat(filepath.Join(s, "oci-layout")); info.IsDir() && err != nil {
			found, err := archivesIn(s)
			if err != nil {
				return nil, err
			}
			out = append(out, found...)
			continue
		}
		out = append(out, s)
	}
	if stdin > 1 {
		return nil, errors.New("standard input can be read only once")
	}
	return out, nil
}

func archivesIn(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		n := e.Name()
		for _, suffix := range []string{".tar", ".tar.gz", ".tgz", ".tar.zst"} {
			if strings.HasSuffix(n, suffix) && !e.IsDir() {
				out = append(out, filepath.Join(dir, n))
				break
			}
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s is neither an OCI layout, which has an oci-layout file, nor has it archives named *.tar, *.tar.gz, *.tgz or *.tar.zst", dir)
	}
	return out, nil
}
