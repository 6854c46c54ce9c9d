package containerd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// poll is the pause between two connections that are refused, which costs next to nothing.
const poll = 20 * time.Millisecond

// waitForSocket returns when something listens at the unix socket, which need not exist yet.
func waitForSocket(ctx context.Context, address string, limit time.Duration) error {
	for end := time.Now().Add(limit); ; {
		c, err := (&net.Dialer{}).DialContext(ctx, "unix", address)
		if err == nil {
			return c.Close()
		}
		if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ECONNREFUSED) {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("nothing answers at %s after %s; is the service running? (%w)", address, limit, err)
		}
		select {
		case <-time.After(poll):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
