package dpkg_test

import (
	"strings"
	"testing"

	"github.com/dind-cluster/dind-cluster/image/dpkg"
)

func TestCheckRelations(t *testing.T) {
	for name, c := range map[string]struct{ status, want string }{
		"met":               {"Package: a\nVersion: 1\nDepends: b (>= 2), c | d\nPre-Depends: b\n\nPackage: b\nVersion: 2\n\nPackage: d\nVersion: 1\n", ""},
		"missing":           {"Package: a\nVersion: 1\nDepends: b | c (>= 2)\n", "package a needs b or c (>= 2), which is not there"},
		"too old":           {"Package: a\nVersion: 1\nPre-Depends: b (>= 2)\n\nPackage: b\nVersion: 1\n", "needs b (>= 2)"},
		"provided":          {"Package: a\nVersion: 1\nDepends: v, w (= 3)\n\nPackage: b\nVersion: 2\nProvides: v, w (= 3)\n", ""},
		"without a version": {"Package: a\nVersion: 1\nDepends: v (>= 1)\n\nPackage: b\nVersion: 2\nProvides: v\n", "needs v (>= 1)"},
		"conflict":          {"Package: a\nVersion: 1\nConflicts: b\n\nPackage: b\nVersion: 2\n", "package a cannot be together with b: Conflicts b"},
		"breaks older":      {"Package: a\nVersion: 1\nBreaks: b (<< 2)\n\nPackage: b\nVersion: 2\n", ""},
		"own name":          {"Package: a\nVersion: 1\nProvides: v\nConflicts: v\n", ""},
		"unreadable":        {"Package: a\nVersion: 1\nDepends: b (2)\n", "no valid version"},
	} {
		t.Run(name, func(t *testing.T) {
			err := dpkg.CheckRelations(c.status)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}
