package entrypoint

import (
	"errors"
	"fmt"
	"math/bits"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// loopDevices is the number of loop devices. They are the whole machine's, so all nodes share
	// them.
	loopDevices = 256
	// loopMajor, and miscMajor with loopControlMinor, are in the kernel's
	// Documentation/admin-guide/devices.txt.
	loopMajor, miscMajor, loopControlMinor = 7, 10, 237
)

// makeLoopDevices makes the device files of loop devices that the machine does not have yet. The
// container's /dev is a copy of the machine's as it was when the container started, and nothing
// adds what comes later: `losetup --find` would get a new device from the kernel and not find its
// file.
//
// maxPart is the file with the parameter max_part of the kernel's loop module, which spreads the
// devices' numbers.
func makeLoopDevices(dev, maxPart string) error {
	shift := 0
	if data, err := os.ReadFile(maxPart); err == nil {
		n, err := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 16)
		if err != nil {
			return fmt.Errorf("reading %s: %w", maxPart, err)
		}
		shift = bits.Len64(n)
	}
	if err := mknod(filepath.Join(dev, "loop-control"), unix.S_IFCHR|0o660, unix.Mkdev(miscMajor, loopControlMinor)); err != nil {
		return err
	}
	for i := range uint32(loopDevices) {
		if err := mknod(filepath.Join(dev, "loop"+strconv.Itoa(int(i))), unix.S_IFBLK|0o660, unix.Mkdev(loopMajor, i<<shift)); err != nil {
			return err
		}
	}
	return nil
}

// mknod makes a device file that is not there yet.
func mknod(path string, mode uint32, device uint64) error {
	if err := unix.Mknod(path, mode, int(device)); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("making %s: %w", path, err)
	}
	return nil
}
