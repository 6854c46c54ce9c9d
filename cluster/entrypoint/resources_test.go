package entrypoint

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestLimitMeminfo(t *testing.T) {
	got, err := limitMeminfo("MemTotal:       16000000 kB\nMemFree:          100000 kB\nSwapTotal:       2000000 kB\nVmallocTotal:   34359738367 kB\nHugePages_Total:       0\n", 1<<30)
	want := "MemTotal:        1048576 kB\nMemFree:          100000 kB\nSwapTotal:             0 kB\nVmallocTotal:   34359738367 kB\nHugePages_Total:       0\n"
	if got != want || err != nil {
		t.Errorf("got %v\n%s\nwant\n%s", err, got, want)
	}
	if _, err := limitMeminfo("MemTotal: much kB\n", 1<<30); err == nil {
		t.Error("no error")
	}
}

func TestCPUList(t *testing.T) {
	var set unix.CPUSet
	for _, i := range []int{0, 3, 64} {
		set.Set(i)
	}
	if got := cpuList(&set); got != "0,3,64" {
		t.Errorf("got %s", got)
	}
}
