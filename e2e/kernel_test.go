package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// testKernel uses what machines lack that run tests, and what some specs and settings of Kubernetes
// need: dummy links, nftables' queues, IPVS, SCTP, NFS and iSCSI. It is for a machine of the test's
// own.
func testKernel(ctx context.Context, t *testing.T) {
	for name, f := range map[string]func(context.Context, *testing.T) error{
		"dummy": func(ctx context.Context, t *testing.T) error {
			return sh(ctx, `ip link add e2e-dummy type dummy && ip link delete e2e-dummy`)
		},
		"nftables' queue": func(ctx context.Context, t *testing.T) error {
			return sh(ctx, `nft 'table inet e2e { chain c { type filter hook input priority 0; tcp dport 9 queue to 5; }; }' && nft delete table inet e2e`)
		},
		"IPVS": checkIPVS,
		"SCTP": checkSCTP,
		"NFS":  checkNFS,
		"iSCSI": func(ctx context.Context, t *testing.T) error {
			return sh(ctx, `cd /sys/kernel/config
				mountpoint -q . || mount -t configfs none "$PWD"
				cd "$PWD/target"
				mkdir iscsi iscsi/iqn.2026-11.test:e2e
				rmdir iscsi/iqn.2026-11.test:e2e iscsi`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
			defer cancel()
			if err := f(ctx, t); err != nil {
				out, _ := exec.Command("sh", "-c", "dmesg | tail -n 30").Output()
				t.Errorf("%v\nthe kernel's last messages:\n%s", err, out)
			}
		})
	}
}

func sh(ctx context.Context, script string) error {
	if out, err := exec.CommandContext(ctx, "sh", "-euc", script).CombinedOutput(); err != nil {
		return errors.Join(err, errors.New(strings.TrimSpace(string(out))))
	}
	return nil
}

// checkIPVS makes a virtual service, by the interface that ipvsadm falls back to (struct
// ip_vs_service_user).
func checkIPVS(_ context.Context, t *testing.T) error {
	const add, flush = 64 + 1024 + 64 + 2, 64 + 1024 + 64 + 5
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	service := struct {
		Protocol, _             uint16
		Address                 [4]byte
		Port                    [2]byte
		_                       uint16
		Mark                    uint32
		Scheduler               [16]byte
		Flags, Timeout, Netmask uint32
	}{Protocol: unix.IPPROTO_TCP, Address: [4]byte{127, 0, 0, 1}, Port: [2]byte{0x1f, 0x90}, Netmask: ^uint32(0)}
	copy(service.Scheduler[:], "rr")
	var b bytes.Buffer
	if err := binary.Write(&b, binary.NativeEndian, service); err != nil {
		return err
	}
	if err := unix.SetsockoptString(fd, unix.IPPROTO_IP, add, b.String()); err != nil {
		return err
	}
	defer unix.SetsockoptString(fd, unix.IPPROTO_IP, flush, "")
	table, err := os.ReadFile("/proc/net/ip_vs")
	if err == nil && !strings.Contains(string(table), "TCP  7F000001:1F90 rr") {
		t.Errorf("the service is not in the table:\n%s", table)
	}
	return err
}

// checkSCTP sends a word from one socket to another.
func checkSCTP(_ context.Context, t *testing.T) error {
	socket := func() int {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP)
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	server, client := socket(), socket()
	defer unix.Close(server)
	defer unix.Close(client)
	if err := unix.Bind(server, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return err
	}
	if err := unix.Listen(server, 1); err != nil {
		return err
	}
	address, err := unix.Getsockname(server)
	if err != nil {
		return err
	}
	if err := unix.Connect(client, address); err != nil {
		return err
	}
	conn, _, err := unix.Accept(server)
	if err != nil {
		return err
	}
	defer unix.Close(conn)
	if _, err := unix.Write(client, []byte("word")); err != nil {
		return err
	}
	got := make([]byte, 10)
	n, err := unix.Read(conn, got)
	if err == nil && string(got[:n]) != "word" {
		t.Errorf("got %q", got[:n])
	}
	return err
}

// checkNFS mounts a directory that the kernel itself serves. What rpc.mountd would answer the
// kernel's questions with is written beforehand: who the client is, and what it may see.
func checkNFS(ctx context.Context, t *testing.T) error {
	dir := t.TempDir()
	export, mount := filepath.Join(dir, "export"), filepath.Join(dir, "mount")
	for _, d := range []string{export, mount, "/var/lib/nfs/v4recovery"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	// fsid=0, without subtree checks, asynchronous, from any port: 0x2412.
	return sh(ctx, `export=`+export+` mount=`+mount+`
		mountpoint -q /proc/fs/nfsd || mount -t nfsd nfsd /proc/fs/nfsd
		cd /proc/net/rpc
		echo "nfsd 127.0.0.1 2147483647 e2e" >auth.unix.ip/channel
		echo "e2e $export 2147483647 9234 65534 65534 0" >nfsd.export/channel
		echo "e2e 1 \\x00000000 2147483647 $export" >nfsd.fh/channel
		cd /proc/fs/nfsd
		echo "-3 +4" >versions
		# Before this time, in seconds, is up, clients could still come back after a restart, and no client may write.
		echo 10 >nfsv4gracetime
		echo "tcp 2049" >portlist
		echo 1 >threads
		trap 'umount "$mount" || :; echo 0 >threads' EXIT
		mount --internal-only -t nfs4 -o vers=4.2,addr=127.0.0.1,clientaddr=127.0.0.1 127.0.0.1:/ "$mount"
		echo word >"$mount/file"
		test "$(cat "$export/file")" = word`)
}
