package entrypoint

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// namespaces has the places where the entrypoint looks for signs that others use a namespace of
// this container.
type namespaces struct {
	proc, sys, hostnameFile string
	// hostname is the kernel's (uname(2)).
	hostname string
}

func ownNamespaces() (namespaces, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return namespaces{}, fmt.Errorf("reading the kernel's host name: %w", err)
	}
	return namespaces{proc: "/proc", sys: "/sys", hostnameFile: "/etc/hostname", hostname: unix.ByteSliceToString(name.Nodename[:])}, nil
}

// checkPrivateNamespaces refuses a container that shares a namespace in which it would change
// something for others: its bridge, routes, packet filter and listening sockets would be theirs,
// and so would its host name.
//
// A PID namespace is the container's own if the entrypoint is process 1 of it. The cgroup namespace
// need not be its own (setUpCgroups), and no daemon of the container leaves anything in its IPC
// namespace.
func (s namespaces) checkPrivateNamespaces(mounts []mount) error {
	const network = "this container shares a network namespace (%s), and a cluster would change routes and packet filters there: " +
		"start it without `--network host` and `--network container:…`"
	// The kernel has this setting in its first network namespace only (net_core_table in
	// https://github.com/torvalds/linux/blob/v6.12/net/core/sysctl_net_core.c).
	if _, err := os.Stat(filepath.Join(s.proc, "sys/net/core/netdev_max_backlog")); err == nil {
		return fmt.Errorf(network, "the host's")
	}
	// The engine gives a container interfaces in its networks, and never a bridge.
	bridges, err := filepath.Glob(filepath.Join(s.sys, "class/net/*/bridge"))
	if err != nil {
		return err
	}
	if len(bridges) > 0 {
		return fmt.Errorf(network, "there is the bridge "+filepath.Base(filepath.Dir(bridges[0])))
	}
	// In a namespace of the container's own only Docker's DNS server can be listening at this time.
	listening, err := s.listening()
	if err != nil {
		return err
	}
	if len(listening) > 0 {
		return fmt.Errorf(network, "a program listens at "+listening[0])
	}
	// Only if the engine has mounted a file there: it has the name that the engine gave the
	// container.
	if _, ok := at(mounts, s.hostnameFile); ok {
		data, err := os.ReadFile(s.hostnameFile)
		if err != nil {
			return err
		}
		if name := strings.TrimSpace(string(data)); name != s.hostname {
			return fmt.Errorf("this container has the host name %q and not its own, %q, so it shares a UTS namespace and would rename its owner: start it without `--uts host`", s.hostname, name)
		}
	}
	return nil
}

// States of sockets in /proc/net
// (https://github.com/torvalds/linux/blob/v6.12/include/net/tcp_states.h). A UDP socket without a
// peer is in the second.
const stateListen, stateClose = "0A", "07"

// listening returns where programs listen in the network namespace.
func (s namespaces) listening() ([]string, error) {
	var found []string
	for protocol, state := range map[string]string{"tcp": stateListen, "tcp6": stateListen, "udp": stateClose, "udp6": stateClose} {
		f, err := os.Open(filepath.Join(s.proc, "net", protocol))
		if errors.Is(err, os.ErrNotExist) {
			continue // a kernel without IPv6
		}
		if err != nil {
			return nil, err
		}
		defer f.Close()
		lines := bufio.NewScanner(f)
		lines.Scan() // the heading
		for lines.Scan() {
			fields := strings.Fields(lines.Text())
			if len(fields) < 4 {
				return nil, fmt.Errorf("reading %s: unexpected line %q", f.Name(), lines.Text())
			}
			address, err := parseSocketAddress(fields[1])
			if err != nil {
				return nil, fmt.Errorf("reading %s: %w", f.Name(), err)
			}
			if fields[3] == state && address.Addr() != dockerDNS {
				found = append(found, address.String()+"/"+protocol)
			}
		}
		if err := lines.Err(); err != nil {
			return nil, fmt.Errorf("reading %s: %w", f.Name(), err)
		}
	}
	slices.Sort(found)
	return found, nil
}

// dockerDNS is where Docker answers DNS queries of containers, with sockets in their network
// namespaces.
var dockerDNS = netip.MustParseAddr("127.0.0.11")

// parseSocketAddress reads an address as /proc/net/tcp and its like have them: 32-bit words of the
// machine's byte order, which is little-endian, and the port.
func parseSocketAddress(text string) (netip.AddrPort, error) {
	host, port, _ := strings.Cut(text, ":")
	raw, err := hex.DecodeString(host)
	if err != nil || len(raw)%4 != 0 {
		return netip.AddrPort{}, fmt.Errorf("unexpected address %q", text)
	}
	for word := range slices.Chunk(raw, 4) {
		slices.Reverse(word)
	}
	address, ok := netip.AddrFromSlice(raw)
	n, err := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil {
		return netip.AddrPort{}, fmt.Errorf("unexpected address %q", text)
	}
	return netip.AddrPortFrom(address, uint16(n)), nil
}
