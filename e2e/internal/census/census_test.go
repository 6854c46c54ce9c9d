package census

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fakeDocker has the output of each docker command, by its first word.
type fakeDocker map[string]string

func (f fakeDocker) Output(_ context.Context, _ string, args ...string) ([]byte, error) {
	return []byte(f[args[0]]), nil
}

const id = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
const other = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

type machine struct {
	t                     *testing.T
	proc, cgroups, blocks string
}

func (m machine) process(pid, ppid, ns, mountNS, command, cgroup string, mounts ...string) {
	m.t.Helper()
	dir := filepath.Join(m.proc, pid)
	for _, d := range []string{dir, filepath.Join(dir, "ns")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			m.t.Fatal(err)
		}
	}
	for name, content := range map[string]string{
		"stat":      pid + " (odd ) name) S " + ppid + strings.Repeat(" 0", 17) + " 777 0 0\n",
		"status":    "Name:\todd\nPPid:\t" + ppid + "\n",
		"cmdline":   strings.ReplaceAll(command, " ", "\x00") + "\x00",
		"cgroup":    cgroup + "\n",
		"mountinfo": strings.Join(mounts, "\n") + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			m.t.Fatal(err)
		}
	}
	for name, target := range map[string]string{"pid": ns, "mnt": mountNS} {
		if err := os.Symlink(target, filepath.Join(dir, "ns", name)); err != nil {
			m.t.Fatal(err)
		}
	}
}

// file writes a file below /proc, or below /sys/block.
func (m machine) file(path, text string) {
	m.t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text+"\n"), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

func (m machine) setting(name, value string) { m.file(filepath.Join(m.proc, "sys", name), value) }

func (m machine) cgroup(paths ...string) {
	m.t.Helper()
	for _, p := range paths {
		if err := os.MkdirAll(filepath.Join(m.cgroups, p), 0o755); err != nil {
			m.t.Fatal(err)
		}
	}
}

func newMachine(t *testing.T) machine {
	m := machine{t: t, proc: t.TempDir(), cgroups: t.TempDir(), blocks: t.TempDir()}
	m.process("1", "0", "pid:[1]", "mnt:[1]", "init", "0::/", "1 0 8:1 / / rw - ext4 /dev/sda rw")
	if err := os.Symlink("1", filepath.Join(m.proc, "self")); err != nil {
		t.Fatal(err)
	}
	m.cgroup("memory", "user.slice")
	m.setting("kernel/panic", "0")
	m.setting("fs/inode-nr", "4 0")
	m.setting("fs/inotify/max_user_instances", "128")
	m.file(filepath.Join(m.blocks, "loop0/size"), "0")
	return m
}

func (m machine) counter(containers, networks, volumes string) *Counter {
	client := fakeDocker{"ps": containers, "network": networks, "volume": volumes,
		"container": `{"Id":"` + id + `","State":{"Pid":10},
			"GraphDriver":{"Data":{"MergedDir":"/var/lib/docker/overlay2/layer1/merged"}},
			"Mounts":[{"Type":"volume","Name":"volume1"},{"Type":"bind","Name":""}]}`}
	return &Counter{Docker: client, Proc: m.proc, Cgroups: m.cgroups, Blocks: m.blocks}
}

func (m machine) take(containers, networks, volumes string) Census {
	m.t.Helper()
	c, err := m.counter(containers, networks, volumes).Take(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	return c
}

func TestBelongings(t *testing.T) {
	m := newMachine(t)
	m.process("10", "1", "pid:[2]", "mnt:[2]", "systemd", "0::/docker/"+id)
	m.process("11", "10", "pid:[3]", "mnt:[3]", "nested", "0::/docker/"+id+"/docker/x")
	m.process("12", "1", "pid:[9]", "mnt:[9]", "stranger", "0::/")
	got, err := m.counter("", "", "").Of(t.Context(), "box")
	if err != nil {
		t.Fatal(err)
	}
	if want := id + " layer1 volume1 pid:[2] pid:[3]"; strings.Join(got, " ") != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLeaks(t *testing.T) {
	belongings := Belongings{id, "layer1", "volume1", "pid:[2]"}
	for _, test := range []struct {
		name                          string
		change                        func(machine)
		containers, networks, volumes string
		want                          []string
	}{
		{name: "nothing"},
		{name: "container", containers: id + " box (dind-cluster)\n", want: []string{"containers: " + id}},
		{name: "network", networks: "n1 left\n", want: []string{"networks: n1"}},
		{name: "volume", volumes: "volume1 volume\n", want: []string{"volumes: volume1"}},
		{name: "network beside another container", containers: other + " x (y)\n", networks: "n1 theirs\n", volumes: "v theirs\n"},
		{name: "own volume beside another container", containers: other + " x (y)\n", volumes: "volume1 volume\n", want: []string{"volumes: volume1"}},
		{name: "mount", change: func(m machine) {
			m.process("20", "1", "pid:[1]", "mnt:[7]", "dockerd", "0::/", "5 1 0:1 / /var/lib/docker/overlay2/layer1/merged rw - overlay overlay rw")
		}, want: []string{"mounts: mnt:[7] 5"}},
		{name: "other mount", change: func(m machine) {
			m.process("20", "1", "pid:[1]", "mnt:[7]", "dockerd", "0::/", "5 1 0:1 / /var/lib/docker/overlay2/layer2/merged rw - overlay overlay rw")
		}},
		{name: "process of its namespace", change: func(m machine) { m.process("20", "1", "pid:[2]", "mnt:[1]", "kubelet", "0::/") }, want: []string{"processes: 20@777 pid:[2] kubelet"}},
		{name: "its shim", change: func(m machine) {
			m.process("20", "1", "pid:[1]", "mnt:[1]", "containerd-shim-runc-v2 -id "+id, "0::/")
		}, want: []string{"processes: 20@777"}},
		{name: "other process", change: func(m machine) { m.process("20", "1", "pid:[1]", "mnt:[1]", "vi", "0::/") }},
		{name: "its cgroup", change: func(m machine) { m.cgroup("memory/docker/" + id + "/kubepods") }, want: []string{
			"cgroups: /memory/docker/" + id, "cgroups: /memory/docker/" + id + "/kubepods"}},
		{name: "cgroup at the top", change: func(m machine) { m.cgroup("memory/kubelet.slice") }, want: []string{"cgroups: /memory/kubelet.slice"}},
		{name: "kernel setting", change: func(m machine) { m.setting("kernel/panic", "10") }, want: []string{`kernel settings: kernel/panic is "10", was "0"`}},
		{name: "other kernel settings", change: func(m machine) {
			m.setting("fs/inode-nr", "5 0")
			m.setting("fs/inotify/max_user_instances", "8192")
			m.setting("net/netfilter/nf_log/0", "NONE")
		}},
		{name: "loop device", change: func(m machine) { m.file(filepath.Join(m.blocks, "loop0/loop/backing_file"), "/disk.img") }, want: []string{"loop devices: loop0 /disk.img"}},
		{name: "other cgroups", change: func(m machine) {
			m.cgroup("docker/"+other, "user.slice/user-1.slice/session-3.scope", "system.slice/cron.service")
		}, want: nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newMachine(t)
			m.cgroup("memory/docker", "docker", "system.slice")
			before := m.take("", "", "")
			if test.change != nil {
				test.change(m)
			}
			after := m.take(test.containers, test.networks, test.volumes)
			got := Leaks(before, after, belongings)
			if len(got) != len(test.want) {
				t.Fatalf("got %q, want %q (%v)", got, test.want, after)
			}
			for i, w := range test.want {
				if !strings.HasPrefix(got[i], w) {
					t.Errorf("got %q, want %q", got[i], w)
				}
			}
		})
	}
}

func TestString(t *testing.T) {
	c := newMachine(t).take(id+" box (i)\n", "a b\nc d\n", "")
	if got := c.String(); !strings.HasPrefix(got, "1 containers, 2 networks, 0 volumes, ") || !strings.HasSuffix(got, " 1 mounts, 0 loop devices, 1 processes, 3 cgroups, 1 kernel settings") {
		t.Errorf("got %q", got)
	}
}

func TestRouting(t *testing.T) {
	const before = `default via 172.16.0.1 dev eth0
fe80::/64 dev eth0 proto ra expires 1798sec
local fe80::1 dev veth1 table local proto kernel metric 0 pref medium
== iptables-nft
# Generated by iptables-save
*nat
:PREROUTING ACCEPT [12:345]
-A POSTROUTING -j MASQUERADE
-A POSTROUTING -j MASQUERADE
COMMIT
== iptables-legacy
`
	take := func(out string) Census {
		t.Helper()
		m := newMachine(t)
		c := m.counter("", "", "")
		c.Docker, c.Image = fakeDocker{"run": out}, "image"
		census, err := c.Take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return census
	}
	if n := len(take(before)[Routing]); n != 6 {
		t.Errorf("%d lines", n)
	}
	later := strings.NewReplacer("1798sec", "1790sec", "12:345", "13:400").Replace(before)
	if leaks := Leaks(take(before), take(later), nil); len(leaks) != 0 {
		t.Errorf("got %q", leaks)
	}
	more := strings.Replace(later, "COMMIT", "-A POSTROUTING -j MASQUERADE\nCOMMIT", 1)
	more = "10.96.0.0/16 via 10.250.0.2 dev nodes\n" + more
	leaks := Leaks(take(before), take(more), nil)
	if len(leaks) != 2 || !strings.Contains(leaks[0], "iptables-nft*nat -A POSTROUTING -j MASQUERADE (3)") || !strings.Contains(leaks[1], "route 10.96.0.0/16 via 10.250.0.2 dev nodes") {
		t.Errorf("got %q", leaks)
	}
}
