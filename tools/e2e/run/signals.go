package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"github.com/dind-cluster/dind-cluster/internal/cli"
)

// Signals returns a context that ends, with the reason as its cause, at the next signal that asks
// this program to stop: also when its output has no reader any more.
func Signals(parent context.Context) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, append(cli.Signals(), unix.SIGPIPE)...)
	go func() {
		select {
		case s := <-signals:
			if s == unix.SIGPIPE {
				cancel(errors.New("its output was closed"))
			} else {
				cancel(fmt.Errorf("stopped by a signal (%s)", s))
			}
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		cancel(context.Canceled)
	}
}

// Until returns a context that ends when a stream does.
func Until(parent context.Context, r io.Reader) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	go func() {
		_, _ = io.Copy(io.Discard, r)
		cancel(errors.New("standard input has ended (--stop-on-eof)"))
	}()
	return ctx, func() { cancel(context.Canceled) }
}
