package node

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// In a network namespace of its own the kernel hands connections over, as in a node.
func TestQueue(t *testing.T) {
	// The thread is never unlocked, so it ends with the test and no other goroutine gets its namespace.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skip(err)
	}
	if err := setUpLoopback("192.0.2.1", "2001:db8::1"); err != nil {
		t.Fatal(err)
	}
	// /proc/net is that of the process's first thread.
	own := fmt.Sprintf("/proc/self/task/%d/net", unix.Gettid())
	handOver := true
	if err := os.WriteFile("/proc/sys/net/ipv4/tcp_migrate_req", []byte("1"), 0); err != nil {
		t.Logf("an older kernel: %v", err)
		handOver = false
	}
	const port = 6443
	q, err := openQueue(t.Context(), port)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := listeners(own, port); n != 1 || err != nil {
		t.Errorf("%d sockets, %v, want the queue's", n, err)
	}
	dial := func(address string) net.Conn {
		t.Helper()
		conn, err := net.DialTimeout("tcp", net.JoinHostPort(address, strconv.Itoa(port)), 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintln(conn, "hello"); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	answer := func(conn net.Conn) string {
		text, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil {
			return err.Error()
		}
		return text
	}
	var waiting []net.Conn
	for range 10 {
		waiting = append(waiting, dial("192.0.2.1"))
	}
	// As the API server does it with SharePort.
	share := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			if err := unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
				t.Error(err)
			}
		})
	}}
	server, err := share.Listen(context.Background(), "tcp", fmt.Sprintf("0.0.0.0:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if n, err := listeners(own, port); n != 2 || err != nil {
		t.Errorf("%d sockets, %v, want the queue's and the server's", n, err)
	}
	go func() {
		for {
			conn, err := server.Accept()
			if err != nil {
				return
			}
			go func() {
				if text, err := bufio.NewReader(conn).ReadString('\n'); err == nil {
					fmt.Fprint(conn, text)
				}
			}()
		}
	}()
	// The node's runner and the server itself get through, others wait.
	for range 10 {
		for _, own := range []string{"127.0.0.1", "::1"} {
			if got := answer(dial(own)); got != "hello\n" {
				t.Errorf("from %s: %q", own, got)
			}
		}
		waiting = append(waiting, dial("192.0.2.1"), dial("2001:db8::1"))
	}
	if err := waiting[0].SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if got := answer(waiting[0]); got == "hello\n" {
		t.Error("a connection has not waited")
	}
	if err := waiting[0].SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	for i, conn := range waiting {
		if got := answer(conn); handOver && got != "hello\n" {
			t.Errorf("connection %d gets %q after the queue", i, got)
		}
	}
	for _, address := range []string{"127.0.0.1", "::1", "192.0.2.1", "2001:db8::1"} {
		if got := answer(dial(address)); got != "hello\n" {
			t.Errorf("after the queue, from %s: %q", address, got)
		}
	}
}

func TestListeners(t *testing.T) {
	dir := t.TempDir()
	const heading = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
	// 6443 is 192B. There is no tcp6.
	text := heading +
		"   0: 00000000:192B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1\n" +
		"   1: 0100007F:192B 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 2 1\n" +
		"   2: 0100007F:0944 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 3 1\n"
	if err := os.WriteFile(filepath.Join(dir, "tcp"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if n, err := listeners(dir, 6443); n != 1 || err != nil {
		t.Errorf("got %d, %v, want 1", n, err)
	}
}

func TestWaitForProcess(t *testing.T) {
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	if err := waitForProcess(t.Context(), string(comm[:len(comm)-1])); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*queuePoll)
	defer cancel()
	if err := waitForProcess(ctx, "no such one"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestRemoveStaleVolumes(t *testing.T) {
	dir := t.TempDir()
	pods, done := filepath.Join(dir, "pods"), filepath.Join(dir, "done")
	config := filepath.Join(pods, "a", "volumes", "kubernetes.io~configmap", "config")
	data := filepath.Join(pods, "b", "volumes", "kubernetes.io~empty-dir", "data")
	if err := os.MkdirAll(config, 0o755); err != nil {
		t.Fatal(err)
	}
	if others, err := removeStaleVolumes(pods, done); others || err != nil {
		t.Errorf("got %t, %v, want no others", others, err)
	}
	if _, err := os.Stat(config); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the ConfigMap is still there: %v", err)
	}
	// Again in the same start, when pods run: nothing is touched.
	for _, path := range []string{config, data} {
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if others, err := removeStaleVolumes(pods, done); !others || err != nil {
		t.Errorf("got %t, %v, want others", others, err)
	}
	if _, err := os.Stat(config); err != nil {
		t.Error(err)
	}
	if err := os.Remove(done); err != nil {
		t.Fatal(err)
	}
	if others, err := removeStaleVolumes(pods, done); !others || err != nil {
		t.Errorf("got %t, %v, want others", others, err)
	}
	if _, err := os.Stat(data); err != nil {
		t.Error(err)
	}
}

// setUpLoopback brings the loopback interface up and adds two addresses to it (netdevice(7)). There may be no ip(8).
func setUpLoopback(ipv4, ipv6 string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	up, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	up.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, up); err != nil {
		return fmt.Errorf("lo up: %w", err)
	}
	alias, err := unix.NewIfreq("lo:1")
	if err != nil {
		return err
	}
	if err := alias.SetInet4Addr(netip.MustParseAddr(ipv4).AsSlice()); err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFADDR, alias); err != nil {
		return fmt.Errorf("adding %s: %w", ipv4, err)
	}
	six, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(six)
	request := struct { // in6_ifreq of linux/ipv6.h
		address      [16]byte
		prefixLength uint32
		index        int32
	}{netip.MustParseAddr(ipv6).As16(), 128, 1}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(six), unix.SIOCSIFADDR, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return fmt.Errorf("adding %s: %w", ipv6, errno)
	}
	return nil
}
