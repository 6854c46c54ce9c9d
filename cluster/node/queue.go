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
	"github.com/dind-cluster/dind-cluster/internal/kubeapi"
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

// joinGroup makes a socket the first one of a group of listening sockets that share a port. What comes from 127.0.0.1 goes to
// the second one, if there is one, and everything else to the first, rather than to either at random (bpf(4) and
// SO_ATTACH_REUSEPORT_CBPF in socket(7)).
func joinGroup(fd int) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return err
	}
	const (
		source   = 0xfff00000 + 12 // SKF_NET_OFF, and the place of the source address in an IPv4 header
		loopback = 127<<24 | 1
	)
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: source},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: loopback, Jf: 1},
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

// queueAgain keeps what a control plane's kubelet asks its API server waiting until the server is ready again, after a restart
// of the node.
//
// Not from the beginning: a kubelet that finds volumes of pods on the disk asks for its Node before it mounts anything
// (updateReconstructedFromNodeStatus in
// https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/kubelet/volumemanager/reconciler/reconstruct.go), and has to be
// refused to go on and start the API server.
func (n *node) queueAgain(ctx context.Context) error {
	manifest, err := os.ReadFile(filepath.Join(manifestsDir, "kube-apiserver.yaml"))
	if err != nil || !strings.Contains(string(manifest), kubeadm.SharePort) {
		return nil // somebody has changed it: it could not listen beside the queue
	}
	if err := waitForProcess(ctx, "kube-apiserver"); err != nil {
		return err
	}
	if n, err := listeners("/proc/net", v1alpha1.APIServerPort); n > 0 || err != nil {
		return err // it serves already
	}
	q, err := openQueue(ctx, v1alpha1.APIServerPort)
	if err != nil {
		return err
	}
	defer q.Close()
	if err := q.waitForSecond(ctx); err != nil {
		return err
	}
	kubelet := n.kubelet()
	kubelet.Server = ownServer
	api, err := kubeapi.New(kubelet)
	if err != nil {
		return err
	}
	return api.WaitFor(ctx, "/readyz")
}
