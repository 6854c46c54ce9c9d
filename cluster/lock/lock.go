// Package lock keeps those apart that change the cluster as a whole, each in a process of its own: a
// start, a change of its nodes, a snapshot.
package lock

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ErrHeld means that somebody else has the lock.
var ErrHeld = errors.New("the cluster is starting, its nodes are being changed, or a snapshot of it is being made: try again when that is done (`docker logs` shows how far it is)")

// Try takes the lock of a file, which it makes, unless somebody else has it. It is free again after a
// call of release, or when this process has ended.
func Try(path string) (release func(), err error) {
	return take(path, unix.LOCK_EX|unix.LOCK_NB)
}

// Wait takes the lock of a file, which it makes, as soon as nobody else has it.
func Wait(path string) (release func(), err error) { return take(path, unix.LOCK_EX) }

func take(path string, how int) (release func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the cluster: %w", err)
	}
	for {
		err = unix.Flock(int(f.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = ErrHeld
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}
