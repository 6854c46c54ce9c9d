package containerd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"
)

// waitForSocket returns when something listens at the unix socket. It watches the file system rather than ask again and
// again; a socket left over from before has no event, so it also looks a few times a second.
func waitForSocket(ctx context.Context, address string, limit time.Duration) error {
	err := dial(ctx, address)
	if err == nil || limit <= 0 {
		return err
	}
	if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ECONNREFUSED) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	w, werr := fsnotify.NewWatcher()
	if werr != nil {
		return fmt.Errorf("watching for %s: %w", address, werr)
	}
	defer w.Close()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		// The directory may appear later, too; watching one again does no harm.
		for dir := filepath.Dir(address); w.Add(dir) != nil && dir != "/"; dir = filepath.Dir(dir) {
		}
		if err = dial(ctx, address); err == nil {
			return nil
		}
		select {
		case <-w.Events:
		case <-tick.C:
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("nothing answers at %s after %s; is the service running? (%w)", address, limit, err)
			}
			return context.Cause(ctx)
		}
	}
}

func dial(ctx context.Context, address string) error {
	c, err := (&net.Dialer{}).DialContext(ctx, "unix", address)
	if err != nil {
		return err
	}
	return c.Close()
}
