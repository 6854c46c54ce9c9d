package entrypoint

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dind-cluster/dind-cluster/cluster/node"
	"github.com/dind-cluster/dind-cluster/cluster/topology"
	"golang.org/x/sys/unix"
)

const socketHeading = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"

func writeFiles(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPrivateNamespaces(t *testing.T) {
	// As the kernel shows the sockets of a container on a network with Docker's DNS, and a
	// connection.
	private := map[string]string{
		"proc/net/tcp": socketHeading + "   0: 0B00007F:8F4D 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0\n" +
			"   1: 020011AC:D431 08080808:0035 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0 100 0 0 10 0\n",
		"proc/net/udp":               socketHeading + "  10: 0B00007F:A1B2 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 3 2 0 0\n",
		"sys/class/net/eth0/address": "02:42:ac:11:00:02\n",
		"hostname":                   "box\n",
	}
	for _, test := range []struct {
		name, hostname string
		add            map[string]string
		want           string
	}{
		{name: "its own", hostname: "box"},
		{name: "the host's network", hostname: "box", add: map[string]string{"proc/sys/net/core/netdev_max_backlog": "1000\n"}, want: "(the host's)"},
		{name: "an engine's network", hostname: "box", add: map[string]string{"sys/class/net/docker0/bridge/stp_state": "0\n"}, want: "bridge docker0"},
		{name: "a server's network", hostname: "box", add: map[string]string{"proc/net/tcp": socketHeading + "   0: 00000000:1F90 00000000:0000 0A 0 0 0 0\n"}, want: "0.0.0.0:8080/tcp"},
		{name: "a server's network, IPv6", hostname: "box", add: map[string]string{
			"proc/net/tcp6": socketHeading + "   0: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 0 0 0 0\n"}, want: "[::1]:8080/tcp6"},
		{name: "a server's network, UDP", hostname: "box", add: map[string]string{"proc/net/udp": socketHeading + "   0: 0100007F:0035 00000000:0000 07 0 0 0 0\n"}, want: "127.0.0.1:53/udp"},
		{name: "the host's name", hostname: "build-server", want: `"build-server" and not its own, "box"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := t.TempDir()
			writeFiles(t, root, private)
			writeFiles(t, root, test.add)
			s := namespaces{proc: filepath.Join(root, "proc"), sys: filepath.Join(root, "sys"), hostnameFile: filepath.Join(root, "hostname"), hostname: test.hostname}
			err := s.checkPrivateNamespaces([]mount{{point: s.hostnameFile}})
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestLoopDevices(t *testing.T) {
	for _, test := range []struct {
		maxPart string
		minor   uint32
	}{{"", 255}, {"0\n", 255}, {"15\n", 255 << 4}} {
		dev, maxPart := t.TempDir(), filepath.Join(t.TempDir(), "max_part")
		if test.maxPart != "" {
			writeFiles(t, filepath.Dir(maxPart), map[string]string{"max_part": test.maxPart})
		}
		// What is there stays.
		writeFiles(t, dev, map[string]string{"loop3": ""})
		if err := makeLoopDevices(dev, maxPart); os.IsPermission(err) || strings.Contains(strings.ToLower(errText(err)), "not permitted") {
			t.Skip(err)
		} else if err != nil {
			t.Fatal(err)
		}
		var s unix.Stat_t
		if err := unix.Stat(filepath.Join(dev, "loop255"), &s); err != nil || s.Mode&unix.S_IFMT != unix.S_IFBLK || uint64(s.Rdev) != unix.Mkdev(7, test.minor) {
			t.Errorf("max_part %q: loop255: mode %o, device %x, %v", test.maxPart, s.Mode, s.Rdev, err)
		}
		if err := unix.Stat(filepath.Join(dev, "loop-control"), &s); err != nil || s.Mode&unix.S_IFMT != unix.S_IFCHR {
			t.Errorf("loop-control: mode %o, %v", s.Mode, err)
		}
		if err := unix.Stat(filepath.Join(dev, "loop3"), &s); err != nil || s.Mode&unix.S_IFMT != unix.S_IFREG {
			t.Errorf("loop3: mode %o, %v", s.Mode, err)
		}
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestTaskLimit(t *testing.T) {
	for _, test := range []struct {
		files map[string]string
		nodes int
		warns bool
	}{
		{map[string]string{"pids.max": "max\n"}, 3, false},
		{map[string]string{"pids.max": "9312\n"}, 3, true},
		{map[string]string{"pids.max": "9312\n"}, 1, false},
		{map[string]string{"pids/pids.max": "max\n"}, 3, false},
		{map[string]string{"pids/pids.max": "500\n"}, 1, true},
		{nil, 3, false},
	} {
		dir := t.TempDir()
		writeFiles(t, dir, test.files)
		var out bytes.Buffer
		if err := warnOfTaskLimit(&out, dir, test.nodes); err != nil {
			t.Error(err)
		}
		if warned := strings.Contains(out.String(), "--pids-limit 1000000"); warned != test.warns {
			t.Errorf("%+v: said %q", test, out.String())
		}
	}
}

func TestDeadlines(t *testing.T) {
	dir := t.TempDir()
	if err := writeDeadlines(dir, 90*time.Second); err != nil {
		t.Fatal(err)
	}
	for unit, want := range map[string]string{"docker": "JobTimeoutSec=90\n", "dind-cluster": "JobTimeoutSec=150\n"} {
		got, err := os.ReadFile(filepath.Join(dir, unit+".service.d", "timeout.conf"))
		if err != nil || string(got) != "[Unit]\n"+want {
			t.Errorf("%s: got %q, %v, want %q", unit, got, err, want)
		}
	}
}

func TestLimitFiles(t *testing.T) {
	config, units := t.TempDir(), t.TempDir()
	path := filepath.Join(units, "containerd.service.d", "nofile.conf")
	if err := limitFiles(config, units); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("a limit without a plan: %v", err)
	}
	for soft, want := range map[int]string{1024: "1024:524288", 1 << 20: "1048576:1048576"} {
		c := node.Config{Topology: topology.Topology{NoFile: soft}}
		if err := c.Write(config); err != nil {
			t.Fatal(err)
		}
		if err := limitFiles(config, units); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != "[Service]\nLimitNOFILE="+want+"\n" {
			t.Errorf("got %q, %v, want %s", got, err, want)
		}
	}
}
