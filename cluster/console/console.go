// Package console carries text from the units of a container to the container's own output.
package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/dind-cluster/dind-cluster/cluster/paths"
	"golang.org/x/sys/unix"
)

// Copy copies what is written into the pipe to out, until ctx ends and nothing is left in the pipe.
func Copy(ctx context.Context, out io.Writer) error {
	// Open for reading and writing: there is always a writer, so the pipe never ends. Not blocking:
	// so that a read can be called off.
	pipe, err := os.OpenFile(paths.Console, os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("opening the console's pipe: %w", err)
	}
	defer pipe.Close()
	return copyUntil(ctx, out, pipe)
}

func copyUntil(ctx context.Context, out io.Writer, pipe *os.File) error {
	stop := context.AfterFunc(ctx, func() { _ = pipe.SetReadDeadline(time.Now()) })
	defer stop()
	_, err := io.Copy(out, pipe)
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	raw, err := pipe.SyscallConn()
	if err != nil {
		return err
	}
	buffer := make([]byte, 64<<10)
	for {
		var n int
		var readErr error
		if err := raw.Control(func(fd uintptr) { n, readErr = unix.Read(int(fd), buffer) }); err != nil {
			return err
		}
		if errors.Is(readErr, unix.EINTR) {
			continue
		}
		if n <= 0 || readErr != nil {
			// EAGAIN: nothing is left.
			return nil
		}
		if _, err := out.Write(buffer[:n]); err != nil {
			return err
		}
	}
}

// Writer writes to the console. A console that is gone or is not read must not hold up the cluster,
// so then the text is dropped. The journal has it as well.
type Writer struct{ fd int }

// Open opens the console for writing.
func Open() *Writer {
	fd, err := unix.Open(paths.Console, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		fd = -1
	}
	return &Writer{fd: fd}
}

// Write writes one piece of text; it is a line of the console if it ends in a newline. It never
// fails.
func (w *Writer) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0 && w.fd >= 0; {
		// Pieces up to PIPE_BUF are atomic, so lines of several processes do not mix.
		piece := rest[:min(len(rest), 4096)]
		n, err := unix.Write(w.fd, piece)
		if err == unix.EINTR {
			continue
		}
		if err == unix.EAGAIN {
			poll := []unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLOUT}}
			if n, _ := unix.Poll(poll, 1000); n == 1 {
				continue
			}
			break
		}
		if err != nil {
			break
		}
		rest = rest[n:]
	}
	return len(p), nil
}
