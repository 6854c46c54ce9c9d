package entrypoint

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// capabilities is a set of Linux capabilities as a bit mask.
type capabilities uint64

func (c capabilities) has(n int) bool { return c&(1<<n) != 0 }

// status is the part of /proc/self/status that shows how the container was started.
type status struct {
	effective capabilities
	bounding  capabilities
}

func parseStatus(data []byte) (status, error) {
	var out status
	for s := bufio.NewScanner(bytes.NewReader(data)); s.Scan(); {
		key, value, _ := strings.Cut(s.Text(), ":")
		var into *capabilities
		switch key {
		case "CapEff":
			into = &out.effective
		case "CapBnd":
			into = &out.bounding
		default:
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		if err != nil {
			return status{}, fmt.Errorf("reading /proc/self/status: unexpected line %q", s.Text())
		}
		*into = capabilities(n)
	}
	return out, nil
}

// checkPrivileged finds out whether the container was started with --privileged. Some hosts
// withhold a few capabilities even then (CAP_SYS_RESOURCE, CAP_SYS_TIME), so only indispensable
// ones count.
func checkPrivileged(s status, mounts []mount) error {
	var missing []string
	for _, c := range []struct {
		number int
		name   string
	}{
		{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN"},
		{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"},
		{unix.CAP_SYS_PTRACE, "CAP_SYS_PTRACE"},
		{unix.CAP_MKNOD, "CAP_MKNOD"},
	} {
		if !s.effective.has(c.number) {
			missing = append(missing, c.name)
		}
	}
	// Docker makes these read-only for containers that are not privileged, whatever capabilities
	// they have.
	for _, point := range []string{"/proc/sys", "/sys", "/sys/fs/cgroup"} {
		if m, ok := at(mounts, point); ok && m.readOnly() {
			missing = append(missing, "a writable "+point)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return errors.New("this container needs more privileges (" + strings.Join(missing, ", ") + "): start it with `docker run --privileged …`")
}
