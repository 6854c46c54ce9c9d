package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/cluster/kubeadm"
	"github.com/dind-cluster/dind-cluster/cluster/paths"
	"golang.org/x/sys/unix"
)

// ownServer is where a control plane's runner reaches the node's API server, past its queue.
const ownServer = "https://127.0.0.1:6443"

// queuePoll is the pause between two looks at what the kernel has no event for: sockets and processes.
const queuePoll = 20 * time.Millisecond

// queue keeps connections to the node's API server waiting until it serves, where they would be refused.
//
// The node's kubelet starts the API server, so it comes first, and what it asks for is refused again and again. It tries
// after ever longer pauses: to register the node after 3.1, 6.3 and 12.7 seconds (registerWithAPIServer in
// https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/kubelet/kubelet_node_status.go), to list its pods likewise
// (defaultBackoffInit in https://github.com/kubernetes/client-go/blob/v0.37.2/tools/cache/reflector.go). A server that
// answers meanwhile waits for the kubelet for as long again as it took to start.
//
// A queue is a socket which listens at the API server's port and never accepts: the kernel completes connections and keeps what
// they send. The API server's own socket (--permit-port-sharing, SO_REUSEPORT) joins the same group. When the queue is closed,
// the kernel hands its connections over (net.ipv4.tcp_migrate_req, Linux 5.14); an older one resets them, and the kubelet,
// which has waited in its first attempt, makes its second one at once.
type queue struct{ net.Listener }

// openQueue opens the queue before the API server at a port.
func openQueue(ctx context.Context, port int) (*queue, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) { err = joinGroup(int(fd)) }), err)
	}}
	// As the API server listens by default: sockets of one group have one address.
	l, err := config.Listen(ctx, "tcp", "0.0.0.0:"+strconv.Itoa(port))
	if err != nil {
		return nil, fmt.Errorf("keeping connections to the API server waiting: %w", err)
	}
	return &queue{l}, nil
}

// joinGroup makes a socket the first one of a group of listening sockets that share a port. What comes from 127.0.0.1 and ::1,
// the node's runner and the API server itself, goes to the second one, if there is one, and everything else to the first,
// rather than to either at random (SO_ATTACH_REUSEPORT_CBPF in socket(7)).
func joinGroup(fd int) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return err
	}
	const ip = 0xfff00000 // SKF_NET_OFF: the packet's IP header
	load := func(size uint16, offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | size | unix.BPF_ABS, K: ip + offset}
	}
	equal := func(k uint32, yes, no uint8) unix.SockFilter { // and how many instructions to skip
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jt: yes, Jf: no}
	}
	filter := []unix.SockFilter{
		load(unix.BPF_B, 0), // the version
		{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: 0xf0},
		equal(0x60, 2, 0),
		load(unix.BPF_W, 12), // the source of IPv4
		equal(127<<24|1, 4, 5),
		load(unix.BPF_W, 8), // the beginning of the source of IPv6, and its end
		equal(0, 0, 3),
		load(unix.BPF_W, 20),
		equal(1, 0, 1),
		{Code: unix.BPF_RET | unix.BPF_K, K: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
}

// waitForSecond waits until another socket listens at the queue's port. Before, a connection from 127.0.0.1 would get into the
// queue like any other.
func (q *queue) waitForSecond(ctx context.Context) error {
	port := q.Addr().(*net.TCPAddr).Port
	return poll(ctx, func() (bool, error) {
		n, err := listeners("/proc/net", port)
		return n > 1, err
	})
}

// listeners counts the TCP sockets that listen at a port (tcp and tcp6 in proc_pid_net(5)).
func listeners(dir string, port int) (int, error) {
	const listening = "0A" // https://github.com/torvalds/linux/blob/v6.12/include/net/tcp_states.h
	n, suffix := 0, fmt.Sprintf(":%04X", port)
	for _, name := range []string{"tcp", "tcp6"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // a kernel without IPv6
		}
		if err != nil {
			return 0, err
		}
		for line := range strings.Lines(string(data)) {
			if fields := strings.Fields(line); len(fields) > 3 && fields[3] == listening && strings.HasSuffix(fields[1], suffix) {
				n++
			}
		}
	}
	return n, nil
}

// waitForProcess waits until a process of a name (comm in proc_pid_comm(5)) runs.
func waitForProcess(ctx context.Context, name string) error {
	return poll(ctx, func() (bool, error) {
		files, err := filepath.Glob("/proc/[0-9]*/comm")
		for _, file := range files {
			if data, err := os.ReadFile(file); err == nil && strings.TrimSuffix(string(data), "\n") == name {
				return true, nil
			}
		}
		return false, err
	})
}

// poll calls f until it returns true or an error.
func poll(ctx context.Context, f func() (bool, error)) error {
	for {
		if ok, err := f(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(queuePoll):
		}
	}
}

// queueAgain keeps what a control plane's kubelet asks its API server waiting after a restart of the node, until the server
// listens. It starts the kubelet.
//
// A kubelet that finds volumes of pods on the disk asks for its Node before it mounts any other (updateReconstructedFromNodeStatus in
// https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/kubelet/volumemanager/reconciler/reconstruct.go), and has to be
// refused to go on and start the API server. Then there is no queue before it does.
func (n *node) queueAgain(ctx context.Context, start func() error) error {
	manifest, err := os.ReadFile(filepath.Join(manifestsDir, "kube-apiserver.yaml"))
	if err != nil || !strings.Contains(string(manifest), kubeadm.SharePort) {
		return start() // somebody has changed it: it could not listen beside the queue
	}
	left, err := removeStaleVolumes(kubeletPods, paths.Run+"/resumed")
	if err != nil {
		return err
	}
	if left {
		if err := start(); err != nil {
			return err
		}
		if err := waitForProcess(ctx, "kube-apiserver"); err != nil {
			return err
		}
	}
	q, err := openQueue(ctx, v1alpha1.APIServerPort)
	if left && errors.Is(err, unix.EADDRINUSE) {
		// The kernel refuses a socket with a filter beside another one: the API server has been sooner.
		return nil
	}
	if err != nil {
		return err
	}
	defer q.Close()
	if !left {
		if err := start(); err != nil {
			return err
		}
	}
	return q.waitForSecond(ctx)
}

// kubeletPods is where the kubelet keeps what pods have.
const kubeletPods = "/var/lib/kubelet/pods"

// removeStaleVolumes removes the volumes of pods which the kubelet makes anew whenever it has not mounted them itself, as after a
// restart of the node, and reports whether there are others. It does so once for each start of the node, and creates a file
// to know.
func removeStaleVolumes(pods, done string) (others bool, err error) {
	f, err := os.OpenFile(done, os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	f.Close()
	all, err := filepath.Glob(filepath.Join(pods, "*", "volumes", "*"))
	for _, path := range all {
		switch filepath.Base(path) {
		case "kubernetes.io~configmap", "kubernetes.io~downward-api", "kubernetes.io~projected", "kubernetes.io~secret":
			err = errors.Join(err, os.RemoveAll(path))
		default:
			others = true
		}
	}
	return others, err
}
