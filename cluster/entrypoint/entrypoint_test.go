package entrypoint

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/containerd/cgroups/v3"
)

func TestParseMountinfo(t *testing.T) {
	text := `22 27 0:21 / /proc rw,relatime shared:5 - proc proc rw
31 23 0:28 / /sys/fs/cgroup rw,nosuid - tmpfs  rw,mode=755
36 31 0:33 /docker/12ab /sys/fs/cgroup/memory rw,relatime master:9 shared:3 - cgroup cgroup rw,memory
40 27 254:0 /a\040b /mnt/c\134d ro - ext4 /dev/vda rw,discard
`
	got, err := parseMountinfo(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	want := []mount{
		{"/", "/proc", "rw,relatime", "proc", "rw"},
		{"/", "/sys/fs/cgroup", "rw,nosuid", "tmpfs", "rw,mode=755"},
		{"/docker/12ab", "/sys/fs/cgroup/memory", "rw,relatime", "cgroup", "rw,memory"},
		{"/a b", `/mnt/c\d`, "ro", "ext4", "rw,discard"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if got[0].readOnly() || !got[3].readOnly() {
		t.Error("readOnly is wrong")
	}
	if m, ok := at(got, "/proc"); !ok || m.fsType != "proc" {
		t.Errorf("at /proc: %+v, %v", m, ok)
	}
	if _, err := parseMountinfo(strings.NewReader("22 27 0:21 / /proc rw\n")); err == nil {
		t.Error("no error for a short line")
	}
}

// The kernel leaves blanks that are not ASCII as they are, in the middle of a field.
func TestMountinfoNoBreakSpace(t *testing.T) {
	got, err := parseMountinfo(strings.NewReader("36 31 0:33 / /mnt/a\u00a0b rw - tmpfs x rw\n"))
	if err != nil || len(got) != 1 || got[0].point != "/mnt/a\u00a0b" {
		t.Errorf("got %+v, %v", got, err)
	}
}

func FuzzParseMountinfo(f *testing.F) {
	f.Add(`36 31 0:33 /docker\040x /sys rw master:9 - cgroup cgroup rw,memory`)
	// As the kernel escapes (show_mountinfo in fs/proc_namespace.c).
	escape := strings.NewReplacer(" ", `\040`, "\t", `\011`, "\n", `\012`, `\`, `\134`).Replace
	f.Fuzz(func(t *testing.T, text string) {
		mounts, err := parseMountinfo(strings.NewReader(text))
		if err != nil || strings.Contains(text, "\r") {
			return
		}
		var printed strings.Builder
		for _, m := range mounts {
			fmt.Fprintf(&printed, "1 1 0:1 %s %s %s - %s x %s\n", escape(m.root), escape(m.point), m.options, m.fsType, m.superOptions)
		}
		again, err := parseMountinfo(strings.NewReader(printed.String()))
		if err != nil || !reflect.DeepEqual(again, mounts) {
			t.Errorf("%q is printed as %q and read as %+v, %v", text, &printed, again, err)
		}
	})
}

func TestPrivate(t *testing.T) {
	for text, want := range map[string]bool{
		"0::/\n":                            true,
		"0::/system.slice/docker-1.scope\n": false,
		"4:memory:/docker/1\n3:cpu,cpuacct:/docker/1\n1:name=systemd:/docker/1\n0::/\n": false,
		"4:memory:/\n1:name=systemd:/\n0::/\n":                                          true,
		"4:memory:/\n1:name=systemd:/\n":                                                true,
	} {
		controllers, unified, err := cgroups.ParseCgroupFromReaderUnified(strings.NewReader(text))
		if err != nil || private(controllers, unified) != want {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestFilterControllers(t *testing.T) {
	got := filterControllers([]byte("#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t1\t1\t1\nmisc\t9\t1\t1\nmemory\t4\t21\t1\n"), map[string]bool{"cpu": true, "memory": true, "rw": true})
	want := "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t1\t1\t1\nmemory\t4\t21\t1\n"
	if string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestCheckPrivileged(t *testing.T) {
	rw := []mount{{point: "/sys", options: "rw"}, {point: "/sys/fs/cgroup", options: "rw"}}
	ro := []mount{{point: "/sys", options: "ro,nosuid"}, {point: "/proc/sys", options: "ro"}}
	for _, test := range []struct {
		name   string
		status string
		mounts []mount
		want   string
	}{
		{"privileged", "CapEff:\t000001ffffffffff\n", rw, ""},
		{"privileged without CAP_SYS_RESOURCE", "CapEff:\t000001fffeffffff\n", rw, ""},
		{"default", "CapEff:\t00000000a80425fb\n", ro, "CAP_SYS_ADMIN, CAP_NET_ADMIN, CAP_SYS_PTRACE, a writable /proc/sys, a writable /sys): start it with `docker run --privileged"},
		{"all capabilities only", "CapEff:\t000001ffffffffff\n", ro, "(a writable /proc/sys, a writable /sys)"},
	} {
		s, err := parseStatus([]byte(test.status))
		if err != nil {
			t.Fatal(err)
		}
		err = checkPrivileged(s, test.mounts)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: got %v, want %q", test.name, err, test.want)
		}
	}
	if _, err := parseStatus([]byte("CapEff: xyz\n")); err == nil {
		t.Error("no error for a broken status")
	}
}

func TestContainerdConfig(t *testing.T) {
	template := filepath.Join("..", "..", "images", "node", "containerd", "config.toml")
	data, err := os.ReadFile(template)
	if err != nil {
		t.Fatal(err)
	}
	same, err := adaptContainerdConfig(data, true)
	if err != nil || string(same) != string(data) {
		t.Errorf("changed although the container may raise its limits: %v", err)
	}
	got, err := adaptContainerdConfig(data, false)
	if err != nil || !strings.Contains(string(got), "restrict_oom_score_adj = true\n") {
		t.Errorf("not adapted: %v", err)
	}
	if _, err := adaptContainerdConfig([]byte("version = 3\n"), false); err == nil {
		t.Error("no error for a template without the setting")
	}
}

func TestSystemdArgs(t *testing.T) {
	for v1, want := range map[bool]string{
		false: "/lib/systemd/systemd",
		true:  "/lib/systemd/systemd systemd.unified_cgroup_hierarchy=0 SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1",
	} {
		if got := strings.Join(systemdArgs(v1), " "); got != want {
			t.Errorf("v1=%v: got %q, want %q", v1, got, want)
		}
	}
}
