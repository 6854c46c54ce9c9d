// Package console carries text from the units of a container to the container's own output.
package console

import (
	"fmt"
	"io"
	"os"

	"github.com/dind-cluster/dind-cluster/tools/runner/paths"
	"golang.org/x/sys/unix"
)

// Copy copies what is written into the pipe to out, for ever.
func Copy(out io.Writer) error {
	// Open for reading and writing: there is always a writer, so reading never ends.
	pipe, err := os.OpenFile(paths.Console, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("opening the console's pipe: %w", err)
	}
	defer pipe.Close()
	_, err = io.Copy(out, pipe)
	return err
}

// Writer writes to the console. A console that is gone, or that nobody reads, must not hold up the cluster: then the
// text is dropped. It is in the journal as well.
type Writer struct{ fd int }

// Open opens the console for writing.
func Open() *Writer {
	fd, err := unix.Open(paths.Console, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		fd = -1
	}
	return &Writer{fd: fd}
}

// Write writes one piece of text; it is a line of the console if it ends in a newline. It never fails.
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
