// Command iptables-wrapper stands in for iptables and its relatives in kube-proxy's image until the first call.
//
// iptables comes in two modes, over two kernel interfaces, whose rules do not see each other: nft and legacy. In the host's
// network namespace kube-proxy has to use the mode of the host. The kubelet leaves a chain there that says which one it
// is. The first call looks for it, makes the names point to the right program, and becomes it.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

func main() {
	s := system{sbin: "/usr/sbin", proc: "/proc/net"}
	program := s.program(s.mode())
	s.link(program)
	args := append([]string{filepath.Base(os.Args[0])}, os.Args[1:]...)
	err := syscall.Exec(program, args, os.Environ())
	fmt.Fprintf(os.Stderr, "iptables-wrapper: starting %s: %v\n", program, err)
	os.Exit(1)
}
