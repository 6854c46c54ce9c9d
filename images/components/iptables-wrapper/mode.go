package main

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	nft    = "nft"
	legacy = "legacy"
)

// names are those under which the programs are called.
var names = []string{
	"iptables", "iptables-save", "iptables-restore",
	"ip6tables", "ip6tables-save", "ip6tables-restore",
}

// hints are chains in the mangle table by which the kubelet shows its mode: since 1.24, and before.
var hints = []string{":KUBE-IPTABLES-HINT ", ":KUBE-KUBELET-CANARY "}

// system is where programs and the kernel's lists are.
type system struct{ sbin, proc string }

// program is the multi-call program of a mode.
func (s system) program(mode string) string {
	return filepath.Join(s.sbin, "xtables-"+mode+"-multi")
}

// mode finds the mode that the network namespace uses: the kubelet's, else the one with more rules, else nft.
func (s system) mode() string {
	nftHint, nftRules := s.look(nft)
	if nftHint {
		return nft
	}
	if !s.legacyInUse() {
		return nft
	}
	legacyHint, legacyRules := s.look(legacy)
	if legacyHint || legacyRules > nftRules {
		return legacy
	}
	return nft
}

// legacyInUse reports whether there are any legacy tables. Asking the legacy program would create them.
func (s system) legacyInUse() bool {
	for _, list := range []string{"ip_tables_names", "ip6_tables_names"} {
		if text, err := os.ReadFile(filepath.Join(s.proc, list)); err == nil && len(bytes.TrimSpace(text)) > 0 {
			return true
		}
	}
	return false
}

// look reads the rules of one mode. A mode whose program fails has none.
func (s system) look(mode string) (hint bool, rules int) {
	for _, save := range []string{"iptables-save", "ip6tables-save"} {
		cmd := exec.Command(s.program(mode))
		cmd.Args = []string{save}
		out, err := cmd.Output()
		if err != nil {
			continue
		}
		lines := bufio.NewScanner(bytes.NewReader(out))
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			line := lines.Text()
			if strings.HasPrefix(line, "-") {
				rules++
			}
			for _, h := range hints {
				hint = hint || strings.HasPrefix(line, h)
			}
		}
	}
	return hint, rules
}

// link makes all names point to a program. If that fails, because the root is read-only, each call finds out anew.
func (s system) link(program string) {
	for _, name := range names {
		path := filepath.Join(s.sbin, name)
		temporary, err := os.MkdirTemp(s.sbin, ".link")
		if err != nil {
			return
		}
		fresh := filepath.Join(temporary, name)
		if os.Symlink(filepath.Base(program), fresh) == nil {
			_ = os.Rename(fresh, path)
		}
		_ = os.RemoveAll(temporary)
	}
}
