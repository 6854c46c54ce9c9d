package elsewhere

import (
	"encoding/binary"
	"fmt"
	"os"
	"syscall"
	"time"
)

const (
	// surroundings makes a test program change its surroundings and become another program. It is the file that is to tell
	// the time zone, or empty, where the program has no namespaces of its own.
	surroundings = "DIND_CLUSTER_ELSEWHERE"

	hostName = "another-host"
	umask    = 0o077

	capSysAdmin = 21
)

// Main is to be called first by the main function of a test. In the process that is to become Bazel it does not return.
func Main() {
	zone, ok := os.LookupEnv(surroundings)
	if !ok {
		return
	}
	err := become(zone, os.Args[1:])
	fmt.Fprintln(os.Stderr, "elsewhere:", err)
	os.Exit(1)
}

func become(zone string, args []string) error {
	os.Unsetenv(surroundings)
	syscall.Umask(umask)
	if zone != "" {
		if err := syscall.Sethostname([]byte(hostName)); err != nil {
			return fmt.Errorf("set the host name: %w", err)
		}
		if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_SLAVE, ""); err != nil {
			return fmt.Errorf("make mounts private: %w", err)
		}
		// A machine without the file is one without a time zone, which is UTC.
		if _, err := os.Stat("/etc/localtime"); err == nil {
			if err := syscall.Mount(zone, "/etc/localtime", "", syscall.MS_BIND, ""); err != nil {
				return fmt.Errorf("set the time zone: %w", err)
			}
		}
	}
	return fmt.Errorf("start %s: %w", args[0], syscall.Exec(args[0], args, os.Environ()))
}

// otherZone is the offset of a time zone, in seconds east of UTC, where it is another day now than it is here and in UTC,
// or if there is none, than it is here.
func otherZone(now time.Time) int {
	const hour = 3600
	best := 14 * hour
	for _, offset := range []int{14 * hour, -12 * hour} {
		day := now.In(time.FixedZone("", offset)).YearDay()
		if day != now.YearDay() {
			best = offset
			if day != now.UTC().YearDay() {
				break
			}
		}
	}
	return best
}

// zone2TZ is the variable for programs that ask it rather than the file, in POSIX' notation, whose offsets go west.
func zone2TZ(now time.Time) string {
	return fmt.Sprintf("TZ=ELSE%d", -otherZone(now)/3600)
}

// zoneData is a file of a time zone that is always so many seconds east of UTC, in the first version of tzfile(5).
func zoneData(offset int) []byte {
	const abbreviation = "ELSE\x00"
	data := make([]byte, 44, 64)
	copy(data, "TZif")
	binary.BigEndian.PutUint32(data[36:], 1) // types of local time
	binary.BigEndian.PutUint32(data[40:], uint32(len(abbreviation)))
	data = binary.BigEndian.AppendUint32(data, uint32(int32(offset)))
	data = append(data, 0, 0) // no daylight saving time; the first abbreviation
	return append(data, abbreviation...)
}
