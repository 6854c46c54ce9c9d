package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestMode(t *testing.T) {
	const (
		hint   = ":KUBE-IPTABLES-HINT - [0:0]"
		canary = ":KUBE-KUBELET-CANARY - [0:0]"
		rule   = "-A INPUT -j ACCEPT"
	)
	for _, c := range []struct {
		name        string
		nft, legacy string // what iptables-save prints; "fail" lets it fail
		tables      string
		want        string
	}{
		{"empty namespace", "", "", "", nft},
		{"kubelet in nft", hint, rule, "mangle", nft},
		{"kubelet in legacy", rule + "\n" + rule, hint, "mangle", legacy},
		{"old kubelet in legacy", "", canary, "mangle", legacy},
		{"more legacy rules", rule, rule + "\n" + rule, "filter", legacy},
		{"as many rules", rule, rule, "filter", nft},
		{"no legacy tables: not asked", "", hint, "", nft},
		{"no nft in the kernel", "fail", rule, "filter", legacy},
		{"neither works", "fail", "fail", "filter", nft},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := system{sbin: t.TempDir(), proc: t.TempDir()}
			for mode, text := range map[string]string{nft: c.nft, legacy: c.legacy} {
				script := "#!/bin/sh\ncat <<'E'\n" + text + "\nE\n"
				if text == "fail" {
					script = "#!/bin/sh\nexit 1\n"
				}
				if err := os.WriteFile(s.program(mode), []byte(script), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(filepath.Join(s.proc, "ip_tables_names"), []byte(c.tables), 0o644); err != nil {
				t.Fatal(err)
			}
			if got := s.mode(); got != c.want {
				t.Errorf("mode is %s, want %s", got, c.want)
			}
		})
	}
}

func TestLink(t *testing.T) {
	s := system{sbin: t.TempDir()}
	if err := os.Symlink("iptables-wrapper", filepath.Join(s.sbin, "iptables")); err != nil {
		t.Fatal(err)
	}
	s.link(s.program(legacy))
	entries, err := os.ReadDir(s.sbin)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != len(names) {
		t.Errorf("%d entries, want %d", len(entries), len(names))
	}
	for _, name := range names {
		if target, err := os.Readlink(filepath.Join(s.sbin, name)); err != nil || target != "xtables-legacy-multi" {
			t.Errorf("%s points to %q (%v)", name, target, err)
		}
	}
}
